// Numbers, spans and times as people read them, in the page's language.

import { language, t } from "./i18n.js";

const formats = new Map();

function number(options) {
  const key = language() + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.NumberFormat(language(), options));
  return formats.get(key);
}

export const NONE = "–";

/** 1,234 */
export const count = (n) => (n === null || n === undefined ? NONE : number({ maximumFractionDigits: 0 }).format(n));

/** 1.2K, 3.4M: always in Latin units, for narrow places. */
export function brief(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return NONE;
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "K"]]) {
    if (Math.abs(n) >= size) {
      const value = n / (unit === "K" ? 1e3 : size);
      return number({ maximumFractionDigits: value < 100 ? 1 : 0 }).format(value) + unit;
    }
  }
  return number({ maximumFractionDigits: Math.abs(n) < 10 && !Number.isInteger(n) ? 1 : 0 }).format(n);
}

/** `share` is 0 to 1. */
export const percent = (share) =>
  share === null || share === undefined || Number.isNaN(share) ? NONE
    : number({ style: "percent", maximumFractionDigits: share > 0 && share < 0.1 ? 1 : 0 }).format(share);

/** 41 ms, 2.4 s */
export function ms(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  if (value < 1000) return `${Math.round(value)} ms`;
  return `${number({ maximumFractionDigits: value < 10000 ? 1 : 0 }).format(value / 1000)} s`;
}

/** Seconds as the largest two units: 1 h 5 min. */
export function span(seconds) {
  const left = Math.max(0, Math.round(seconds));
  const parts = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]];
  const at = parts.findIndex(([size]) => left >= size);
  if (at < 0) return t("unit.second", { n: 0 });
  const [size, unit] = parts[at];
  const next = parts[at + 1];
  const rest = next && Math.floor((left % size) / next[0]);
  const first = t(`unit.${unit}`, { n: Math.floor(left / size) });
  return rest ? `${first} ${t(`unit.${next[1]}`, { n: rest })}` : first;
}

/** How long until `text`, an RFC 3339 time; null when it is over or not stated. */
export function until(text, now = Date.now()) {
  const left = Date.parse(text) - now;
  return left > 0 ? span(left / 1000) : null;
}

/** "5 min ago"; what is younger than two seconds is "now". */
export function ago(text, now = Date.now()) {
  if (!text) return NONE;
  const past = (now - Date.parse(text)) / 1000;
  return past < 2 ? t("time.now") : t("time.ago", { span: span(past) });
}

/** 14:03:27, with the day before it when that is not today. */
export function clock(text) {
  if (!text) return NONE;
  const at = new Date(text);
  const time = at.toLocaleTimeString(language(), { hour12: false });
  return at.toDateString() === new Date().toDateString() ? time
    : `${at.toLocaleDateString(language(), { month: "short", day: "numeric" })} ${time}`;
}

/** The day and the time in full. */
export function moment(text) {
  return text ? new Date(text).toLocaleString(language(), { dateStyle: "medium", timeStyle: "medium", hour12: false }) : NONE;
}

/** The day alone. */
export function day(text) {
  return text ? new Date(text).toLocaleDateString(language(), { dateStyle: "medium" }) : NONE;
}

/** A price; the unit is what the operator wrote the prices in. */
export const cost = (n) => (n ? number({ minimumFractionDigits: 2, maximumFractionDigits: n < 0.01 ? 4 : 2 }).format(n) : NONE);

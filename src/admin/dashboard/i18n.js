// Which language the page speaks, and its words. The browser's language comes first; a choice is remembered.

import { words as en } from "./words_en.js";
import { words as zh } from "./words_zh.js";
import { kept, keep } from "./kept.js";

const TABLES = { en, "zh-CN": zh };
export const LANGUAGES = [["en", "English"], ["zh-CN", "中文"]];

let current = chosen();

function chosen() {
  const wanted = [kept("language"), ...navigator.languages].filter(Boolean);
  for (const one of wanted) {
    if (/^zh/i.test(one)) return "zh-CN";
    if (/^en/i.test(one)) return "en";
  }
  return "en";
}

export const language = () => current;

export function speak(language) {
  current = language in TABLES ? language : "en";
  keep("language", current);
  document.documentElement.lang = current;
}

/** The words of `key`, with `{name}` replaced. A word the table lacks is shown as its key: a test finds those. */
export function t(key, given = {}) {
  const words = TABLES[current][key] ?? en[key] ?? key;
  const text = typeof words === "function" ? words(given) : words;
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in given ? given[name] : whole));
}

/** The words of `prefix.word`, or the word itself where the table knows it not, as of a newer gateway. */
export function word(prefix, value) {
  const key = `${prefix}.${value}`;
  return key in en ? t(key) : String(value ?? "");
}

/** Fills every `data-t` (text) and `data-t-label` (aria-label) of index.html. */
export function translate(root) {
  document.documentElement.lang = current;
  for (const one of root.querySelectorAll("[data-t]")) one.textContent = t(one.dataset.t);
  for (const one of root.querySelectorAll("[data-t-label]")) {
    one.setAttribute("aria-label", t(one.dataset.tLabel));
    one.title = t(one.dataset.tLabel);
  }
}

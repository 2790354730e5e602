// How states, outcomes and empty places are shown, the same on every screen.

import { button, h, icon, mark, put, say } from "./dom.js";
import { explain } from "./dialog.js";
import { t, word } from "./i18n.js";
import { until } from "./format.js";

/** The order in which states are listed: what needs somebody comes first. */
export const STATES = ["needs_login", "unhealthy", "open", "half_open", "cooling", "draining", "unknown", "full", "healthy", "disabled"];
const TONES = {
  healthy: "good", full: "warn", cooling: "warn", half_open: "warn", draining: "warn", open: "bad", unhealthy: "bad",
  needs_login: "bad", disabled: "idle", unknown: "idle",
};
/** These need nobody. */
const FINE = ["healthy", "full", "disabled"];

export const tone = (status) => TONES[status] ?? "idle";
export const fine = (account) => FINE.includes(account.status);

/** A state: its shape and its word. */
export function state(status) {
  return h("span", { class: `state is-${tone(status)} ${status === "healthy" ? "plain" : ""}` },
    icon2(status), h("span", { text: word("state", status) }));
}

function icon2(status) {
  const made = icon("");
  made.firstChild.setAttribute("href", `#s-${status in TONES ? status : "unknown"}`);
  return made;
}

/** What is to be seen of an account's state: when it ends by itself, or since when it is so. */
export function recovery(account, now = Date.now()) {
  const left = account.until && until(account.until, now);
  if (left) return t(account.status === "needs_login" ? "account.tried_in" : "account.back_in", { span: left });
  return null;
}

/** Used of all: a bar, and both numbers. `most` of 0: there is no limit. */
export function meter(cell, used, most) {
  let box = cell.querySelector(".meter");
  if (!box) {
    box = h("div", { class: "meter" }, h("div", { class: "rail" }, h("div", { class: "fill" })), h("span", { class: "figure" }));
    put(cell, box);
  }
  const share = most ? Math.min(1, used / most) : used ? Math.min(1, used / 20) : 0;
  box.classList.toggle("full", Boolean(most) && used >= most);
  const width = `${(share * 100).toFixed(0)}%`;
  const fill = box.querySelector(".fill");
  if (fill.style.width !== width) fill.style.width = width;
  say(box.querySelector(".figure"), most ? `${used} / ${most}` : used);
}

const OUTCOMES = {
  success: "good", client_fault: "idle", client_gone: "idle", rate_limited: "warn", overloaded: "warn",
  model_unavailable: "warn", auth_expired: "warn",
};

/** What an answer meant. */
export const outcome = (name) => h("span", { class: `tag is-${OUTCOMES[name] ?? "bad"}`, text: word("outcome", name) });

/** An answer's status; 0: none was sent. */
export function status(code) {
  const kind = code === 0 || code >= 500 || code === 429 ? "bad" : code >= 400 ? "warn" : "good";
  return h("span", { class: `tag is-${kind}`, text: code === 0 ? t("requests.none_sent") : code });
}

/** Two lines: what it is, and what is to be said of it. Kept and changed in place. */
export function twoLines(cell, first, second, href) {
  let box = cell.querySelector(".two-lines");
  if (!box) {
    box = h("div", { class: "two-lines" }, href ? h("a", {}) : h("span", {}), h("small", {}));
    put(cell, box);
  }
  const [top, below] = box.children;
  if (href) mark(top, "href", href);
  say(top, first);
  say(below, second);
  mark(below, "title", second);
  return box;
}

/** While something is on its way. */
export const bones = (rows = 6) => h("div", { class: "bones", role: "status", "aria-label": t("shell.loading") },
  Array.from({ length: rows }, () => h("i")));

/** Nothing is there: why, and what to do about it. */
export function empty(title, text, ...more) {
  return h("div", { class: "empty" }, h("h2", { text: title }), text && h("p", { text }), more);
}

/** It could not be had. */
export function failed(error, again) {
  return h("div", { class: "empty", role: "alert" }, icon("away"), h("h2", { text: t("error.title") }),
    h("p", { text: explain(error) }), again && button(t("do.again"), again, { picture: "reload" }));
}

/** A field to search with; `act(text)` is called while somebody writes. */
export function search(label, value, act) {
  const input = h("input", { type: "search", placeholder: label, "aria-label": label, value, spellcheck: "false", autocomplete: "off" });
  input.addEventListener("input", () => act(input.value.trim()));
  input.dataset.search = "";
  return h("div", { class: "search" }, icon("search"), input);
}

/** A screen's title and what can be done there. */
export function head(title, ...tools) {
  const small = h("span", { class: "soft" });
  const heading = h("h1", {}, title, " ", small);
  return { el: h("div", { class: "head" }, heading, tools), small };
}

/** A panel with a heading. */
export function panel(title, body, ...tools) {
  return h("section", { class: "panel" }, title && h("header", {}, h("h2", { text: title }), tools), body);
}

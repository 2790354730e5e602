// Which language the page speaks, and its words. The browser's language comes first; a choice is remembered.

import { kept, keep } from "./kept.js";

const TABLES = { en: "./words_en.js", "zh-CN": "./words_zh.js" };
export const LANGUAGES = [["en", "English"], ["zh-CN", "中文"]];

let current = chosen();
let words = await table(current);

async function table(language) {
  return (await import(TABLES[language])).words;
}

function chosen() {
  const wanted = [kept("language"), ...navigator.languages].filter(Boolean);
  for (const one of wanted) {
    if (/^zh/i.test(one)) return "zh-CN";
    if (/^en/i.test(one)) return "en";
  }
  return "en";
}

export const language = () => current;

export async function speak(language) {
  words = await table(language);
  current = language;
  keep("language", current);
}

/** The words of `key`, with `{name}` replaced. A word the table lacks is shown as its key: a test finds those. */
export function t(key, given = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => (name in given ? given[name] : whole));
}

/** The words of `prefix.word`, or the word itself where the table knows it not, as of a newer gateway. */
export function word(prefix, value) {
  const key = `${prefix}.${value}`;
  return key in words ? t(key) : String(value ?? "");
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

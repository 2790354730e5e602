// The accounts that were asked for one request, in order, and what came of each.

import { h, icon } from "./dom.js";
import { word } from "./i18n.js";
import { outcome } from "./show.js";

/** In a line. A single success says nothing worth a word. */
export function attempts(tries) {
  if (tries.length === 1 && tries[0].outcome === "success") return h("span", { text: tries[0].account });
  return h("span", { class: "chain" }, tries.map((one, index) => [
    index > 0 && icon("arrow"), h("span", { text: one.account }),
    one.outcome === "success" ? h("span", { class: "state is-good" }, icon("check"), h("span", { class: "unseen", text: word("outcome", "success") })) : outcome(one.outcome)]));
}

/** As a list, with the reason in words. */
export function story(tries) {
  return h("ol", { class: "story" }, tries.map((one) => h("li", {},
    h("a", { class: "name", href: `#/accounts/${encodeURIComponent(one.account)}`, text: one.account }), " ", outcome(one.outcome),
    h("p", { class: "soft small", text: word("outcome_means", one.outcome) }))));
}

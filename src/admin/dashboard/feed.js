// One line of what happened: an account's state changed, or somebody did something.

import { h } from "./dom.js";
import { clock, moment } from "./format.js";
import { t, word } from "./i18n.js";
import { state } from "./show.js";

/** As an item of a list. */
export function event(one) {
  const when = h("time", { datetime: one.at, title: moment(one.at), text: clock(one.at) });
  if (one.kind === "operator") {
    return h("li", {}, h("span", { class: "tag", text: t("event.operator") }),
      h("span", { title: one.target }, h("b", { text: one.actor }), " ", word("action", one.action), " ", one.target ?? ""), when);
  }
  const link = h("a", { href: `#/accounts/${encodeURIComponent(one.account)}`, text: one.account });
  const why = one.reason && one.to !== "healthy" && one.to !== "full"
    ? h("span", { class: "why", text: one.reason, title: one.reason }) : null;
  return h("li", {}, state(one.to), h("span", {}, link), when, why);
}

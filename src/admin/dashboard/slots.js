// Slots: how many keys sit on each account, and when each of them may move.

import { h, later, put, say } from "./dom.js";
import { get } from "./api.js";
import { count, moment, percent, span, until } from "./format.js";
import { t } from "./i18n.js";
import { Table } from "./table.js";
import { bones, empty, failed, head, meter, panel, search, twoLines } from "./show.js";

const EVERY = 5_000;
const MOST = 5_000;

export function mount(root, context) {
  let slots = null;
  let find = context.query.get("find") ?? "";
  const title = head(t("slots.title"));
  const place = h("div");
  const total = h("dl", { class: "tiles four" });
  const problem = h("div");
  const accounts = new Table({
    caption: t("slots.accounts"), key: (one) => `${one.tier}/${one.account}`, low: true, sort: { id: "account" },
    columns: [
      { id: "account", title: t("column.account"), class: "cut lead", sort: (one) => one.account, show: (cell, one) => twoLines(cell, one.account, "", `#/accounts/${encodeURIComponent(one.account)}`) },
      { id: "tier", title: t("column.tier"), sort: (one) => one.tier, show: (cell, one) => say(cell, one.tier) },
      { id: "used", title: t("slots.used"), class: "load", sort: (one) => one.used / (one.limit || 1), down: true, show: (cell, one) => meter(cell, one.used, one.limit || one.used) },
    ],
  });
  const keys = new Table({
    caption: t("slots.keys"), key: (key) => key.id, sort: { id: "next" },
    columns: [
      { id: "name", title: t("column.key"), class: "cut lead", sort: (key) => key.name, show: (cell, key) => twoLines(cell, key.name, t("slots.here", { span: span((Date.now() - Date.parse(key.last_rotation)) / 1000) })) },
      { id: "tier", title: t("column.tier"), class: "w-2 w-0", sort: (key) => key.tier, show: (cell, key) => say(cell, key.tier) },
      { id: "account", title: t("column.account"), class: "cut half", label: true, sort: (key) => key.account, show: (cell, key) => twoLines(cell, key.account, key.previous_account ? t("slots.before", { account: key.previous_account }) : "", `#/accounts/${encodeURIComponent(key.account)}`) },
      { id: "next", title: t("slots.next"), label: true, class: "num", sort: (key) => Date.parse(key.next_rotation), show: (cell, key) => {
        say(cell, until(key.next_rotation) ?? t("slots.due"));
        cell.title = moment(key.next_rotation);
      } },
    ],
  });
  const none = h("div");
  const body = h("div", {}, problem, total, h("div", { class: "grid two" },
    panel(t("slots.accounts"), accounts.el), panel(t("slots.keys"), [keys.el, none],
      search(t("slots.find"), find, later((text) => { find = text; context.remember({ find }); show(); }, 80)))));
  put(root, title.el, place);
  put(place, bones());

  async function load() {
    try {
      const first = await get("/api/v1/slots?limit=1000");
      let next = first.next;
      while (next && first.keys.length < MOST) {
        const page = await get(`/api/v1/slots?limit=1000&cursor=${encodeURIComponent(next)}`);
        first.keys.push(...page.keys);
        next = page.next;
      }
      slots = first;
    } catch (error) {
      if (!slots) put(place, failed(error, load));
      return;
    }
    show();
  }

  function show() {
    if (!slots) return;
    if (!slots.accounts.length && !slots.keys.length) {
      return put(place, panel(null, empty(t("slots.none"), t("slots.none_text"),
        h("pre", {}, h("code", { text: "tiers:\n  medium: {assignment: slots, slots_per_account: 2, rotate_every: 24h}" })))));
    }
    if (!body.isConnected) put(place, body);
    put(problem, slots.problem && h("p", { class: "notice is-warn", text: slots.problem }));
    const { total: sum } = slots;
    const tiles = [["accounts", count(sum.accounts)], ["slots", count(sum.slots)], ["used", count(sum.used), percent(sum.used / (sum.slots || 1))], ["free", count(sum.free)]];
    put(total, tiles.map(([name, value, more]) => h("div", { class: "tile" }, h("dt", { text: t(`slots.total_${name}`) }), h("dd", {}, value, more && h("small", { text: more })))));
    accounts.set(slots.accounts);
    const text = find.toLowerCase();
    const rows = slots.keys.filter((key) => !text || [key.name, key.id, key.account, key.tier].some((field) => field?.toLowerCase().includes(text)));
    keys.el.hidden = rows.length === 0;
    keys.set(rows);
    put(none, rows.length === 0 && empty(t("slots.no_keys"), text ? "" : t("slots.no_keys_text")));
  }

  load();
  const timer = setInterval(load, EVERY);
  let tick = 0;
  return {
    update(what) {
      // The countdowns go on between two answers.
      if (what === "numbers" && slots?.keys.length && tick++ % 2) keys.draw(true);
    },
    leave() {
      clearInterval(timer);
      accounts.leave();
      keys.leave();
    },
  };
}

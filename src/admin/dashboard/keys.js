// The keys of clients: who has one, what it may do, and how to make, exchange and revoke one.

import { button, h, later, put, say } from "./dom.js";
import { all, at, patch, post, remove } from "./api.js";
import { ask, explain, menu, toast } from "./dialog.js";
import { ago, count, day, moment, until } from "./format.js";
import { t, word } from "./i18n.js";
import { keyForm, showKey } from "./key_form.js";
import { Table } from "./table.js";
import { bones, empty, failed, head, panel, search, twoLines } from "./show.js";

const TONES = { active: "good", disabled: "idle", expired: "warn", revoked: "idle" };
const STATES = ["active", "expired", "disabled", "revoked"];

export function mount(root, context) {
  const { query } = context;
  let keys = null;
  let wanted = { find: query.get("find") ?? "", state: query.get("state") ?? "active" };
  const create = () => keyForm(load);
  const title = head(t("keys.title"), context.may("admin") && button(t("keys.create"), create, { kind: "primary", picture: "plus" }));
  const chips = h("div", { class: "chips", role: "group", "aria-label": t("keys.by_state") });
  const none = h("div");
  const table = makeTable();
  table.el.hidden = true;
  put(root, title.el,
    h("div", { class: "toolbar" }, search(t("keys.find"), wanted.find, later((find) => choose({ find }), 80)), chips),
    panel(null, [table.el, none]));
  put(none, bones());

  async function load() {
    try {
      keys = await all("/api/v1/keys", "keys");
    } catch (error) {
      table.el.hidden = true;
      return put(none, failed(error, load));
    }
    show();
  }

  function choose(change) {
    wanted = { ...wanted, ...change };
    context.remember(wanted);
    show();
  }

  function show() {
    if (!keys) return;
    const text = wanted.find.toLowerCase();
    const found = keys.filter((key) => !text || [key.id, key.name, key.tier, key.hint, key.account, ...Object.values(key.labels ?? {})]
      .some((field) => field?.toLowerCase().includes(text)));
    put(chips, [["all", t("keys.all"), found.length], ...STATES.map((name) => [name, word("key", name), found.filter((key) => key.status === name).length])]
      .map(([name, words, n]) => h("button", { type: "button", class: "chip", "aria-pressed": String(wanted.state === name), on: { click: () => choose({ state: name }) } }, words, h("b", { text: count(n) }))));
    const rows = found.filter((key) => wanted.state === "all" || key.status === wanted.state);
    say(title.small, count(keys.length));
    table.el.hidden = rows.length === 0;
    table.set(rows);
    if (rows.length) put(none);
    else if (keys.length) put(none, empty(t("keys.no_match"), t("keys.no_match_text")));
    else put(none, empty(t("keys.none"), t("keys.none_text"), context.may("admin") && button(t("keys.create"), create, { kind: "primary", picture: "plus" })));
  }

  function makeTable() {
    return new Table({
      caption: t("keys.title"), key: (key) => key.id, sort: { id: "created", down: true },
      rowClass: (key) => (key.status === "active" ? "" : "off"),
      columns: [
        { id: "name", title: t("column.key"), class: "cut lead", sort: (key) => key.name, show: (cell, key) => twoLines(cell, key.name || t("keys.unnamed"), [key.hint && `…${key.hint}`, ...labels(key)].filter(Boolean).join(" · ")) },
        { id: "status", title: t("column.state"), class: "fit", sort: (key) => STATES.indexOf(key.status), show: (cell, key) =>
          put(cell, h("span", { class: `tag is-${TONES[key.status] ?? "idle"}`, text: word("key", key.status) })) },
        { id: "tier", title: t("column.tier"), label: true, sort: (key) => key.tier, show: (cell, key) => say(cell, key.tier) },
        { id: "may", title: t("column.may"), class: "cut w-2 w-0", show: (cell, key) => twoLines(cell, may(key), rules(key)) },
        { id: "expires", title: t("column.expires"), label: true, sort: (key) => key.expires_at && Date.parse(key.expires_at), show: (cell, key) => {
          const left = key.expires_at && until(key.expires_at);
          say(cell, !key.expires_at ? t("keys.for_ever") : left ? t("keys.in", { span: left }) : day(key.expires_at));
          cell.title = key.expires_at ? moment(key.expires_at) : "";
        } },
        { id: "created", title: t("column.created"), class: "w-3 w-0", down: true, sort: (key) => Date.parse(key.created_at), show: (cell, key) => {
          say(cell, ago(key.created_at));
          cell.title = moment(key.created_at);
        } },
        { id: "more", title: t("column.actions"), unseen: true, class: "fit corner", show: more },
      ],
    });
  }

  function more(cell, key) {
    if (!context.may("admin") || key.status === "revoked") return put(cell);
    if (cell.firstChild) return;
    const now = () => keys.find((one) => one.id === key.id) ?? key;
    const open = button(null, () => menu(open, offers(now())), { kind: "quiet small", picture: "more", title: t("keys.actions", { name: key.name }) });
    open.setAttribute("aria-haspopup", "menu");
    put(cell, open);
  }

  const offers = (key) => [
    { text: t("keys.change"), act: () => keyForm(load, key) },
    { text: key.enabled ? t("act.disable") : t("act.enable"), act: () => turn(key) },
    { text: t("keys.usage"), act: () => { location.hash = `#/requests?key=${encodeURIComponent(key.id)}`; } },
    { text: t("keys.rotate"), act: () => rotate(key) },
    null,
    { text: t("keys.revoke"), danger: true, act: () => revoke(key) },
  ];

  async function turn(key) {
    try {
      await patch(at("keys", key.id), { enabled: !key.enabled });
      toast(t("done.change", { id: key.name }));
    } catch (error) {
      toast(explain(error), "bad");
    }
    load();
  }

  const rotate = (key) => ask({
    title: t("ask.rotate", { name: key.name }), text: t("ask.rotate_text"), yes: t("keys.rotate"), danger: false,
    act: async () => showKey(await post(`${at("keys", key.id)}/rotate`, { grace: "24h" }), load),
  });

  const revoke = (key) => ask({
    title: t("ask.revoke", { name: key.name }), text: t("ask.revoke_text"), yes: t("keys.revoke"),
    act: async () => {
      await remove(at("keys", key.id));
      toast(t("done.revoke", { name: key.name }));
      load();
    },
  });

  load();
  return {
    update(what, event) {
      if (what === "events" && event.action?.startsWith("keys.")) load();
    },
    leave: () => table.leave(),
  };
}

const labels = (key) => Object.entries(key.labels ?? {}).map(([name, value]) => `${name}=${value}`);

function may(key) {
  const models = !key.models?.length || key.models.includes("*") ? t("keys.every_model") : key.models.join(", ");
  return key.account ? t("keys.bound", { account: key.account, models }) : models;
}

function rules(key) {
  const limits = (key.limits ?? []).map((limit) => {
    const unit = ["requests", "tokens", "cost"].find((name) => limit[name] !== undefined);
    return t("keys.limit", { n: count(limit[unit]), unit: t(`unit.${unit}`), window: limit.window, models: (limit.models ?? "*") === "*" ? "" : `(${limit.models})` });
  });
  const more = [
    key.max_concurrent ? t("keys.at_once", { n: key.max_concurrent }) : null,
    key.allowed_ips?.length ? key.allowed_ips.join(", ") : null,
    key.previous_valid_until ? t("keys.old_until", { time: moment(key.previous_valid_until) }) : null,
  ];
  return [...limits, ...more].filter(Boolean).join(" · ");
}

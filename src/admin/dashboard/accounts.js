// The accounts: which state each is in, what it serves, and what can be done with it.

import { button, choice, h, later, put, say } from "./dom.js";
import { spark } from "./chart.js";
import { actions } from "./account_actions.js";
import { accountForm } from "./account_form.js";
import { detail } from "./account.js";
import { menu } from "./dialog.js";
import { brief, count, ms, percent, span, until } from "./format.js";
import { t, word } from "./i18n.js";
import { freshen, live } from "./live.js";
import { success } from "./recent.js";
import { Table } from "./table.js";
import { tryRoute } from "./try_route.js";
import { STATES, bones, empty, fine, head, meter, panel, recovery, search, state, twoLines } from "./show.js";

export function mount(root, context) {
  const { query } = context;
  let wanted = { find: query.get("find") ?? "", state: query.get("state") ?? "", pool: query.get("pool") ?? "" };
  let opened = null;
  let last = 0;
  let left = false;
  const title = head(t("accounts.title"), button(t("route.open"), tryRoute),
    context.may("admin") && button(t("accounts.add"), () => accountForm(), { kind: "primary", picture: "plus" }));
  const chips = h("div", { class: "chips", role: "group", "aria-label": t("accounts.by_state") });
  const pool = h("span");
  const table = makeTable(context);
  const none = h("div");
  const body = panel(null, [table.el, none]);
  const find = search(t("accounts.find"), wanted.find, later((text) => choose({ find: text }), 80));
  put(root, title.el, h("div", { class: "toolbar" }, find, pool, chips), body);
  table.el.hidden = true;
  put(none, bones(8));

  function choose(change) {
    wanted = { ...wanted, ...change };
    context.remember(wanted);
    shownChips = "";
    show();
  }

  let shownChips = "";
  function filters(list) {
    const counts = new Map();
    for (const account of list) counts.set(account.status, (counts.get(account.status) ?? 0) + 1);
    const sick = list.filter((account) => !fine(account)).length;
    const found = STATES.filter((name) => counts.has(name) || wanted.state === name);
    const entries = [["", t("accounts.all"), list.length], ...(sick || wanted.state === "sick" ? [["sick", t("accounts.not_well"), sick]] : []),
      ...found.map((name) => [name, word("state", name), counts.get(name) ?? 0])];
    const is = JSON.stringify(entries);
    if (is === shownChips) return;
    shownChips = is;
    const focused = chips.contains(document.activeElement) ? document.activeElement.dataset.of : null;
    put(chips, entries.map(([name, text, n]) => h("button", {
      type: "button", class: "chip", "aria-pressed": String(wanted.state === name), "data-of": name, on: { click: () => choose({ state: name }) },
    }, text, h("b", { text: count(n) }))));
    if (focused !== null) [...chips.children].find((chip) => chip.dataset.of === focused)?.focus();
    const names = [...new Set([...live.accounts.values()].map((account) => account.pool))].sort();
    if (names.length < 2 && !wanted.pool) return put(pool);
    if (pool.dataset.of === names.join()) return;
    pool.dataset.of = names.join();
    put(pool, choice([["", t("accounts.every_pool")], ...names.map((name) => [name, name])], wanted.pool,
      (value) => choose({ pool: value }), { "aria-label": t("accounts.pool") }));
  }

  function show() {
    if (!live.complete) return;
    const here = [...live.accounts.values()].filter((account) => !wanted.pool || account.pool === wanted.pool);
    const text = wanted.find.toLowerCase();
    const matches = (account) => !text || [account.id, account.pool, account.last_error, account.upstream, account.credential?.kind]
      .some((field) => field?.toLowerCase().includes(text));
    const list = here.filter(matches);
    filters(list);
    const rows = list.filter((account) => !wanted.state || (wanted.state === "sick" ? !fine(account) : account.status === wanted.state));
    say(title.small, rows.length === live.accounts.size ? count(rows.length) : t("accounts.some", { n: count(rows.length), of: count(live.accounts.size) }));
    table.el.hidden = rows.length === 0;
    table.set(rows);
    if (rows.length) put(none);
    else if (live.accounts.size) put(none, empty(t("accounts.no_match"), t("accounts.no_match_text"),
      button(t("accounts.show_all"), () => { find.querySelector("input").value = ""; choose({ find: "", state: "", pool: "" }); })));
    else put(none, empty(t("accounts.none"), t("accounts.none_text"),
      context.may("admin") && button(t("accounts.add"), () => accountForm(), { kind: "primary", picture: "plus" })));
  }

  function look([id]) {
    if (opened && opened.id !== id) {
      opened.close();
      opened = null;
    }
    if (id && !opened) {
      const mine = (opened = detail(id, context, () => {
        // Another one may be open by now.
        if (opened !== mine) return;
        opened = null;
        // Nor does it take back the address of another one that is on its way.
        if (left || !context.isAt(id)) return;
        context.path = [];
        context.remember(wanted);
      }));
    }
  }

  show();
  freshen();
  look(context.path);
  if (query.get("add") && context.may("admin")) {
    context.remember({ add: "" });
    accountForm();
  }
  return {
    update(what) {
      // Countdowns go on, though nothing was heard of any account.
      if (what === "accounts" || (what === "numbers" && Date.now() - last > 1_500)) {
        last = Date.now();
        show();
      }
      opened?.update();
    },
    go(path, next) {
      context.path = path;
      if (path.length) look(path);
      else {
        opened?.close();
        context.query = next;
        wanted = { find: next.get("find") ?? "", state: next.get("state") ?? "", pool: next.get("pool") ?? "" };
        find.querySelector("input").value = wanted.find;
        shownChips = pool.dataset.of = "";
        show();
      }
    },
    leave() {
      left = true;
      table.leave();
      opened?.close();
    },
  };
}

function makeTable(context) {
  const to = (account) => `#/accounts/${encodeURIComponent(account.id)}`;
  const more = (cell, account) => {
    if (cell.firstChild || !context.may("operator")) return;
    const id = account.id;
    const open = button(null, () => menu(open, actions(live.accounts.get(id), context)), { kind: "quiet small", picture: "more", title: t("account.actions", { id }) });
    open.setAttribute("aria-haspopup", "menu");
    put(cell, open);
  };
  return new Table({
    caption: t("accounts.title"), key: (account) => account.id, open: (account) => { location.hash = to(account); },
    sort: { id: "state", down: false },
    columns: [
      { id: "state", title: t("column.state"), class: "fit", sort: (a) => STATES.indexOf(a.status), show: states },
      { id: "id", title: t("column.account"), class: "cut lead", sort: (a) => a.id, show: (cell, a) => {
        const box = twoLines(cell, a.id, fine(a) || !a.last_error ? about(a) : a.last_error, to(a));
        box.lastChild.className = fine(a) || !a.last_error ? "" : "bad";
      } },
      { id: "load", title: t("column.in_flight"), class: "load", label: true, down: true, sort: (a) => a.in_flight, show: (cell, a) => meter(cell, a.in_flight, a.max_concurrent) },
      { id: "recent", title: t("column.recent"), class: "recent w-2", down: false, sort: success, show: (cell, a) => {
        const share = success(a);
        const text = share === null ? t("account.no_requests") : t("account.share", { share: percent(share) });
        spark(cell, a.recent).setAttribute("aria-label", text);
        if (cell.title !== text) cell.title = text;
      } },
      { id: "speed", title: t("column.first_byte"), class: "num", label: true, sort: (a) => a.response_ms?.ewma, show: (cell, a) => say(cell, ms(a.response_ms?.ewma)) },
      { id: "requests", title: t("column.requests"), class: "num w-3", label: true, down: true, sort: (a) => a.requests, show: (cell, a) => say(cell, count(a.requests)) },
      { id: "failures", title: t("column.failures"), class: "num w-3", label: true, down: true, sort: (a) => a.failures, show: (cell, a) => say(cell, a.failures ? count(a.failures) : "0") },
      { id: "tokens", title: t("column.tokens"), class: "num w-4", label: true, down: true, sort: (a) => a.tokens, show: (cell, a) => say(cell, brief(a.tokens)) },
      { id: "weight", title: t("column.weight"), class: "num w-4 w-0", down: true, sort: (a) => a.weight, show: (cell, a) => say(cell, a.weight) },
      { id: "expiry", title: t("column.credential"), class: "w-4 w-0", sort: (a) => a.credential?.expires_at, show: credential },
      { id: "more", title: t("column.actions"), unseen: true, class: "fit corner", show: more },
    ],
  });
}

function states(cell, account) {
  let box = cell.querySelector(".two-lines");
  if (!box || cell.dataset.of !== account.status) {
    cell.dataset.of = account.status;
    box = h("div", { class: "two-lines" }, h("span", {}, state(account.status)), h("small"));
    put(cell, box);
  }
  const left = recovery(account);
  say(box.lastChild, left ?? (fine(account) ? "" : t("account.for", { span: span((Date.now() - Date.parse(account.since)) / 1000) })));
  box.lastChild.hidden = !box.lastChild.textContent;
}

function about(account) {
  const parts = [account.pool];
  if (account.instance) parts.push(`${word("instance", account.instance.state)}${account.instance.pid ? `, pid ${account.instance.pid}` : ""}`);
  if (account.source === "api") parts.push(t("account.by_api"));
  if (account.override) parts.push(t("account.changed"));
  return parts.join(" · ");
}

function credential(cell, account) {
  const { kind, expires_at } = account.credential ?? {};
  const left = expires_at && until(expires_at);
  twoLines(cell, word("credential", kind), !expires_at ? "" : left ? t("account.good_for", { span: left }) : t("account.expired"));
  cell.classList.toggle("bad", Boolean(expires_at) && !left);
}

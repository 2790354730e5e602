// The latest requests: who asked for what, which accounts were tried and why, how long it took.

import { button, choice, h, later, put, say } from "./dom.js";
import { get } from "./api.js";
import { drawer } from "./dialog.js";
import { brief, clock, cost, count, moment, ms } from "./format.js";
import { t, word } from "./i18n.js";
import { live } from "./live.js";
import { Table } from "./table.js";
import { attempts, story } from "./attempts.js";
import { bones, empty, failed, head, panel, search, status, twoLines } from "./show.js";

const EVERY = 2_000;
const FILTERS = ["key", "account", "model"];
const LAST = 300;

export function mount(root, context) {
  const { query } = context;
  const wanted = Object.fromEntries([...FILTERS, "status"].map((name) => [name, query.get(name) ?? ""]));
  let going = true;
  let list = null;
  let run = 0;
  const pause = button(t("requests.pause"), () => turn(), { picture: "pause" });
  const title = head(t("requests.title"), pause);
  const none = h("div");
  const table = makeTable();
  table.el.hidden = true;
  const fields = FILTERS.map((name) => search(t(`requests.${name}`), wanted[name], later((text) => choose({ [name]: text }), 250)));
  const kinds = ["", "error", "2xx", "4xx", "429", "5xx"].map((one) => [one, t(`requests.status_${one || "any"}`)]);
  put(root, title.el,
    h("div", { class: "toolbar" }, fields, choice(kinds, wanted.status, (value) => choose({ status: value }), { "aria-label": t("requests.status") })),
    panel(null, [table.el, none]));
  put(none, bones(10));

  function turn() {
    going = !going;
    pause.querySelector("use").setAttribute("href", going ? "#i-pause" : "#i-play");
    say(pause.querySelector("span"), going ? t("requests.pause") : t("requests.go_on"));
    if (going) load();
  }

  function choose(change) {
    Object.assign(wanted, change);
    context.remember(wanted);
    load();
  }

  async function load() {
    const mine = ++run;
    const filters = Object.entries(wanted).filter(([, value]) => value)
      // A part of a model's name is enough.
      .map(([name, value]) => `&${name}=${encodeURIComponent(name === "model" && !value.includes("*") ? `*${value}*` : value)}`);
    try {
      const answer = await get(`/api/v1/requests?limit=${LAST}${filters.join("")}`);
      if (mine !== run) return;
      list = answer.requests;
    } catch (error) {
      if (mine === run && !list) {
        table.el.hidden = true;
        put(none, failed(error, load));
      }
      return;
    }
    const filtered = filters.length > 0;
    say(title.small, list.length < LAST ? count(list.length) : t("requests.latest", { n: LAST }));
    table.el.hidden = list.length === 0;
    table.set(list);
    if (list.length) put(none);
    else put(none, filtered ? empty(t("requests.no_match"), t("requests.no_match_text")) : empty(t("requests.none"), t("requests.none_text")));
  }

  const timer = setInterval(() => going && live.state === "live" && document.visibilityState === "visible" && load(), EVERY);
  load();
  return {
    leave() {
      clearInterval(timer);
      run++;
      table.leave();
    },
  };
}

const name = (request) => (request.key === "-" ? t("requests.no_key") : request.key);

function makeTable() {
  return new Table({
    caption: t("requests.title"), key: (request) => `${request.id} ${request.began}`, open: look,
    columns: [
      { id: "time", title: t("column.time"), class: "fit", show: (cell, one) => {
        if (cell.firstChild) return;
        put(cell, h("button", { type: "button", class: "link", title: moment(one.began), text: clock(one.began), on: { click: () => look(one) } }));
      } },
      { id: "status", title: t("column.status"), class: "fit", show: (cell, one) => cell.firstChild || put(cell, status(one.status)) },
      { id: "model", title: t("column.model"), class: "cut lead narrow", show: (cell, one) => twoLines(cell, one.model ?? "–", word("call", one.path)) },
      { id: "key", title: t("column.key"), class: "cut w-2", label: true, show: (cell, one) => { say(cell, name(one)); cell.title = name(one); } },
      { id: "tries", title: t("column.tries"), class: "whole cut half", show: (cell, one) => {
        const is = JSON.stringify(one.tries);
        if (cell.dataset.of === is) return;
        cell.dataset.of = is;
        put(cell, one.tries.length ? attempts(one.tries) : h("span", { class: "soft", text: one.error ? word("refused", one.error) : t("requests.no_tries"), title: one.error }));
      } },
      { id: "first", title: t("column.first_byte"), class: "num", label: true, show: (cell, one) => say(cell, ms(one.first_byte_ms)) },
      { id: "took", title: t("column.took"), class: "num", label: true, show: (cell, one) => say(cell, ms(one.duration_ms)) },
      { id: "tokens", title: t("column.tokens_in_out"), class: "num w-3 w-0", show: (cell, one) => say(cell, tokens(one)) },
    ],
  });
}

const tokens = ({ tokens, estimated }) => `${estimated ? "≈ " : ""}${brief(tokens.input)} / ${brief(tokens.output)}`;

function look(one) {
  const { body } = drawer(t("requests.one"));
  const facts = [
    [t("column.status"), status(one.status)],
    [t("requests.id"), h("code", { text: one.id })],
    [t("column.time"), moment(one.began)],
    [t("column.key"), one.key_id === "-" ? name(one) : h("a", { href: `#/requests?key=${encodeURIComponent(one.key_id)}`, text: name(one) })],
    [t("column.model"), one.model],
    [t("requests.call"), word("call", one.path)],
    [t("form.pool"), one.pool],
    [t("column.first_byte"), ms(one.first_byte_ms)],
    [t("column.took"), ms(one.duration_ms)],
    [t("requests.tokens"), t("requests.tokens_text", { in: count(one.tokens.input), out: count(one.tokens.output), cached: count(one.tokens.cached) }) + (one.estimated ? ` · ${t("requests.estimated")}` : "")],
    [t("requests.cost"), one.cost ? cost(one.cost) : null],
  ].filter(([, value]) => value);
  put(body, one.error && h("p", { class: "notice is-bad" }, word("refused", one.error), " ", h("code", { class: "soft", text: one.error })),
    h("dl", { class: "facts" }, facts.map(([key, value]) => [h("dt", { text: key }), h("dd", {}, value)])),
    h("section", {}, h("h3", { text: t("requests.story") }),
      one.tries.length ? story(one.tries) : h("p", { class: "soft", text: t("requests.no_tries") })));
}

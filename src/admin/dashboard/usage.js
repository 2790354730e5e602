// What was used, summed up by day, account, key or model.

import { button, choice, field, h, put, say } from "./dom.js";
import { all } from "./api.js";
import { bars } from "./chart.js";
import { brief, cost, count } from "./format.js";
import { language, t } from "./i18n.js";
import { Table } from "./table.js";
import { bones, empty, failed, head, panel } from "./show.js";

const BY = ["model", "account", "key", "day"];
const MEASURES = ["tokens", "requests", "cost"];
const SPANS = [["1", "day"], ["7", "week"], ["30", "month"], ["90", "quarter"], ["", "own"]];
/** Parts of a bar; the rest is put together. */
const PARTS = 7;
/** Red is not among them: it says that something failed. */
const HUES = [0, 2, 3, 4, 8, 5, 6];
const hue = (at, length, rest) => (rest && at === length - 1 ? 7 : HUES[at % HUES.length]);
const DAY = 86_400_000;
const MOST_DAYS = 400;
const date = (time) => new Date(time).toISOString().slice(0, 10);

export function mount(root, context) {
  const { query } = context;
  const pick = (name, list, usual) => (list.includes(query.get(name)) ? query.get(name) : usual);
  const wanted = {
    by: pick("by", BY, "model"), measure: pick("measure", MEASURES, "tokens"),
    days: query.get("from") ? "" : pick("days", SPANS.map(([days]) => days), "7"), from: query.get("from") ?? "", to: query.get("to") ?? "",
  };
  let run = 0;
  let rows = null;
  /** The same, not by day: however many days there are, all of them are in the sums. */
  let totals = null;
  const own = h("span", { class: "row" });
  const csv = h("a", { class: "button", download: "" }, h("span", { text: t("usage.csv") }));
  const title = head(t("usage.title"), csv);
  const total = h("dl", { class: "tiles four" });
  const chart = h("div", { class: "body" });
  const tableBox = h("div");
  let table = null;
  const body = h("div", {}, total, panel(t("usage.by_day"), chart, h("div", { id: "usage-key" })), h("div", { class: "grid" }), panel(t("usage.table"), tableBox));
  const place = h("div");
  const dates = ["from", "to"].map((name) => h("input", { type: "date", "aria-label": t(`usage.${name}`), value: wanted[name], on: { change: (event) => choose({ [name]: event.target.value }) } }));
  put(root, title.el, h("div", { class: "toolbar" },
    choice(SPANS.map(([days, name]) => [days, t(`usage.${name}`)]), wanted.days, span, { "aria-label": t("usage.span") }), own,
    choice(BY.map((by) => [by, t(`usage.by_${by}`)]), wanted.by, (by) => choose({ by }), { "aria-label": t("usage.by") }),
    choice(MEASURES.map((one) => [one, t(`usage.${one}`)]), wanted.measure, (measure) => choose({ measure }, false), { "aria-label": t("usage.measure") })), place);

  function span(days) {
    if (days === "") Object.assign(wanted, { from: date(Date.now() - 7 * DAY), to: "" });
    else Object.assign(wanted, { from: "", to: "" });
    dates[0].value = wanted.from;
    dates[1].value = wanted.to;
    choose({ days });
  }

  function choose(change, anew = true) {
    Object.assign(wanted, change);
    context.remember(wanted);
    if (anew) load();
    else show();
  }

  function bounds() {
    const from = wanted.days ? date(Date.now() - (Number(wanted.days) - 1) * DAY) : wanted.from;
    // The last day belongs to it.
    const to = wanted.to ? date(Date.parse(wanted.to) + DAY) : "";
    return `${from ? `&from=${from}` : ""}${to ? `&to=${to}` : ""}`;
  }

  async function load() {
    const mine = ++run;
    put(own, wanted.days === "" && dates);
    const by = wanted.by === "day" ? "day" : `day,${wanted.by}`;
    csv.href = `/api/v1/usage?by=${by}${bounds()}&format=csv`;
    csv.download = `usage-${wanted.by}.csv`;
    if (!rows) put(place, bones());
    try {
      const asked = wanted.by === "day" ? [by] : [by, wanted.by];
      const found = await Promise.all(asked.map((by) => all(`/api/v1/usage?by=${by}${bounds()}`, "usage")));
      if (mine !== run) return;
      rows = found[0];
      totals = found.at(-1);
    } catch (error) {
      if (mine === run) put(place, failed(error, load));
      return;
    }
    show();
  }

  const named = (row) => (wanted.by === "key" ? row.key === "-" ? t("requests.no_key") : row.key : row[wanted.by]) || t("usage.none_named");
  const id = (row) => (wanted.by === "key" ? row.key_id : row[wanted.by]);
  const tokens = (row) => row.tokens.input + row.tokens.output;
  const value = (row) => (wanted.measure === "tokens" ? tokens(row) : row[wanted.measure]);
  const shown = (n) => (wanted.measure === "cost" ? cost(n) : brief(n));

  function show() {
    if (!rows) return;
    if (!rows.length) return put(place, panel(null, empty(t("usage.nothing"), t("usage.nothing_text"))));
    if (!body.isConnected) put(place, body);
    const sums = new Map();
    for (const row of totals) add(sums, id(row), named(row), row);
    const list = [...sums.values()].sort((a, b) => value(b) - value(a));
    const whole = list.reduce((sum, one) => ({ requests: sum.requests + one.requests, tokens: sum.tokens + tokens(one), input: sum.input + one.tokens.input, output: sum.output + one.tokens.output, cached: sum.cached + one.tokens.cached, cost: sum.cost + one.cost }),
      { requests: 0, tokens: 0, input: 0, output: 0, cached: 0, cost: 0 });
    const tiles = [["requests", count(whole.requests)], ["tokens_in", brief(whole.input), whole.cached ? t("usage.of_cached", { n: brief(whole.cached) }) : ""], ["tokens_out", brief(whole.output)], ["cost", cost(whole.cost)]];
    put(total, tiles.map(([name, text, more]) => h("div", { class: "tile" }, h("dt", { text: t(`usage.${name}`) }), h("dd", {}, text, more && h("small", { text: more })))));
    draw(list);
    table?.leave();
    table = makeTable(t(`usage.by_${wanted.by}`), whole);
    put(tableBox, table.el);
    table.set(list);
  }

  function draw(list) {
    // By day alone a bar has one part.
    const whole = wanted.by === "day";
    const tops = whole ? [] : list.slice(0, PARTS).filter(value);
    const names = whole ? [t(`usage.${wanted.measure}`)] : tops.map((one) => one.name);
    const rest = !whole && list.length > PARTS;
    const days = everyDay([...new Set(rows.map((row) => row.day))].sort());
    const parts = new Map(days.map((day) => [day, new Array(names.length + (rest ? 1 : 0)).fill(0)]));
    const place = new Map(tops.map((one, at) => [one.id, at]));
    for (const row of rows) {
      const at = whole ? 0 : place.get(id(row)) ?? (rest ? names.length : -1);
      if (at >= 0) parts.get(row.day)[at] += value(row);
    }
    if (rest) names.push(t("usage.rest"));
    const short = (day) => new Date(`${day}T12:00:00Z`).toLocaleDateString(language(), { month: "short", day: "numeric" });
    put(chart, bars({ hue: (at) => hue(at, names.length, rest), label: t("usage.by_day"), names, show: shown, bars: days.map((day) => ({ name: short(day), parts: parts.get(day) })) }));
    put(body.querySelector("#usage-key"), h("p", { class: "key" }, names.map((name, at) => h("span", {}, h("i", { class: `swatch hue-${hue(at, names.length, rest)}` }), name)), rows.cut && h("span", { text: t("usage.cut", { n: count(rows.length) }) })));
  }

  /** Every day that was asked for, those without a request too. */
  function everyDay(used) {
    const first = wanted.days ? date(Date.now() - (Number(wanted.days) - 1) * DAY) : wanted.from || used[0];
    const last = wanted.to || date(Date.now());
    const days = [];
    for (let time = Date.parse(first); date(time) <= last && days.length < MOST_DAYS; time += DAY) days.push(date(time));
    return days.length < MOST_DAYS && used.every((day) => days.includes(day)) ? days : used;
  }

  function makeTable(what, whole) {
    const part = (one) => (value(whole2(whole)) ? value(one) / value(whole2(whole)) : 0);
    return new Table({
      caption: t("usage.table"), key: (one) => one.id ?? "", low: true, sort: wanted.by === "day" ? { id: "name", down: true } : { id: wanted.measure, down: true },
      columns: [
        { id: "name", title: what, class: "cut lead", sort: (one) => one.name, show: (cell, one) => { say(cell, one.name); cell.title = one.name; } },
        { id: "share", title: t("usage.share"), class: "load w-2 w-0", show: (cell, one) => bar(cell, part(one)) },
        { id: "requests", title: t("usage.requests"), class: "num", label: true, down: true, sort: (one) => one.requests, show: (cell, one) => say(cell, count(one.requests)) },
        { id: "in", title: t("usage.tokens_in"), class: "num", label: true, down: true, sort: (one) => one.tokens.input, show: (cell, one) => say(cell, count(one.tokens.input)) },
        { id: "cached", title: t("usage.cached"), class: "num w-3 w-0", down: true, sort: (one) => one.tokens.cached, show: (cell, one) => say(cell, count(one.tokens.cached)) },
        { id: "out", title: t("usage.tokens_out"), class: "num", label: true, down: true, sort: (one) => one.tokens.output, show: (cell, one) => say(cell, count(one.tokens.output)) },
        { id: "tokens", title: t("usage.tokens"), class: "num w-4 w-0", down: true, sort: tokens, show: (cell, one) => say(cell, count(tokens(one))) },
        { id: "cost", title: t("usage.cost"), class: "num", label: true, down: true, sort: (one) => one.cost, show: (cell, one) => say(cell, cost(one.cost)) },
      ],
    });
  }
  const whole2 = (whole) => ({ ...whole, tokens: { input: whole.input, output: whole.output } });

  load();
  return {
    leave() {
      run++;
      table?.leave();
    },
  };
}

function bar(cell, share) {
  let fill = cell.querySelector(".fill");
  if (!fill) {
    fill = h("div", { class: "fill" });
    put(cell, h("div", { class: "meter alone" }, h("div", { class: "rail" }, fill)));
  }
  fill.style.width = `${(share * 100).toFixed(1)}%`;
}

function add(sums, id, name, row) {
  const sum = sums.get(id) ?? { id, name, requests: 0, cost: 0, tokens: { input: 0, output: 0, cached: 0 } };
  sum.requests += row.requests;
  sum.cost += row.cost;
  for (const kind of ["input", "output", "cached"]) sum.tokens[kind] += row.tokens[kind];
  sums.set(id, sum);
}

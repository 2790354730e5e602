// The first screen: how the gateway is, at a glance.

import { h, put, say } from "./dom.js";
import { Lines } from "./chart.js";
import { ago, brief, count, ms, percent, span } from "./format.js";
import { t, word } from "./i18n.js";
import { live } from "./live.js";
import { event } from "./feed.js";
import { STATES, bones, fine, head, panel, recovery, state, tone } from "./show.js";
import { pools } from "./pools.js";

const HOUR = 3_600_000;
const SHORTEST = 600_000;
const TILES = ["rate", "errors", "first_byte", "streams", "tokens", "queue"];
const FEW = 6;

export function mount(root, context) {
  const tiles = new Map(TILES.map((name) => [name, { main: h("span"), more: h("small") }]));
  const strip = h("div", { class: "strip", "aria-hidden": "true" });
  const legend = h("ul", { class: "legend" });
  const sick = h("ul", { class: "feed" });
  const events = h("ol", { class: "feed" });
  const charts = makeCharts();
  const list = pools(context);
  const nodes = h("span", { class: "tag" });
  const title = head(t("overview.title"), nodes);
  const tile = ([name, { main, more }]) => h("div", { class: "tile" }, h("dt", { text: t(`tile.${name}`) }), h("dd", {}, main, more));
  const body = h("div", {},
    h("dl", { class: "tiles", id: "tiles" }, [...tiles].map(tile)),
    h("div", { class: "grid wide" },
      h("div", { class: "stack" },
        h("div", { class: "grid two" }, charts.map(({ title: name, chart, legend: key }) => panel(name, h("div", { class: "body" }, chart.el), key))),
        panel(t("overview.pools"), list.el)),
      h("div", { class: "stack" },
        panel(t("overview.accounts"), h("div", { class: "body" }, strip, legend)),
        panel(t("overview.attention"), sick),
        panel(t("overview.events"), events))));
  const waiting = bones(8);
  put(root, title.el, waiting);

  function numbers() {
    const { numbers: now, overview } = live;
    if (!now || !overview) return;
    if (waiting.isConnected) waiting.replaceWith(body);
    const errors = now.requests_per_second ? now.errors_per_second / now.requests_per_second : 0;
    const text = {
      rate: [brief(now.requests_per_second), t("tile.per_second")],
      errors: [percent(errors), t("tile.errors_more", { n: brief(now.errors_per_second) })],
      first_byte: [now.first_byte_ms ? ms(now.first_byte_ms.p50) : "–", now.first_byte_ms ? t("tile.p95", { ms: ms(now.first_byte_ms.p95) }) : ""],
      streams: [count(now.in_flight), t("tile.connections", { n: count(now.connections) })],
      tokens: [brief(now.tokens_per_minute), t("tile.per_minute")],
      queue: [count(now.waiting), t("tile.refused", { n: count(overview.queue.failed) })],
    };
    for (const [name, [main, more]] of Object.entries(text)) {
      say(tiles.get(name).main, main);
      say(tiles.get(name).more, more);
    }
    tiles.get("errors").main.className = errors >= 0.05 ? "bad" : "";
    tiles.get("queue").main.className = now.waiting ? "warn" : "";
    const away = overview.redis === false;
    nodes.hidden = !away && !(overview.nodes?.gateways > 1);
    nodes.className = away ? "tag is-bad" : "tag";
    say(nodes, away ? t("overview.redis_away") : t("overview.gateways", { n: overview.nodes?.gateways }));
    say(title.small, t("overview.since", { span: ago(overview.started_at), n: count(overview.accounts.total) }));
  }

  function lines() {
    const to = Date.now();
    const points = live.history.points.map((point) => ({ ...point, at: Date.parse(point.at), every: live.history.every_s }));
    // A gateway that has just started fills more than a corner.
    const from = Math.max(to - HOUR, Math.min(points[0]?.at ?? to, to - SHORTEST));
    for (const { chart } of charts) chart.set(points, from, to);
  }

  function byState() {
    const counts = live.overview?.by_status ?? {};
    const found = STATES.filter((name) => counts[name]).reverse();
    put(strip, found.map((name) => {
      const part = h("span", { class: `is-${tone(name)}` });
      part.style.flexGrow = counts[name];
      return part;
    }));
    const was = legend.dataset.of;
    const is = JSON.stringify(found.map((name) => [name, counts[name]]));
    if (was === is) return;
    legend.dataset.of = is;
    put(legend, found.length ? found.map((name) =>
      h("li", {}, h("a", { href: `#/accounts?state=${name}` }, state(name), h("b", { text: count(counts[name]) }))))
      : h("li", { class: "soft" }, t("accounts.none"), " ", context.may("admin") && h("a", { href: "#/accounts?add=1", text: t("accounts.add") })));
  }

  function attention() {
    const now = Date.now();
    const all = [...live.accounts.values()].filter((account) => !fine(account));
    all.sort((a, b) => STATES.indexOf(a.status) - STATES.indexOf(b.status) || (a.id < b.id ? -1 : 1));
    const rows = all.slice(0, FEW).map((account) => h("li", {}, state(account.status),
      h("a", { href: `#/accounts/${encodeURIComponent(account.id)}`, text: account.id }),
      h("span", { class: "when", text: recovery(account, now) ?? t("account.for", { span: span((now - Date.parse(account.since)) / 1000) }) }),
      account.last_error && h("span", { class: "why", text: account.last_error, title: account.last_error })));
    if (all.length > FEW) rows.push(h("li", {}, h("a", { href: "#/accounts?state=sick", text: t("overview.more", { n: all.length - FEW }) })));
    const held = sick.contains(document.activeElement) || sick.matches(":hover");
    if (held && sick.childElementCount === rows.length) return;
    put(sick, rows.length ? rows : h("li", {}, h("span", { class: "state is-good" }, word("state", "healthy")),
      h("span", { class: "soft", text: live.complete ? t("overview.all_well") : t("shell.loading") })));
  }

  function happened() {
    const rows = live.events.slice(0, 12).map((one) => event(one));
    put(events, rows.length ? rows : h("li", {}, h("span"), h("span", { class: "soft", text: t("overview.quiet") })));
  }

  function all() {
    numbers();
    lines();
    byState();
    attention();
    happened();
    list.show(live.overview?.pools ?? []);
  }
  all();
  let turn = 0;
  return {
    update(what) {
      if (what === "numbers") {
        numbers();
        byState();
        attention();
        if (turn++ % 2 === 0) lines();
        if (turn % 10 === 0) happened();
      } else if (what === "accounts") attention();
      else if (what === "events") happened();
      else if (what === "overview") all();
    },
    leave() {
      for (const { chart } of charts) chart.leave();
      list.leave();
    },
  };
}

function makeCharts() {
  const perSecond = (name) => (point) => point[name] / point.every;
  const key = (series) => h("p", { class: "key" }, series.map(({ name, hue }) => h("span", {}, h("i", { class: `swatch hue-${hue}` }), name)));
  const made = (title, show, series) => ({ title, legend: key(series), chart: new Lines({ label: title, series, show }) });
  const byte = (name) => (point) => point.first_byte_ms?.[name] ?? null;
  return [
    made(t("chart.requests"), brief, [
      { name: t("chart.all"), hue: 0, area: true, value: perSecond("requests") },
      { name: t("chart.failed"), hue: 1, value: perSecond("errors") }]),
    made(t("chart.first_byte"), ms, [
      { name: "p50", hue: 2, area: true, value: byte("p50") },
      { name: "p95", hue: 3, value: byte("p95") }]),
    made(t("chart.tokens"), brief, [
      { name: t("chart.tokens_name"), hue: 5, area: true, value: (point) => (point.tokens / point.every) * 60 }]),
    made(t("chart.in_flight"), brief, [
      { name: t("chart.in_flight_name"), hue: 0, area: true, value: (point) => point.in_flight },
      { name: t("chart.waiting"), hue: 4, value: (point) => point.waiting }]),
  ];
}

// Charts, drawn by hand as SVG: lines over time, stacked bars, and the small strip of one account's last hour.

import { h, mark, put, s } from "./dom.js";
import { language, t } from "./i18n.js";

const LEFT = 42;
const BOTTOM = 20;
const TOP = 8;
const GAP = 60_000;

/** The next round number from `n` on, so that the axis has whole steps. */
function ceiling(n) {
  if (!(n > 0)) return 1;
  const size = 10 ** Math.floor(Math.log10(n));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * size >= n * 0.999) * size;
}

/**
 * Lines over time. `series`: [{name, hue, area?, value(point)}]; `show(value)`: as text; `times`: the time of a point.
 * A null value is a gap.
 */
export class Lines {
  constructor({ label, series, show, height = 138 }) {
    Object.assign(this, { label, series, show, height, points: [] });
    this.svg = s("svg", { role: "img", height });
    this.tip = h("div", { class: "tip", hidden: true });
    this.el = h("div", { class: "chart" }, this.svg, this.tip);
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(this.el);
  }

  leave() {
    this.watch.disconnect();
  }

  /** `points`: with `at` in milliseconds, the oldest first. */
  set(points, from, to) {
    Object.assign(this, { points, from, to });
    this.draw();
  }

  draw() {
    const width = this.el.clientWidth;
    if (!width || !this.to) return;
    const { points, height } = this;
    const values = this.series.map((one) => points.map(one.value));
    const most = ceiling(Math.max(0, ...values.flat().filter((value) => value !== null)));
    this.x = (at) => LEFT + ((at - this.from) / (this.to - this.from)) * (width - LEFT - 2);
    const y = (value) => TOP + (1 - value / most) * (height - TOP - BOTTOM);
    const parts = [0, 0.5, 1].flatMap((share) => {
      const at = Math.round(y(most * share)) + 0.5;
      return [s("line", { class: "rule", x1: LEFT, x2: width, y1: at, y2: at }),
        s("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end", text: this.show(most * share) })];
    });
    for (const at of this.times(width)) {
      const time = new Date(at).toLocaleTimeString(language(), { hour: "2-digit", minute: "2-digit", hour12: false });
      parts.push(s("text", { x: this.x(at), y: height - 4, "text-anchor": "middle", text: time }));
    }
    this.series.forEach((one, index) => parts.push(...this.path(one, values[index], y)));
    this.cursor = s("line", { class: "cursor", y1: TOP, y2: height - BOTTOM, visibility: "hidden" });
    mark(this.svg, "viewBox", `0 0 ${width} ${height}`);
    mark(this.svg, "aria-label", this.words(values));
    put(this.svg, parts, this.cursor);
    if (points.length < 2) this.svg.append(s("text", { x: (LEFT + width) / 2, y: height / 2, "text-anchor": "middle", text: t("chart.none") }));
    if (this.over) this.point(this.over);
  }

  /** Round times for the axis, as many as have room. */
  times(width) {
    const minutes = [1, 2, 5, 10, 15, 30, 60, 180, 360, 720, 1440, 2880, 7200, 14400];
    const span = (this.to - this.from) / 60_000;
    const step = (minutes.find((one) => (span / one) * 70 <= width - LEFT) ?? 14400) * 60_000;
    const found = [];
    for (let at = Math.ceil(this.from / step) * step; at < this.to; at += step) {
      if (this.x(at) > LEFT + 18 && this.x(at) < width - 18) found.push(at);
    }
    return found;
  }

  path({ hue, area }, values, y) {
    const runs = [];
    let run = null;
    values.forEach((value, index) => {
      if (value === null) {
        run = null;
        return;
      }
      // Nothing was heard for a while, as when the page rested: no line is drawn over it.
      const before = this.points[index - 1];
      if (!run || (before && this.points[index].at - before.at > GAP)) runs.push((run = []));
      run.push([this.x(this.points[index].at), y(value)]);
    });
    const text = (run) => run.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
    const line = s("path", { class: `line hue-${hue}`, d: runs.map((run) => `M${text(run)}`).join("") });
    if (!area) return [line];
    const ground = y(0);
    const d = runs.map((run) => `M${run[0][0].toFixed(1)} ${ground}L${text(run)}L${run.at(-1)[0].toFixed(1)} ${ground}Z`);
    return [s("path", { class: `area hue-${hue}`, d: d.join("") }), line];
  }

  /** For those who do not see it: the latest and the highest value of each line. */
  words(values) {
    const said = this.series.map((one, index) => {
      const known = values[index].filter((value) => value !== null);
      return known.length ? `${one.name}: ${this.show(known.at(-1))} (≤ ${this.show(Math.max(...known))})` : null;
    });
    return [this.label, ...said.filter(Boolean)].join(". ");
  }

  point(event) {
    this.over = event;
    const near = event && this.nearest(event);
    this.tip.hidden = !near;
    this.cursor?.setAttribute("visibility", near ? "visible" : "hidden");
    if (!near) return;
    const x = this.x(near.at);
    mark(this.cursor, "x1", x);
    mark(this.cursor, "x2", x);
    const time = new Date(near.at).toLocaleTimeString(language(), { hour12: false });
    put(this.tip, h("p", { class: "soft", text: time }), this.series.map((one) => {
      const value = one.value(near);
      return h("p", {}, h("span", {}, h("i", { class: `swatch hue-${one.hue}` }), one.name),
        h("b", { text: value === null ? "–" : this.show(value) }));
    }));
    const room = this.el.clientWidth - this.tip.offsetWidth;
    this.tip.style.transform = `translateX(${Math.max(0, x > room ? x - this.tip.offsetWidth - 10 : x + 10)}px)`;
  }

  nearest(event) {
    const box = this.svg.getBoundingClientRect();
    const away = (point) => Math.abs(this.x(point.at) - (event.clientX - box.left));
    return this.points.reduce((best, one) => (!best || away(one) < away(best) ? one : best), null);
  }
}

/** Bars of stacked parts. `bars`: [{name, parts: [number…]}]; `names`, `hue(part)`: of the parts. */
export function bars({ label, bars, names, show, hue, height = 190 }) {
  const svg = s("svg", { role: "img", height, "aria-label": label });
  const tip = h("div", { class: "tip", hidden: true });
  const el = h("div", { class: "chart" }, svg, tip);
  const most = ceiling(Math.max(...bars.map((bar) => bar.parts.reduce((a, b) => a + b, 0))));
  const draw = () => {
    const width = el.clientWidth;
    if (!width) return;
    const y = (value) => TOP + (1 - value / most) * (height - TOP - BOTTOM);
    const step = (width - LEFT) / bars.length;
    const thick = Math.max(2, Math.min(44, step * 0.68));
    const parts = [0, 0.5, 1].flatMap((share) => {
      const at = Math.round(y(most * share)) + 0.5;
      return [s("line", { class: "rule", x1: LEFT, x2: width, y1: at, y2: at }),
        s("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end", text: show(most * share) })];
    });
    const every = Math.ceil((bars.length * 66) / (width - LEFT));
    bars.forEach((bar, index) => {
      const x = LEFT + step * (index + 0.5);
      let sum = 0;
      bar.parts.forEach((value, part) => {
        const top = y((sum += value));
        const tall = y(sum - value) - top;
        parts.push(s("rect", { class: `bar hue-${hue(part)}`, x: x - thick / 2, y: top, width: thick, height: Math.max(0, tall) }));
      });
      if (index % every === 0) parts.push(s("text", { x, y: height - 4, "text-anchor": "middle", text: bar.name }));
    });
    mark(svg, "viewBox", `0 0 ${width} ${height}`);
    put(svg, parts);
    svg.onpointermove = (event) => {
      const bar = bars[Math.floor((event.clientX - svg.getBoundingClientRect().left - LEFT) / step)];
      tip.hidden = !bar;
      if (!bar) return;
      const lines = bar.parts.map((value, part) => [value, part]).filter(([value]) => value).reverse();
      put(tip, h("p", { class: "soft", text: bar.name }), lines.map(([value, part]) =>
        h("p", {}, h("span", {}, h("i", { class: `swatch hue-${hue(part)}` }), names[part]), h("b", { text: show(value) }))));
      const x = LEFT + step * (bars.indexOf(bar) + 0.5);
      const room = width - tip.offsetWidth - 14;
      tip.style.transform = `translateX(${Math.max(0, x > room ? x - tip.offsetWidth - 14 : x + 14)}px)`;
    };
    svg.onpointerleave = () => { tip.hidden = true; };
  };
  new ResizeObserver(draw).observe(el);
  return el;
}

const CELL = 4;
const TALL = 22;

/** One account's last hour: a column for each step, what failed above what went well. Fills `cell`, again and again. */
export function spark(cell, recent, most_columns = 30) {
  // Of an account that has only just come there is none yet.
  const { successes = [], failures = [], every_s = 120 } = recent ?? {};
  const steps = Math.round(3600 / every_s);
  const columns = Math.min(most_columns, steps);
  const group = Math.ceil(steps / columns);
  const good = grouped(successes, group, columns);
  const ill = grouped(failures, group, columns);
  let svg = cell.querySelector(".spark");
  if (!svg) {
    svg = s("svg", { class: "spark", viewBox: `0 0 ${columns * CELL} ${TALL}`, preserveAspectRatio: "none", role: "img" },
      ["none", "well", "ill"].map((name) => s("path", { class: name })));
    cell.append(svg);
  }
  const most = Math.max(1, ...good.map((n, at) => n + ill[at]));
  const d = { none: "", well: "", ill: "" };
  good.forEach((n, at) => {
    const x = at * CELL;
    const box = (top, tall) => `M${x} ${top.toFixed(1)}h${CELL - 1}v${tall.toFixed(1)}h-${CELL - 1}z`;
    const total = n + ill[at];
    if (!total) d.none += box(TALL - 1.5, 1.5);
    else {
      const tall = Math.max(3, (total / most) * TALL);
      const part = ill[at] ? Math.max(2, (ill[at] / total) * tall) : 0;
      if (part) d.ill += box(TALL - tall, part);
      if (n) d.well += box(TALL - tall + part, Math.max(0, tall - part));
    }
  });
  for (const path of svg.children) mark(path, "d", d[path.getAttribute("class")] || "M0 0");
  return svg;
}

/** The last `columns` sums of `group` numbers each; the older ones are zero where nothing is known. */
function grouped(list, group, columns) {
  const sums = new Array(columns).fill(0);
  for (let back = 0; back < columns * group && back < list.length; back++) {
    sums[columns - 1 - Math.floor(back / group)] += list[list.length - 1 - back];
  }
  return sums;
}

// A table of any length: it sorts, follows the arrow keys, and draws only the rows that can be seen.

import { h, mark } from "./dom.js";
import { language } from "./i18n.js";

/** Up to so many rows all are drawn, so that the browser's own search finds them. */
const ALL = 120;
/** Rows beyond the visible ones, above and below. */
const MORE = 12;

/**
 * `columns`: {id, title, sort?(row), class?, show(cell, row), label?}. `show` fills the cell and may be called again and
 * again; `label`: the title stands before the value where rows are cards. `key(row)`: a text of its own for each row.
 * `open(row)`: what a click on the row does; `href(row)`: where its name leads.
 */
export class Table {
  constructor({ caption, columns, key, open, sort, low, flat, rowClass }) {
    Object.assign(this, { columns, key, open, rowClass });
    this.sorted = sort ?? null;
    this.drawn = new Map();
    this.rows = [];
    this.heads = columns.map((column) => this.head(column));
    this.above = pad(columns.length);
    this.below = pad(columns.length);
    this.body = h("tbody", {}, this.above, this.below);
    this.el = h("table", { class: `table cards ${low ? "low" : ""} ${flat ? "flat" : ""}` },
      h("caption", { class: "unseen", text: caption }),
      h("thead", {}, h("tr", {}, this.heads)), this.body);
    this.body.addEventListener("keydown", (event) => this.step(event));
    this.body.addEventListener("click", (event) => this.clicked(event));
    this.held = false;
    this.body.addEventListener("pointerenter", (event) => { this.held = event.pointerType === "mouse"; });
    this.body.addEventListener("pointerleave", () => { this.held = false; });
    this.scrolled = () => this.el.isConnected ? this.draw() : this.leave();
    addEventListener("scroll", this.scrolled, { passive: true });
    addEventListener("resize", this.scrolled, { passive: true });
  }

  leave() {
    removeEventListener("scroll", this.scrolled);
    removeEventListener("resize", this.scrolled);
  }

  head(column) {
    const turn = () => {
      const down = this.sorted?.id === column.id ? !this.sorted.down : Boolean(column.down);
      this.sorted = { id: column.id, down };
      this.set(this.rows, true);
    };
    const face = column.sort
      ? h("button", { type: "button", on: { click: turn }, text: column.title })
      : h("span", { class: column.unseen && "unseen", text: column.title });
    return h("th", { scope: "col", class: column.class }, face);
  }

  /** Shows these rows. While the pointer rests on the table the order stays, so that nothing is clicked by mistake. */
  set(rows, anew = false) {
    this.rows = rows;
    this.ordered = this.held && !anew && this.ordered ? this.keepOrder(rows) : this.order(rows);
    for (const [at, column] of this.columns.entries()) {
      const is = this.sorted?.id === column.id;
      mark(this.heads[at], "aria-sort", is ? (this.sorted.down ? "descending" : "ascending") : null);
    }
    mark(this.el, "aria-rowcount", rows.length + 1);
    this.draw(true);
  }

  order(rows) {
    const column = this.columns.find((one) => one.id === this.sorted?.id);
    if (!column) return [...rows];
    const sign = this.sorted.down ? -1 : 1;
    const { compare } = collator();
    const valued = rows.map((row) => [column.sort(row), row]);
    const none = (value) => value === null || value === undefined || Number.isNaN(value);
    valued.sort(([a], [b]) => {
      if (none(a) || none(b)) return none(a) - none(b);
      return sign * (typeof a === "string" ? compare(a, b) : a - b);
    });
    return valued.map(([, row]) => row);
  }

  keepOrder(rows) {
    const now = new Map(rows.map((row) => [this.key(row), row]));
    const kept = this.ordered.map((row) => this.key(row)).filter((key) => now.has(key));
    const old = new Set(kept);
    return [...kept.map((key) => now.get(key)), ...rows.filter((row) => !old.has(this.key(row)))];
  }

  /** What is to be seen of the ordered rows: [from, to). */
  window() {
    const total = this.ordered.length;
    if (total <= ALL) return [0, total];
    const height = this.height();
    const top = -this.body.getBoundingClientRect().top;
    const from = Math.max(0, Math.floor(top / height) - MORE);
    const seen = Math.ceil(innerHeight / height) + 2 * MORE;
    return [Math.min(from, Math.max(0, total - seen)), Math.min(total, from + seen)];
  }

  /** Rows are of one height each, which the style of the moment decides. */
  height() {
    const some = [...this.drawn.values()][0];
    return some?.tr.offsetHeight || 46;
  }

  draw(anew = false) {
    if (!this.ordered) return;
    const [from, to] = this.window();
    if (!anew && this.span === `${from}-${to}`) return;
    this.span = `${from}-${to}`;
    const wanted = this.ordered.slice(from, to);
    const keys = new Set(wanted.map(this.key));
    for (const [key, { tr }] of this.drawn) {
      // A row that has the focus stays, though it went out of sight.
      if (keys.has(key) || (tr.contains(document.activeElement) && this.ordered.some((row) => this.key(row) === key))) continue;
      tr.remove();
      this.drawn.delete(key);
    }
    let after = this.above;
    for (const [at, row] of wanted.entries()) {
      const known = this.drawn.has(this.key(row));
      const { tr, cells } = this.row(row);
      if (after.nextSibling !== tr) after.after(tr);
      after = tr;
      mark(tr, "aria-rowindex", from + at + 2);
      mark(tr, "class", [this.open && "opens", this.rowClass?.(row)].filter(Boolean).join(" "));
      // While somebody scrolls, what is drawn already stays as it is.
      if (anew || !known) this.columns.forEach((column, index) => column.show(cells[index], row));
    }
    const total = this.ordered.length;
    const height = total > ALL ? this.height() : 0;
    this.space(this.above, from * height);
    this.space(this.below, (total - to) * height);
  }

  space(tr, height) {
    tr.hidden = height <= 0;
    tr.firstChild.style.height = `${height}px`;
  }

  row(row) {
    const key = this.key(row);
    const known = this.drawn.get(key);
    if (known) {
      known.row = row;
      return known;
    }
    const cells = this.columns.map((column) =>
      h("td", { class: column.class, "data-label": column.label ? column.title : null }));
    const made = { tr: h("tr", {}, cells), cells, row };
    this.drawn.set(key, made);
    return made;
  }

  clicked(event) {
    if (!this.open || event.target.closest("a, button, input, select, label") || getSelection().toString()) return;
    const tr = event.target.closest("tr");
    for (const one of this.drawn.values()) if (one.tr === tr) this.open(one.row);
  }

  /** The arrow keys go from row to row. */
  step(event) {
    const by = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
    if (!by || event.ctrlKey || event.metaKey || event.target.matches("input, select")) return;
    let tr = event.target.closest("tr");
    do tr = by > 0 ? tr.nextElementSibling : tr.previousElementSibling;
    while (tr && !tr.querySelector("a, button"));
    if (!tr) return;
    event.preventDefault();
    tr.querySelector("a, button").focus();
    tr.scrollIntoView({ block: "nearest" });
  }

  /** Puts the focus into the first row. */
  focus() {
    this.body.querySelector("a, button")?.focus();
  }
}

/** Numbers within names count as numbers: account-2 before account-10. */
function collator() {
  const wanted = language();
  if (made?.language !== wanted) made = { language: wanted, compare: new Intl.Collator(wanted, { numeric: true }).compare };
  return made;
}
let made;

function pad(columns) {
  return h("tr", { class: "pad", hidden: true, "aria-hidden": "true" }, h("td", { colspan: columns }));
}

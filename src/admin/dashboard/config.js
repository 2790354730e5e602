// The configuration that is in force, secrets masked; reading the file anew, after a look at what would change;
// and who changed what.

import { button, h, later, put } from "./dom.js";
import { get, post } from "./api.js";
import { dialog, during, explain, toast } from "./dialog.js";
import { ago, clock, moment } from "./format.js";
import { t, word } from "./i18n.js";
import { Table } from "./table.js";
import { bones, empty, failed, head, panel, search, twoLines } from "./show.js";

const RECORD = 200;

export function mount(root, context) {
  const reload = context.may("operator") && button(t("config.reload"), () => look(load), { kind: "primary", picture: "reload" });
  const hooks = context.may("operator") && button(t("config.hooks"), tryHooks);
  const title = head(t("config.title"), hooks, reload);
  const tree = h("div", { class: "tree" });
  const path = h("code", { class: "soft" });
  let config = null;
  let audit = null;
  const find = search(t("config.find"), "", later((text) => draw(text.toLowerCase()), 120));
  put(root, title.el, panel(t("config.effective"), h("div", { class: "body" }, tree), path, find),
    context.may("admin") && [h("div", { class: "grid" }), record()]);
  put(tree, bones());

  async function load() {
    try {
      const answer = await get("/api/v1/config");
      config = answer.config;
      put(path, answer.path ?? "");
    } catch (error) {
      return put(tree, failed(error, load));
    }
    draw(find.querySelector("input").value.trim().toLowerCase());
    if (audit) loadAudit();
  }

  function draw(text) {
    if (!config) return;
    const parts = Object.entries(config).map(([name, value]) => branch(name, value, text, 0)).filter(Boolean);
    put(tree, parts.length ? parts : empty(t("config.no_match")));
  }

  function record() {
    audit = new Table({
      caption: t("config.audit"), key: (one) => String(one.id), low: true,
      columns: [
        { id: "at", title: t("column.time"), class: "fit", show: (cell, one) => { cell.textContent = clock(one.at); cell.title = `${moment(one.at)} (${ago(one.at)})`; } },
        { id: "actor", title: t("config.who"), show: (cell, one) => twoLines(cell, one.actor, one.source ?? "") },
        { id: "action", title: t("config.what"), show: (cell, one) => { cell.textContent = word("action", one.action); cell.title = one.action; } },
        { id: "target", title: t("config.on"), class: "cut", show: (cell, one) => twoLines(cell, one.target ?? "", detail(one.detail)) },
      ],
    });
    loadAudit();
    return panel(t("config.audit"), h("div", { id: "audit" }, audit.el));
  }

  async function loadAudit() {
    try {
      const { audit: rows } = await get(`/api/v1/audit?limit=${RECORD}`);
      audit.el.hidden = rows.length === 0;
      audit.set(rows);
      const none = root.querySelector("#audit .empty");
      if (!rows.length && !none) root.querySelector("#audit")?.append(empty(t("config.no_audit")));
      else if (rows.length) none?.remove();
    } catch (error) {
      put(root.querySelector("#audit"), failed(error));
    }
  }

  load();
  return {
    update(what, event) {
      if (what === "events" && event.kind === "operator") load();
    },
    leave: () => audit?.leave(),
  };
}

/** What else was written down of a change, in a line. */
const detail = (value) => Object.entries(value && typeof value === "object" ? value : {})
  .map(([name, one]) => `${name}: ${simple(one) ? shown(one) : JSON.stringify(one)}`).join(" · ");

const simple = (value) => value === null || typeof value !== "object"
  || (Array.isArray(value) && value.every((one) => one === null || typeof one !== "object"))
  || Object.keys(value).length === 0;
const shown = (value) => (Array.isArray(value) ? `[${value.map(String).join(", ")}]`
  : value === null ? "null" : typeof value === "object" ? "{}" : value === "" ? '""' : String(value));

/** One key and what is below it; nothing where neither holds `text`. */
function branch(name, value, text, depth) {
  const here = name.toLowerCase().includes(text);
  if (simple(value)) {
    return here || shown(value).toLowerCase().includes(text)
      ? h("p", {}, `${name}: `, h("span", { class: "v", text: shown(value) })) : null;
  }
  const below = Object.entries(value).map(([key, one]) => {
    const label = Array.isArray(value) ? String(one?.id ?? one?.name ?? one?.address ?? key) : key;
    return branch(label, one, here ? "" : text, depth + 1);
  }).filter(Boolean);
  if (!below.length) return null;
  const much = below.length > 30;
  return h("details", { open: Boolean(text) || (depth < 2 && !much) },
    h("summary", {}, name, Array.isArray(value) && h("span", { class: "soft", text: ` (${value.length})` })), below);
}

/** Says what the file would change, and puts it in force if that is wanted. */
function look(done) {
  const { dialog: box, body } = dialog(t("config.reload"), { wide: true });
  const wrong = h("p", { class: "wrong", role: "alert" });
  put(body, bones(3));
  const problems = (error) => h("div", { class: "notice is-bad" }, h("b", { text: t("config.refused") }),
    h("ul", {}, (error.body?.problems ?? [explain(error)]).map((line) => h("li", {}, h("pre", { class: "problem", text: line })))));
  const foot = (...more) => h("footer", {}, button(t("do.close"), () => box.close()), more);

  async function ask() {
    let plan;
    try {
      plan = await post("/api/v1/reload?dry_run=true", {}, { long: true });
    } catch (error) {
      return put(body, error.body?.problems ? problems(error) : failed(error), foot(button(t("do.again"), ask, { picture: "reload" })));
    }
    const go = button(t("config.apply"), apply, { kind: "primary" });
    async function apply() {
      const done = await during(go, wrong, () => post("/api/v1/reload", {}, { long: true }));
      if (done !== null) finish(done);
    }
    if (!plan.changes.length) return put(body, empty(t("config.same"), t("config.same_text")), wrong, foot(button(t("config.anyway"), apply)));
    put(body, h("p", { text: t("config.changes", { n: plan.changes.length }) }), upgraded(plan.needs_upgrade), h("div", { class: "diff" }, plan.changes.map(change)), wrong, foot(go));
    go.focus();
  }

  function finish({ needs_upgrade }) {
    toast(needs_upgrade?.length ? t("config.done_partly") : t("config.done"), needs_upgrade?.length ? "warn" : "good");
    box.close();
    done();
  }
  ask();
}

/** Tells each webhook that nothing has happened, and says what became of it. */
async function tryHooks() {
  const { body } = dialog(t("config.hooks"));
  put(body, bones(3));
  try {
    const { hooks } = await post("/api/v1/notify/test", {}, { long: true });
    put(body, hooks.length ? h("dl", { class: "facts" }, hooks.map((hook) => [h("dt", { text: hook.host }),
      h("dd", { class: hook.delivered ? "good" : "bad", text: hook.delivered ? t("config.delivered") : hook.error })]))
      : empty(t("config.no_hooks"), t("config.no_hooks_text")));
  } catch (error) {
    put(body, failed(error));
  }
}

const upgraded = (keys) => keys?.length
  ? h("p", { class: "notice is-warn", text: t("config.needs_upgrade", { keys: keys.join(", ") }) }) : null;

function change({ path, before, after }) {
  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
  return h("div", {}, h("h3", { text: path }),
    before !== null && before !== undefined && h("pre", { class: "was", text: text(before) }),
    after !== null && after !== undefined && h("pre", { class: "is", text: text(after) }));
}

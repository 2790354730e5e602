// The local programs that serve accounts: how each is, and what it writes.

import { button, h, icon, later, put, say } from "./dom.js";
import { all, at, get, post } from "./api.js";
import { ask, drawer, explain, toast } from "./dialog.js";
import { ago, count } from "./format.js";
import { t, word } from "./i18n.js";
import { Table } from "./table.js";
import { bones, empty, failed, head, panel, search, twoLines } from "./show.js";

const EVERY = 2_000;
const TAIL = 500;
/** Lines that a window keeps. */
const MOST = 5_000;
const TONES = { ready: "good", busy: "good", starting: "warn", error: "bad", failed: "bad", stopped: "idle", disabled: "idle" };
const ORDER = Object.keys(TONES).reverse();

export function mount(root, context) {
  let list = null;
  const title = head(t("instances.title"));
  const none = h("div");
  const table = new Table({
    caption: t("instances.title"), key: (one) => one.account, sort: { id: "state" },
    open: context.may("operator") ? (one) => logs(one.account) : null,
    columns: [
      { id: "state", title: t("column.state"), class: "fit", sort: (one) => ORDER.indexOf(one.state), show: (cell, one) =>
        put(cell, h("span", { class: `tag is-${TONES[one.state] ?? "idle"}`, text: word("instance", one.state) })) },
      { id: "account", title: t("column.account"), class: "cut lead", sort: (one) => one.account, show: (cell, one) => {
        twoLines(cell, one.account, one.last_error ?? "", `#/accounts/${encodeURIComponent(one.account)}`).lastChild.className = one.last_error ? "bad" : "";
      } },
      { id: "pid", title: t("instances.pid"), class: "num", label: true, sort: (one) => one.pid, show: (cell, one) => say(cell, one.pid ?? "–") },
      { id: "port", title: t("instances.port"), class: "num", label: true, sort: (one) => one.port, show: (cell, one) => say(cell, one.port ?? "–") },
      { id: "restarts", title: t("instances.restarts"), class: "num", label: true, down: true, sort: (one) => one.restarts, show: (cell, one) => say(cell, count(one.restarts)) },
      { id: "since", title: t("instances.since"), class: "num w-2", label: true, sort: (one) => Date.parse(one.since), show: (cell, one) => say(cell, ago(one.since)) },
      { id: "do", title: t("column.actions"), unseen: true, class: "fit whole", show: (cell, one) => {
        if (cell.firstChild || !context.may("operator")) return;
        put(cell, h("div", { class: "row end" }, button(t("instances.logs"), () => logs(one.account), { kind: "small" }),
          button(t("act.restart"), () => restart(one.account), { kind: "small" })));
      } },
    ],
  });
  table.el.hidden = true;
  put(root, title.el, panel(null, [table.el, none]));
  put(none, bones());

  async function load() {
    try {
      list = await all("/api/v1/instances", "instances");
    } catch (error) {
      if (!list) put(none, failed(error, load));
      return;
    }
    say(title.small, count(list.length));
    table.el.hidden = list.length === 0;
    table.set(list);
    put(none, list.length === 0 && empty(t("instances.none"), t("instances.none_text"),
      h("pre", {}, h("code", { text: 'instance: {command: ["python", "serve.py", "--port", "{port}"]}' }))));
  }

  const restart = (id) => ask({
    title: t("ask.restart", { id }), text: t("ask.restart_instance"), yes: t("act.restart"),
    act: async () => {
      await post(`${at("accounts", id)}/restart`);
      toast(t("done.restart", { id }));
      load();
    },
  });

  load();
  const timer = setInterval(load, EVERY);
  if (context.path[0] && context.may("operator")) logs(context.path[0]);
  return {
    leave() {
      clearInterval(timer);
      table.leave();
    },
  };
}

/** What a program writes, as it writes it. */
function logs(id) {
  let lines = [];
  let find = "";
  let source = null;
  const { dialog: box, body } = drawer(t("instances.log_of", { id }), () => source?.close());
  box.classList.add("wide");
  const log = h("pre", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": t("instances.log_of", { id }) });
  const state = h("span", { class: "soft small", role: "status" });
  const follow = h("input", { type: "checkbox", checked: true, id: "follow" });
  const shown = (line) => !find || line.toLowerCase().includes(find);
  const end = () => follow.checked && (log.scrollTop = log.scrollHeight);
  const draw = () => {
    log.textContent = lines.filter(shown).join("\n") || t("instances.nothing");
    end();
  };
  const more = (fresh) => {
    if (!fresh.length) return;
    const first = lines.length === 0;
    lines.push(...fresh);
    if (first || lines.length > MOST) {
      lines = lines.slice(-MOST);
      return draw();
    }
    const text = fresh.filter(shown).join("\n");
    if (text) log.append(log.textContent === t("instances.nothing") ? "" : "\n", text);
    end();
  };
  log.addEventListener("scroll", () => {
    const below = log.scrollHeight - log.scrollTop - log.clientHeight;
    if (below > 40) follow.checked = false;
    else if (below < 4) follow.checked = true;
  });
  follow.addEventListener("change", end);
  put(body, h("div", { class: "toolbar" }, search(t("instances.find"), "", later((text) => { find = text.toLowerCase(); draw(); }, 100)),
    h("label", { class: "row", for: "follow" }, follow, t("instances.follow")), state), log);
  put(log, icon("instances"));
  const path = `${at("instances", id)}/logs?tail=${TAIL}`;
  log.textContent = t("shell.loading");
  source = new EventSource(`${path}&follow=true`);
  let begun = false;
  source.addEventListener("lines", (event) => {
    const { lines: fresh } = JSON.parse(event.data);
    // A stream that came back begins with the last lines again.
    if (!begun) {
      lines = [];
      begun = true;
    }
    more(fresh);
    if (!lines.length) draw();
    say(state, t("instances.live"));
  });
  source.onerror = async () => {
    begun = false;
    say(state, t("pulse.away"));
    if (source.readyState !== EventSource.CLOSED) return;
    try {
      lines = (await get(path)).lines;
      draw();
      say(state, "");
    } catch (error) {
      log.textContent = explain(error);
    }
  };
}

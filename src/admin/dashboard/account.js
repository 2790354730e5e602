// One account in a window at the side: all that is known of it, its latest requests, and what can be done.

import { button, h, put, say } from "./dom.js";
import { at, get } from "./api.js";
import { spark } from "./chart.js";
import { actions } from "./account_actions.js";
import { drawer } from "./dialog.js";
import { ago, clock, count, moment, ms, percent, until } from "./format.js";
import { t, word } from "./i18n.js";
import { learn, live } from "./live.js";
import { success } from "./recent.js";
import { attempts } from "./attempts.js";
import { bones, empty, recovery, state, status, tone } from "./show.js";

/** How often what the event stream does not carry is asked for. */
const EVERY = 5_000;

export function detail(id, context, leave) {
  const box = drawer(id, () => {
    clearInterval(timer);
    leave();
  });
  const parts = { notice: h("div"), tools: h("div", { class: "row tools-of" }), facts: h("div"), requests: h("div") };
  put(box.body, parts.notice, parts.tools, parts.facts,
    h("section", {}, h("h3", { text: t("account.latest") }), parts.requests));
  put(parts.requests, bones(3));
  let offered = "";

  function update() {
    const account = live.accounts.get(id);
    if (!account) {
      if (live.complete) put(box.body, empty(t("account.gone"), t("account.gone_text")));
      return;
    }
    notice(parts.notice, account);
    if (context.may("operator")) {
      const list = actions(account, context).filter(Boolean);
      const now = list.map((item) => item.text).join();
      if (now !== offered) {
        offered = now;
        const does = (index) => () => actions(live.accounts.get(id), context).filter(Boolean)[index]?.act();
        put(parts.tools, list.map((item, index) => button(item.text, does(index), { kind: `small ${item.danger ? "danger" : ""}` })));
      }
    }
    facts(parts.facts, account);
  }

  async function requests() {
    try {
      const { requests: list } = await get(`/api/v1/requests?limit=15&account=${encodeURIComponent(id)}`);
      put(parts.requests, list.length ? h("ul", {}, list.map(line)) : h("p", { class: "soft", text: t("requests.none") }));
    } catch (error) {
      put(parts.requests, h("p", { class: "soft", text: error.message }));
    }
  }

  async function refresh() {
    if (live.state !== "live") return;
    try {
      learn(await get(at("accounts", id)));
    } catch {
      // It is gone, or the gateway is away: both are shown elsewhere.
    }
    requests();
  }

  update();
  requests();
  refresh();
  const timer = setInterval(refresh, EVERY);
  return { id, update, close: () => box.dialog.close() };
}

function notice(cell, account) {
  const left = recovery(account);
  const is = [account.status, account.last_error, left].join("|");
  if (cell.dataset.of === is) return;
  cell.dataset.of = is;
  const quiet = account.status === "healthy" || account.status === "full";
  put(cell, h("div", { class: `notice is-${tone(account.status)}` },
    h("div", { class: "row" }, state(account.status), left && h("span", { text: left }),
      h("span", { class: "grow" }), h("span", { class: "soft small", text: t("account.since", { time: clock(account.since) }) })),
    !quiet && account.last_error && h("p", { text: account.last_error }),
    !quiet && h("p", { class: "soft small", text: word("state_means", account.status) })));
}

function facts(cell, account) {
  const { response_ms: speed, credential, instance, breaker } = account;
  const ends = credential?.expires_at;
  const rows = [
    [t("column.in_flight"), `${account.in_flight} / ${account.max_concurrent || t("account.no_limit")}`],
    [t("column.first_byte"), speed ? `${ms(speed.ewma)} · p50 ${ms(speed.p50)} · p99 ${ms(speed.p99)}` : "–"],
    [t("column.requests"), t("account.counts", { all: count(account.requests), good: count(account.successes), bad: count(account.failures) })],
    [t("account.in_a_row"), account.consecutive_failures ? count(account.consecutive_failures) : null],
    [t("column.tokens"), count(account.tokens)],
    [t("account.breaker"), `${word("breaker", breaker?.state)}${breaker?.until ? ` · ${until(breaker.until) ?? ""}` : ""}`],
    [t("account.cooling"), account.cooling_until && until(account.cooling_until)],
    [t("account.cooling_models"), account.cooling_models?.map((it) => `${it.model} · ${until(it.until) ?? ""}`).join(", ")],
    [t("form.pool"), account.pool],
    [t("account.weight"), `${account.weight} · ${account.priority}`],
    [t("form.upstream"), account.upstream],
    [t("account.models"), account.models?.join?.(", ")],
    [t("account.credential"), word("credential", credential?.kind)],
    [t("account.token_ends"), ends && `${moment(ends)} · ${until(ends) ?? t("account.expired")}`],
    [t("account.renewed"), credential?.last_refresh && ago(credential.last_refresh)],
    [t("account.instance"), instance && `${word("instance", instance.state)} · pid ${instance.pid ?? "–"} · ${t("account.port", { n: instance.port ?? "–" })} · ${t("account.restarts", { n: instance.restarts })}`],
    [t("account.last_success"), ago(account.last_success)],
    [t("account.last_failure"), account.last_failure && `${ago(account.last_failure)}${account.last_error ? `: ${account.last_error}` : ""}`],
    [t("account.last_probe"), account.last_heartbeat && ago(account.last_heartbeat)],
    [t("account.source"), word("source", account.source) + (account.override ? ` · ${t("account.changed")}: ${account.override.join(", ")}` : "")],
  ].filter(([, value]) => value);
  const is = rows.map(([name]) => name).join();
  if (cell.dataset.of !== is) {
    cell.dataset.of = is;
    put(cell, h("section", {}, h("h3"), h("div", { class: "hour" })),
      h("section", {}, h("dl", { class: "facts" }, rows.map(([name]) => [h("dt", { text: name }), h("dd")]))));
  }
  const share = success(account);
  say(cell.querySelector("h3"), share === null ? t("account.hour") : `${t("account.hour")}: ${t("account.share", { share: percent(share) })}`);
  spark(cell.querySelector(".hour"), account.recent, 60).setAttribute("aria-label", t("account.hour"));
  cell.querySelectorAll("dd").forEach((dd, index) => say(dd, rows[index][1]));
}

function line(request) {
  return h("li", { class: "brief" },
    h("span", { class: "soft small", text: clock(request.began), title: moment(request.began) }), status(request.status),
    h("span", { class: "cutter", text: request.model ?? request.path, title: request.model }),
    attempts(request.tries), h("span", { class: "soft small", text: ms(request.duration_ms) }));
}

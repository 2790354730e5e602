// What the page knows of the gateway, kept as it is now by the gateway's event stream. One stream for all screens.

import { Problem, all, at, get } from "./api.js";
import { roll, take } from "./recent.js";

/** While nothing was heard for so long the gateway counts as away. */
const SILENCE = 6_000;
const FIRST_PAUSE = 1_000;
const LONGEST_PAUSE = 10_000;
const REFUSED_PAUSE = 60_000;
/** Beyond so many accounts that changed at once, all are asked for again instead of each. */
const SINGLY = 8;
const EVENTS = 200;
const FRESH = 60_000;
const HOUR = 3_600_000;

/** `state`: "starting", "live" or "away"; `since`: when that began; `retry`: when it is tried again. */
export const live = {
  state: "starting", since: Date.now(), retry: 0,
  overview: null, numbers: null, history: { every_s: 10, points: [] }, accounts: new Map(), complete: false, events: [],
};

const listeners = new Set();
let source = null;
let silence, again, wait = FIRST_PAUSE, running = false, pending = new Set(), fetching, asked = 0;
/** The stream brought something; and how many in a row were not taken. */
let opened = false, refused = 0;

/** `act` is called with "numbers", "accounts", "events" (and the event), "overview" or "link" after each change. */
export function watch(act) {
  listeners.add(act);
  return () => listeners.delete(act);
}

function tell(what, event) {
  for (const act of listeners) act(what, event);
}

/** A page that nobody looks at for so long listens no more, until somebody does. */
const REST = 60_000;
let rest, turn = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(rest);
  if (!running) return;
  if (document.visibilityState === "hidden") {
    rest = setTimeout(() => {
      turn++;
      close();
      clearTimeout(again);
    }, REST);
  } else if (!source) open();
});

export function start() {
  running = true;
  wait = FIRST_PAUSE;
  refused = 0;
  open();
}

export function stop() {
  running = false;
  turn++;
  close();
  clearTimeout(again);
  Object.assign(live, { state: "starting", overview: null, numbers: null, accounts: new Map(), complete: false, events: [] });
  live.history = { every_s: 10, points: [] };
}

function close() {
  clearTimeout(silence);
  source?.close();
  source = null;
}

function link(state) {
  if (live.state === state) return;
  live.state = state;
  live.since = Date.now();
  tell("link");
}

async function open() {
  close();
  // Whoever was about to open a stream before leaves it to this one.
  const mine = ++turn;
  try {
    await everything();
  } catch (error) {
    if (mine === turn) lost(error);
    return;
  }
  if (!running || mine !== turn) return;
  listen();
}

function listen() {
  close();
  const stream = new EventSource("/api/v1/events");
  source = stream;
  opened = false;
  const on = (name, act) => stream.addEventListener(name, (event) => {
    if (stream !== source) return;
    taken();
    heard();
    act(JSON.parse(event.data || "null"));
  });
  on("numbers", numbers);
  on("accounts", accounts);
  on("state", happened);
  on("missed", () => everything().catch(lost));
  // Only a call says why: a stream that ended is opened anew, an end of the session is not.
  stream.onerror = () => stream === source && broken();
  heard();
}

/** There is a place again: what happened meanwhile was not told. */
function taken() {
  opened = true;
  if (refused) everything().catch(lost);
  refused = 0;
}

function heard() {
  clearTimeout(silence);
  silence = setTimeout(broken, SILENCE);
}

async function broken() {
  const had = opened;
  close();
  try {
    await get("/api/v1/session");
  } catch (error) {
    lost(error);
    return;
  }
  // The gateway answers: the stream had come to its end, as each does.
  if (had) return later(FIRST_PAUSE);
  // Or there are too many listeners: the numbers are asked for until there is a place, less and less often.
  refused++;
  later(Math.min(FIRST_PAUSE * 3 ** refused, REFUSED_PAUSE), () => {
    refresh();
    listen();
  });
}

function lost(error) {
  close();
  if (!running || (error instanceof Problem && error.status === 401)) return;
  if (!(error instanceof Problem)) console.error(error);
  wait = Math.min(wait * 1.7, LONGEST_PAUSE);
  later(wait);
  link("away");
}

function later(pause, act = open) {
  if (!running) return;
  live.retry = Date.now() + pause;
  clearTimeout(again);
  again = setTimeout(act, pause);
}

/** Tries again at once. */
export function retry() {
  clearTimeout(again);
  open();
}

async function everything() {
  const [overview, history] = await Promise.all([get("/api/v1/overview"), get("/api/v1/history")]);
  if (!running) return;
  live.overview = overview;
  live.numbers = overview.rates;
  live.history = history;
  live.events = overview.events;
  wait = FIRST_PAUSE;
  link("live");
  tell("overview");
  await everyAccount();
}

/** All accounts in full, as after a change of which there are. */
export async function everyAccount() {
  const list = await all("/api/v1/accounts", "accounts");
  if (!running) return;
  live.accounts = new Map(list.map((one) => [one.id, one]));
  live.complete = true;
  asked = Date.now();
  tell("accounts");
}

/** Asks again for what the stream does not carry, such as weights, if that was long ago. */
export function freshen() {
  if (live.complete && Date.now() - asked > FRESH) everyAccount().catch(() => {});
}

function numbers(now) {
  live.numbers = now;
  if (live.overview) {
    const { accounts, by_status } = now;
    const serves = accounts.available > 0;
    Object.assign(live.overview, { by_status, status: serves ? "healthy" : "unhealthy", degraded: accounts.available < accounts.total });
    Object.assign(live.overview.accounts, accounts, { unavailable: accounts.total - accounts.available });
    live.overview.queue.waiting = now.waiting;
  }
  roll(live.accounts.values());
  extend(now);
  tell("numbers");
}

/** The charts go on by what is heard; the next visit gets the gateway's own points. */
function extend(now) {
  const { every_s, points } = live.history;
  const time = Date.parse(now.at);
  const last = points.at(-1);
  if (last && time - Date.parse(last.at) < every_s * 1000) return;
  const span = last ? Math.min(every_s, (time - Date.parse(last.at)) / 1000) : every_s;
  points.push({
    at: now.at, requests: now.requests_per_second * span, errors: now.errors_per_second * span,
    tokens: (now.tokens_per_minute / 60) * span, first_byte_ms: now.first_byte_ms,
    in_flight: now.in_flight, waiting: now.waiting, available: now.accounts.available,
  });
  while (points.length && time - Date.parse(points[0].at) > HOUR) points.shift();
}

function accounts({ changed, gone }) {
  for (const id of gone ?? []) live.accounts.delete(id);
  for (const one of changed ?? []) {
    const known = live.accounts.get(one.id);
    if (known) {
      take(known, one);
      const { ewma_ms, ...rest } = one;
      Object.assign(known, rest);
      known.response_ms = ewma_ms === null ? known.response_ms : { ...known.response_ms, ewma: ewma_ms };
    } else if (live.complete) ask(one.id);
  }
  tell("accounts");
}

function happened(event) {
  if (!live.events.some((one) => one.id === event.id)) live.events.unshift(event);
  live.events.length = Math.min(live.events.length, EVENTS);
  const action = event.action ?? "";
  const id = event.account ?? (action.startsWith("accounts.") ? event.target : null);
  // One that is gone is not asked for: it has no state any more.
  if (id && (action === "accounts.delete" || (event.account && !event.to))) forget(id);
  else if (id) ask(id);
  else if (live.complete && /^accounts\.|^reload/.test(action)) everyAccount().catch(() => {});
  if (event.kind === "operator") refresh();
  tell("events", event);
}

async function refresh() {
  try {
    const { events: _, ...rest } = await get("/api/v1/overview");
    if (!running) return;
    Object.assign(live.overview ?? {}, rest);
    tell("overview");
  } catch {
    // The stream notices when the gateway is away.
  }
}

/** What the stream does not carry, such as the last error, is asked for; a little later, as changes come in crowds. */
function ask(id) {
  pending.add(id);
  clearTimeout(fetching);
  fetching = setTimeout(async () => {
    const ids = [...pending];
    pending = new Set();
    try {
      if (ids.length > SINGLY) await everyAccount();
      else await Promise.all(ids.map(one));
    } catch {
      // As above.
    }
  }, 150);
}

async function one(id) {
  try {
    learn(await get(at("accounts", id)));
  } catch (error) {
    if (error.status !== 404) throw error;
    forget(id);
  }
}

function forget(id) {
  pending.delete(id);
  live.accounts.delete(id);
  tell("accounts");
}

/** Takes in an account as an answer of the API shows it. */
export function learn(account) {
  live.accounts.set(account.id, account);
  tell("accounts");
}

// Calls the management API: JSON, the session's cookie, the CSRF header on writes, errors in one shape.

/** How long an answer may take; what asks others (a probe, a renewal, a reload) may take longer. */
const PATIENCE = 15_000;
const LONG = 90_000;

/** Somebody is at the page who pressed or moved something so lately. What it asks by itself is no use of the session. */
const AT_IT = 60_000;
let touched = Date.now();
for (const event of ["pointerdown", "pointermove", "keydown"]) {
  addEventListener(event, () => { touched = Date.now(); }, { capture: true, passive: true });
}

/** Proves that a write comes from this page: another site cannot set a header. */
let csrf = null;
let signedOut = () => {};
let renewed = () => {};

/** Why a call was not done. `code` is the API's own word, or `away` when the gateway did not answer. */
export class Problem extends Error {
  constructor(status, code, message, body) {
    super(message);
    Object.assign(this, { status, code, body });
  }
}

export function onSignedOut(act) {
  signedOut = act;
}

/** `act` is told whose session it is now, when that is another one than before. */
export function onRenewed(act) {
  renewed = act;
}

export function trust(token) {
  csrf = token;
}

export async function call(method, path, body, options = {}) {
  try {
    return await once(method, path, body, options);
  } catch (error) {
    if (error.code !== "csrf") throw error;
    // Another tab has signed in since: the cookie is of that session, and what is sent beside it of the one before.
    const who = await once("GET", "/api/v1/session", null, options);
    trust(who.csrf);
    renewed(who);
    return once(method, path, body, options);
  }
}

async function once(method, path, body, { long = false, quiet = false, accept = "application/json" }) {
  const headers = { Accept: accept };
  if (method !== "GET") {
    headers["Content-Type"] = "application/json";
    headers["X-Poolgate-CSRF"] = csrf ?? "";
  }
  if (Date.now() - touched > AT_IT) headers["X-Poolgate-Away"] = "1";
  let response, text;
  try {
    const signal = AbortSignal.timeout(long ? LONG : PATIENCE);
    const sent = method === "GET" ? undefined : JSON.stringify(body ?? {});
    response = await fetch(path, { method, headers, body: sent, signal, credentials: "same-origin", cache: "no-store" });
    text = await response.text();
  } catch (error) {
    throw new Problem(0, "away", error.message);
  }
  let answer = null;
  if (response.headers.get("Content-Type")?.startsWith("application/json")) {
    try {
      answer = text ? JSON.parse(text) : null;
    } catch {
      throw new Problem(response.status, "bad_answer", "the answer is not JSON");
    }
  } else if (response.ok) answer = text;
  if (response.ok) return answer;
  const error = answer?.error ?? {};
  if (response.status === 401 && !quiet) signedOut();
  throw new Problem(response.status, error.code ?? "failed", error.message ?? `HTTP ${response.status}`, answer);
}

export const get = (path, options) => call("GET", path, null, options);
export const post = (path, body, options) => call("POST", path, body, options);
export const patch = (path, body) => call("PATCH", path, body);
export const remove = (path) => call("DELETE", path);

/** Every item of a list, page by page; a list is cut off after `most` items, and `cut` says so then. */
export async function all(path, name, most = 20_000) {
  const items = [];
  let cursor = null;
  do {
    const more = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const page = await get(`${path}${path.includes("?") ? "&" : "?"}limit=1000${more}`);
    items.push(...page[name]);
    cursor = page.next ?? null;
  } while (cursor !== null && items.length < most);
  items.cut = cursor !== null;
  return items;
}

/** The path of one thing; its id may hold anything. */
export const at = (...parts) => `/api/v1/${parts.map(encodeURIComponent).join("/")}`;

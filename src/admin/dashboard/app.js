// The page: who is signed in, which screen is shown, and what stands around it.

import { call, get, onRenewed, onSignedOut, trust } from "./api.js";
import { button, h, mark, put, say } from "./dom.js";
import { dialog, toast } from "./dialog.js";
import { LANGUAGES, language, speak, t, translate } from "./i18n.js";
import { keep, kept } from "./kept.js";
import { live, retry, start, stop, watch } from "./live.js";
import { login } from "./login.js";
import { bones, failed, fine } from "./show.js";

const SCREENS = ["overview", "accounts", "requests", "keys", "slots", "usage", "instances", "config"];
const ROLES = ["metrics", "viewer", "operator", "admin"];
const THEMES = ["auto", "light", "dark"];

const root = document.getElementById("screen");
let me = null;
let shown = null; // {name, screen}

/** What every screen gets: where it is, what may be done, and the way to another place. */
function context(name, path, query) {
  const here = {
    path, query,
    may: (role) => ROLES.indexOf(me?.role) >= ROLES.indexOf(role),
    /** Is this what the address names? */
    isAt: (id) => place().name === name && place().path[0] === id,
    /** Writes filters into the address, so that it can be kept and sent. */
    remember(values) {
      // A window says a moment later that it was closed: somebody may be on the way to another screen by then.
      if (place().name !== name) return;
      for (const [key, value] of Object.entries(values)) {
        if (value) here.query.set(key, value);
        else here.query.delete(key);
      }
      const text = here.query.toString();
      history.replaceState(null, "", `#/${[name, ...here.path].map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`);
    },
  };
  return here;
}

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(plain);
  const name = SCREENS.includes(parts[0]) ? parts[0] : "overview";
  return { name, path: parts.slice(1), query: new URLSearchParams(query) };
}

function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function go() {
  if (!me) return;
  const { name, path, query } = place();
  for (const link of document.querySelectorAll("#nav a")) {
    mark(link, "aria-current", link.hash === `#/${name}` ? "page" : null);
  }
  open(false);
  document.title = `${t(`${name}.title`)} · poolgate`;
  if (shown?.name === name && shown.screen?.go) {
    shown.screen.go(path, query);
    return;
  }
  leave();
  const mine = (shown = { name, screen: null });
  // Another screen may be shown by then.
  const slow = setTimeout(() => shown === mine && put(root, bones()), 120);
  try {
    const { mount } = await import(`./${name}.js`);
    clearTimeout(slow);
    if (shown !== mine) return;
    closeAll();
    put(root);
    root.dataset.screen = name;
    mine.screen = mount(root, context(name, path, query));
    scrollTo(0, 0);
  } catch (error) {
    clearTimeout(slow);
    console.error(error);
    if (shown === mine) put(root, failed(error, go));
  }
}

/** All windows but one that holds what is shown only once. */
function closeAll() {
  for (const box of document.querySelectorAll("dialog[open]:not(.must)")) box.close();
}

function leave() {
  shown?.screen?.leave?.();
  shown = null;
}

watch((what, event) => {
  if (what === "link" || what === "overview" || what === "numbers") pulse();
  if (what === "accounts" || what === "overview") badge();
  shown?.screen?.update?.(what, event);
});

/** The state of the gateway beside the name, and a line above the screen while it cannot be reached. */
function pulse() {
  const overview = live.overview;
  const away = live.state === "away";
  const state = away ? "away" : !overview ? null
    : overview.draining || overview.status !== "healthy" ? "down" : overview.degraded ? "degraded" : "live";
  const box = document.getElementById("pulse");
  mark(box, "data-state", me ? state : null);
  say(document.getElementById("pulse-text"), !state ? "" : overview?.draining && !away ? t("pulse.draining") : t(`pulse.${state}`));
  document.body.classList.toggle("away", away && Boolean(me));
  if (overview) say(document.getElementById("about"), `poolgate ${overview.version}`);
  const banner = document.getElementById("banner");
  if (away && me) {
    if (!banner.firstChild) {
      banner.className = "is-bad";
      put(banner, h("b", { text: t("away.title") }), h("span", { text: t("away.text") }),
        button(t("do.again"), retry, { kind: "small", picture: "reload" }));
    }
  } else if (banner.firstChild) put(banner);
}

function badge() {
  const sick = [...live.accounts.values()].filter((account) => !fine(account)).length;
  const box = document.getElementById("badge-accounts");
  box.hidden = sick === 0;
  say(box, sick);
  mark(box, "aria-label", sick ? t("accounts.sick", { n: sick }) : null);
}

/** Somebody is signed in. */
function enter(who) {
  me = who;
  trust(who.csrf);
  document.body.classList.add("in");
  start();
  go();
}

function signedOut(told = true) {
  const was = me;
  me = null;
  trust(null);
  stop();
  leave();
  closeAll();
  document.body.classList.remove("in", "away");
  pulse();
  document.title = "poolgate";
  put(document.getElementById("banner"));
  login(root, enter);
  if (was && told) toast(t("login.over"), "warn");
}

function appearance() {
  const theme = THEMES.includes(kept("theme")) ? kept("theme") : "auto";
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const label = t(`theme.${theme}`);
  const switcher = document.getElementById("theme");
  mark(switcher, "aria-label", label);
  switcher.title = label;
  return theme;
}

function words() {
  translate(document);
  const other = LANGUAGES.find(([of]) => of !== language());
  say(document.getElementById("language-name"), other[1]);
  mark(document.getElementById("language"), "aria-label", other[1]);
  appearance();
}

function open(is) {
  document.getElementById("nav").classList.toggle("open", is);
  mark(document.getElementById("more"), "aria-expanded", is);
}

document.getElementById("more").addEventListener("click", () => open(!document.getElementById("nav").classList.contains("open")));
document.getElementById("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(appearance()) + 1) % THEMES.length];
  keep("theme", next);
  appearance();
  toast(t(`theme.${next}`));
});
document.getElementById("language").addEventListener("click", async () => {
  await speak(LANGUAGES.find(([of]) => of !== language())[0]);
  words();
  pulse();
  if (!me) return login(root, enter);
  leave();
  go();
});
document.getElementById("leave").addEventListener("click", async () => {
  try {
    await call("DELETE", "/api/v1/session", null, { quiet: true });
  } catch {
    // It is over for this page in any case.
  }
  signedOut(false);
});
document.getElementById("help").addEventListener("click", help);

function help() {
  const { body } = dialog(t("shell.help"));
  const keys = [["g o … g c", "go"], ["/", "search"], ["↑ ↓ j k", "rows"], ["Enter", "open"], ["Esc", "close"], ["?", "help"]];
  put(body, h("dl", { class: "facts" }, keys.map(([key, what]) =>
    [h("dt", {}, h("kbd", { text: key })), h("dd", { text: t(`help.${what}`) })])));
}

/** "g" and the letter of a screen goes there, "/" to the search, "?" tells. */
const LETTERS = { o: "overview", a: "accounts", r: "requests", k: "keys", s: "slots", u: "usage", i: "instances", c: "config" };
let first = 0;
addEventListener("keydown", (event) => {
  if (!me || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key === "g") first = event.timeStamp;
  else if (event.timeStamp - first < 1500 && LETTERS[event.key]) {
    first = 0;
    location.hash = `#/${LETTERS[event.key]}`;
  } else if (event.key === "?") help();
  else if (event.key === "/") {
    const field = root.querySelector("[data-search]");
    if (field) {
      event.preventDefault();
      field.focus();
    }
  } else if ((event.key === "ArrowDown" || event.key === "j") && document.activeElement === document.body) {
    root.querySelector("tbody a, tbody button")?.focus();
  }
});

addEventListener("hashchange", go);
onSignedOut(() => me && signedOut());
// Another tab has signed in anew, perhaps as somebody else.
onRenewed((who) => {
  if (!me) return;
  const before = me.role;
  me = who;
  if (who.role === before) return;
  leave();
  go();
});

/** The link that a first start prints holds a code that is good once; it is taken out of the address before anything else. */
async function begin() {
  words();
  const link = /^#login=(.+)$/.exec(location.hash)?.[1];
  if (link) {
    history.replaceState(null, "", location.pathname);
    try {
      return enter(await call("POST", "/api/v1/session", { link }, { quiet: true }));
    } catch (error) {
      return login(root, enter, error.code === "away" ? error : new Error(t("login.link_used")));
    }
  }
  try {
    enter(await get("/api/v1/session", { quiet: true }));
  } catch (error) {
    login(root, enter, error.status === 401 ? null : error);
  } finally {
    document.body.classList.remove("starting");
  }
}
begin();

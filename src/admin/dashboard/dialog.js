// Windows over the page: to ask before something is done, to look at one thing, to choose what to do, to be told.

import { button, h, put } from "./dom.js";
import { t } from "./i18n.js";

function frame(kind, title, { leave, must } = {}) {
  const heading = h("h2", { id: `d-${++count}`, text: title });
  const body = h("div", { class: "body" });
  const dialog = h("dialog", { class: kind, "aria-labelledby": heading.id },
    h("header", {}, heading, !must && button(null, () => dialog.close(), { kind: "quiet", picture: "close", title: t("do.close") })), body);
  // A browser asks once before it closes what Escape was pressed in, and not the second time: the key must not get there.
  if (must) {
    dialog.addEventListener("keydown", (event) => event.key === "Escape" && event.preventDefault());
    dialog.addEventListener("cancel", (event) => event.preventDefault());
  }
  dialog.addEventListener("close", () => {
    dialog.remove();
    leave?.();
  });
  // A click beside it closes it, as long as nothing was written into it.
  dialog.addEventListener("pointerdown", (event) => {
    const typed = [...dialog.querySelectorAll("input, textarea")].some((one) => one.value !== one.defaultValue);
    if (event.target === dialog && !dialog.classList.contains("must") && !typed && beside(dialog, event)) dialog.close();
  });
  document.body.append(dialog);
  return { dialog, heading, body };
}
let count = 0;

function beside(dialog, { clientX, clientY }) {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return clientX < left || clientX > right || clientY < top || clientY > bottom;
}

/** At the side, about one thing. `leave` is called when it was closed. */
export function drawer(title, leave) {
  const made = frame("drawer", title, { leave });
  made.dialog.showModal();
  return made;
}

/** In the middle. `must`: it holds what is shown only once, and is closed by its button alone. */
export function dialog(title, { wide, must, leave } = {}) {
  const made = frame(`dialog ${wide ? "wide" : ""} ${must ? "must" : ""}`, title, { leave, must });
  made.dialog.showModal();
  return made;
}

/** Asks, and does it: the answer of `act`, or null if it was not to be. What goes wrong is shown in place. */
export function ask({ title, text, yes, danger = true, more, act }) {
  return new Promise((answer) => {
    let result = null;
    const { dialog: box, body } = dialog(title, { leave: () => answer(result) });
    const wrong = h("p", { class: "wrong", role: "alert" });
    const go = button(yes, async () => {
      result = await during(go, wrong, act);
      if (result !== null) box.close();
    }, { kind: danger ? "danger" : "primary" });
    const no = button(t("do.cancel"), () => box.close());
    put(body, text.split("\n").map((line) => h("p", { text: line })), more, wrong, h("footer", {}, no, go));
    // What destroys something is not one Enter away.
    (danger ? no : go).focus();
  });
}

/** A form in a dialog: `act()` on submit; closed when it was done, unless it `stays`. */
export function form(title, { fields, yes, act, wide, leave, stays }) {
  const { dialog: box, body } = dialog(title, { wide, leave });
  const wrong = h("p", { class: "wrong", role: "alert" });
  const go = h("button", { class: "button primary", type: "submit" }, h("span", { text: yes }));
  const submit = async (event) => {
    event.preventDefault();
    const done = await during(go, wrong, () => act());
    if (done !== null && !stays) box.close();
  };
  put(body, h("form", { on: { submit }, autocomplete: "off" }, fields, wrong,
    h("footer", {}, button(stays ? t("do.close") : t("do.cancel"), () => box.close()), go)));
  body.querySelector("input, select, textarea")?.focus();
  return box;
}

/** Runs `act` with the button at rest. Null: it went wrong, and `wrong` says how. */
export async function during(go, wrong, act) {
  go.classList.add("busy");
  go.setAttribute("aria-busy", "true");
  wrong.textContent = "";
  try {
    return (await act()) ?? true;
  } catch (error) {
    wrong.textContent = explain(error);
    return null;
  } finally {
    go.classList.remove("busy");
    go.removeAttribute("aria-busy");
  }
}

/** An error in the page's words where it has some, else in the gateway's. */
export function explain(error) {
  if (error.code === "away") return t("error.away");
  if (error.code === "forbidden") return t("error.forbidden");
  return error.message;
}

/** Says something for a while. `kind`: "good", "warn", "bad". */
export function toast(text, kind = "good") {
  const box = h("p", { class: `toast is-${kind}`, text });
  const all = document.getElementById("toasts");
  all.append(box);
  while (all.children.length > 4) all.firstChild.remove();
  setTimeout(() => box.remove(), kind === "bad" ? 9000 : 4500);
}

/** What can be done with one thing, beside the button that was pressed. `items`: [{text, act, danger}], null is a line. */
export function menu(anchor, items) {
  const close = () => box.hidePopover();
  const box = h("div", { class: "menu", role: "menu", popover: "auto" }, items.map((item) => item
    ? h("button", { type: "button", role: "menuitem", class: item.danger && "danger", text: item.text, on: { click: () => { close(); item.act(); } } })
    : h("hr")));
  (anchor.closest("dialog") ?? document.body).append(box);
  box.showPopover();
  const at = anchor.getBoundingClientRect();
  box.style.left = `${Math.max(8, Math.min(at.right - box.offsetWidth, innerWidth - box.offsetWidth - 8))}px`;
  box.style.top = `${at.bottom + 4 + box.offsetHeight > innerHeight ? Math.max(8, at.top - box.offsetHeight - 4) : at.bottom + 4}px`;
  anchor.setAttribute("aria-expanded", "true");
  const buttons = [...box.querySelectorAll("button")];
  buttons[0]?.focus();
  box.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    buttons.at((buttons.indexOf(document.activeElement) + by) % buttons.length)?.focus();
  });
  box.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    anchor.setAttribute("aria-expanded", "false");
    box.remove();
    if (!document.querySelector("dialog[open]") || anchor.closest("dialog")) anchor.focus();
  });
}

/** Puts a text into the clipboard and says so on the button. */
export async function copy(text, button) {
  const label = button.querySelector("span");
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = t("do.copied");
  } catch {
    // Without TLS a browser has no clipboard for pages but on this machine: then it is marked, to be copied by hand.
    const shown = button.parentElement.querySelector("code, pre");
    if (shown) getSelection().selectAllChildren(shown);
    label.textContent = t("do.marked");
  }
  setTimeout(() => { label.textContent = t("do.copy"); }, 2000);
}

/** A text with a button that copies it. */
export function code(text) {
  const pre = h("pre", { tabindex: "0" }, h("code", { text }));
  const go = button(t("do.copy"), () => copy(pre.textContent, go), { kind: "small", picture: "copy" });
  return h("div", { class: "code" }, pre, go);
}

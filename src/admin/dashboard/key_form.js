// Makes and changes a key; shows a new one once, with what each client needs to use it.

import { choice, field, h, put, button } from "./dom.js";
import { at, get, patch, post } from "./api.js";
import { code, copy, dialog, form, toast } from "./dialog.js";
import { t } from "./i18n.js";
import { recipes, gateway } from "./recipes.js";
import { live } from "./live.js";

const listed = (input) => input.value.split(/[\s,]+/).filter(Boolean);
const number = (value, least) => h("input", { type: "number", min: least, step: 1, inputmode: "numeric", value: value ?? "" });

/** The tiers that the configuration has; `default` is always there. */
async function tiers() {
  try {
    const { config } = await get("/api/v1/config");
    return [...new Set(["default", ...Object.keys(config.tiers ?? {})])];
  } catch {
    return ["default"];
  }
}

/** `key`: the one to change; none: another one is made. `done` is called afterwards. */
export async function keyForm(done, key) {
  const names = await tiers();
  if (key && !names.includes(key.tier)) names.push(key.tier);
  const name = h("input", { maxlength: 128, required: true, value: key?.name ?? "", defaultValue: key?.name });
  const tier = choice(names.map((one) => [one, one]), key?.tier ?? names.find((one) => one !== "default") ?? "default");
  const days = number("", 1);
  const models = h("input", { value: (key?.models ?? []).join(", "), placeholder: "*", spellcheck: "false" });
  const account = h("input", { value: key?.account ?? "", list: "some-accounts", spellcheck: "false" });
  const most = number(key?.max_concurrent || "", 0);
  const ips = h("input", { value: (key?.allowed_ips ?? []).join(", "), spellcheck: "false", placeholder: "10.0.0.0/8" });
  const limit = limits(key?.limits ?? []);
  const notes = h("textarea", { rows: 2, value: key?.notes ?? "" });
  const options = h("datalist", { id: "some-accounts" }, [...live.accounts.keys()].slice(0, 500).map((id) => h("option", { value: id })));

  const more = h("details", { open: Boolean(key) }, h("summary", { text: t("form.more") }),
    field(t("form.models"), models, t("form.models_hint")),
    h("div", { class: "fields" }, field(t("form.account"), account, t("form.account_hint")), field(t("form.at_once"), most, t("form.none_hint"))), options,
    limit.el,
    field(t("form.ips"), ips, t("form.ips_hint")), field(t("form.notes"), notes));
  form(key ? t("form.change", { id: key.name }) : t("keys.create"), {
    yes: key ? t("do.save") : t("keys.create"),
    fields: [
      field(t("form.name"), name, t("form.name_hint")),
      h("div", { class: "fields" }, field(t("form.tier"), tier), field(t("form.days"), days, key?.expires_at ? t("form.days_change") : t("form.days_hint"))), more],
    async act() {
      const asked = { name: name.value.trim(), tier: tier.value };
      if (days.value) asked.days = Number(days.value);
      if (key || models.value.trim()) asked.models = listed(models);
      if (account.value.trim()) asked.account = account.value.trim();
      else if (key?.account) asked.account = null;
      if (key || most.value) asked.max_concurrent = Number(most.value || 0);
      if (key || ips.value.trim()) asked.allowed_ips = listed(ips);
      const wanted = limit.values();
      if (wanted.length || key?.limits?.length) asked.limits = wanted;
      if (key || notes.value.trim()) asked.notes = notes.value.trim();
      if (key) {
        await patch(at("keys", key.id), asked);
        toast(t("done.change", { id: asked.name }));
        done();
      } else showKey(await post("/api/v1/keys", asked), done);
    },
  });
}

/** As many limits as there are, and one to fill in. */
function limits(known) {
  const rows = [];
  const list = h("div");
  const add = (one) => {
    rows.push(limitRow(one));
    list.append(rows.at(-1).el);
    return rows.at(-1);
  };
  (known.length ? known : [undefined]).forEach(add);
  const more = button(t("form.limit_more"), () => add().el.querySelector("input").focus(), { kind: "small", picture: "plus" });
  return { el: h("div", {}, list, more), values: () => rows.map((row) => row.value()).filter(Boolean) };
}

function limitRow(known) {
  const units = ["requests", "tokens", "cost"];
  const unit = units.find((one) => known?.[one] !== undefined) ?? "requests";
  const amount = number(known?.[unit] ?? "", 0);
  amount.step = "any";
  const of = choice(units.map((one) => [one, t(`unit.${one}`)]), unit);
  const window = h("input", { value: known?.window ?? "", placeholder: "5h", spellcheck: "false" });
  const models = h("input", { value: known?.models ?? "", placeholder: "*", spellcheck: "false" });
  const el = h("div", { class: "limit" }, field(t("form.limit"), amount, t("form.limit_hint")),
    h("div", { class: "fields" }, field(t("form.unit"), of), field(t("form.window"), window), field(t("form.limit_models"), models)));
  const value = () => {
    if (!amount.value) return null;
    const whose = models.value.trim() ? { models: models.value.trim() } : {};
    return { ...whose, [of.value]: Number(amount.value), window: window.value.trim() || "1h" };
  };
  return { el, value };
}

/** Shows a key that nobody can show again. `leave` is called when the window was closed. */
export async function showKey(made, leave) {
  const address = h("input", { spellcheck: "false", value: await gateway() });
  // What is closed by mistake cannot be opened again.
  const { dialog: box, body } = dialog(t("keys.made", { name: made.name }), { wide: true, must: true, leave });
  const tabs = h("div", { class: "tabs", role: "tablist", "aria-label": t("keys.clients") });
  const place = h("div", { role: "tabpanel", tabindex: "0", id: "recipe" });
  const kinds = recipes(address.value, made.key);
  let chosen = kinds[0].id;
  const show = () => {
    for (const tab of tabs.children) {
      tab.setAttribute("aria-selected", String(tab.dataset.of === chosen));
      tab.tabIndex = tab.dataset.of === chosen ? 0 : -1;
    }
    const recipe = recipes(address.value.trim().replace(/\/+$/, ""), made.key).find((one) => one.id === chosen);
    put(place, recipe.parts.map(({ text, where }) => [where && h("p", { class: "label", text: where }), code(text)]));
    place.setAttribute("aria-labelledby", `tab-${chosen}`);
  };
  put(tabs, kinds.map(({ id, name }) => h("button", {
    type: "button", role: "tab", id: `tab-${id}`, "data-of": id, "aria-controls": "recipe", text: name, on: { click: () => { chosen = id; show(); } },
  })));
  tabs.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    chosen = kinds.at((kinds.findIndex((one) => one.id === chosen) + by) % kinds.length).id;
    show();
    tabs.querySelector("[aria-selected='true']").focus();
  });
  address.addEventListener("input", show);
  const secret = h("code", { id: "new-key", text: made.key });
  const take = button(t("do.copy"), () => copy(made.key, take), { kind: "primary", picture: "copy" });
  put(body, h("p", { text: t("keys.once") }), h("div", { class: "secret" }, secret, take),
    h("section", { class: "use" }, h("h3", { text: t("keys.how") }), field(t("keys.address"), address), tabs, place),
    h("footer", {}, button(t("keys.kept"), () => box.close())));
  show();
  take.focus();
}

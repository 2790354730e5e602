// Forms for one account: to add it, and to change what may be changed while it serves.

import { choice, field, h } from "./dom.js";
import { at, patch, post } from "./api.js";
import { credentialFields } from "./credential.js";
import { form, toast } from "./dialog.js";
import { t } from "./i18n.js";
import { learn, live } from "./live.js";

const KNOWN = ["openai", "anthropic", "gemini"];

const number = (value, least = 0) => h("input", { type: "number", min: least, step: 1, inputmode: "numeric", value: value ?? "" });
const whole = (input) => (input.value === "" ? null : Number(input.value));

export function accountForm() {
  const pools = (live.overview?.pools ?? []).map((pool) => [pool.name, pool.name]);
  const pool = choice(pools, pools[0]?.[0]);
  const id = h("input", { required: true, pattern: "[A-Za-z0-9._@+\\-]+", maxlength: 64, spellcheck: "false", autocapitalize: "off" });
  const upstream = h("input", { required: true, list: "upstreams", spellcheck: "false", autocapitalize: "off", value: "openai" });
  const credential = credentialFields();
  const [weight, most, priority] = [number(1, 0), number(0), number(0, -1000)];
  form(t("accounts.add"), {
    yes: t("accounts.add"),
    fields: [
      h("div", { class: "fields" }, field(t("form.id"), id, t("form.id_hint")), field(t("form.pool"), pool)),
      field(t("form.upstream"), upstream, t("form.upstream_hint")),
      h("datalist", { id: "upstreams" }, KNOWN.map((name) => h("option", { value: name }))),
      credential.el,
      h("div", { class: "fields" }, field(t("form.weight"), weight), field(t("form.max_concurrent"), most, t("form.none_hint"))),
      field(t("form.priority"), priority, t("form.priority_hint")),
    ],
    async act() {
      const made = await post("/api/v1/accounts", {
        id: id.value.trim(), pool: pool.value, upstream: upstream.value.trim(), credential: credential.value(),
        weight: whole(weight) ?? 1, max_concurrent: whole(most) ?? 0, priority: whole(priority) ?? 0,
      });
      credential.clear();
      learn(made);
      toast(t("done.add", { id: made.id }));
    },
  });
}

export function changeForm(account) {
  const [weight, most, priority] = [number(account.weight), number(account.max_concurrent), number(account.priority, -1000)];
  form(t("form.change", { id: account.id }), {
    yes: t("do.save"),
    fields: [
      h("div", { class: "fields" }, field(t("form.weight"), weight, t("form.weight_hint")), field(t("form.max_concurrent"), most, t("form.none_hint"))),
      field(t("form.priority"), priority, t("form.priority_hint")),
      account.source !== "api" && h("p", { class: "soft small", text: t("form.override_hint") }),
    ],
    async act() {
      const wanted = { weight: whole(weight), max_concurrent: whole(most), priority: whole(priority) };
      const changed = Object.entries(wanted).filter(([name, value]) => value !== account[name]);
      if (!changed.length) return;
      learn(await patch(at("accounts", account.id), Object.fromEntries(changed)));
      toast(t("done.change", { id: account.id }));
    },
  });
}

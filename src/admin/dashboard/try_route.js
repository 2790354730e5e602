// Tries a request that is not made: which account would serve it, and why none of the others.

import { field, h, put } from "./dom.js";
import { post } from "./api.js";
import { form } from "./dialog.js";
import { t } from "./i18n.js";
import { empty } from "./show.js";

/** Asks for a model and a key; the answer stands below, and another can be tried. */
export function tryRoute() {
  const model = h("input", { spellcheck: "false", name: "model" });
  const key = h("input", { type: "password", autocomplete: "off", spellcheck: "false" });
  const path = h("input", { value: "/v1/chat/completions", spellcheck: "false" });
  const answer = h("div", { role: "status", id: "routed" });
  form(t("route.title"), {
    wide: true, stays: true, yes: t("route.go"),
    fields: [
      h("div", { class: "fields" }, field(t("route.model"), model), field(t("route.key"), key, t("route.key_hint"))),
      field(t("route.path"), path), answer,
    ],
    async act() {
      put(answer);
      const asked = { path: path.value.trim() };
      if (model.value.trim()) asked.model = model.value.trim();
      if (key.value) asked.key = key.value;
      show(answer, await post("/api/v1/route", asked));
    },
  });
}

function show(answer, { pool, account, others }) {
  put(answer,
    account ? h("p", {}, t("route.goes_to", { pool }), " ", h("b", { text: account })) : empty(t("route.nobody"), t("route.nobody_text", { pool })),
    h("dl", { class: "facts" }, others.map((one) => [h("dt", { text: one.account }), h("dd", { text: one.reason })])));
}

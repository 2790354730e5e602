// Who are you: an admin token in, a session out. The token is kept nowhere.

import { call } from "./api.js";
import { field, h, put } from "./dom.js";
import { during, explain } from "./dialog.js";
import { t } from "./i18n.js";

export function login(root, enter, problem) {
  const input = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true, spellcheck: "false" });
  const wrong = h("p", { class: "wrong", role: "alert", text: problem ? explain(problem) : "" });
  const go = h("button", { class: "button primary", type: "submit" }, h("span", { text: t("login.go") }));
  const submit = async (event) => {
    event.preventDefault();
    const who = await during(go, wrong, async () => {
      try {
        return await call("POST", "/api/v1/session", { token: input.value.trim() }, { quiet: true });
      } catch (error) {
        if (error.status === 401) error.message = t("login.unknown");
        if (error.status === 429) error.message = t("login.too_many");
        throw error;
      }
    });
    if (who === null) return input.select();
    input.value = "";
    enter(who);
  };
  put(root, h("section", { class: "login" },
    h("h1", { text: t("login.title") }),
    h("p", { class: "soft", text: t("login.text") }),
    h("form", { on: { submit } },
      // Password stores want a name to keep a token under.
      h("input", { class: "unseen", type: "text", name: "username", value: "poolgate", autocomplete: "username", tabindex: "-1", "aria-hidden": "true", readonly: true }),
      field(t("login.token"), input), go, wrong),
    h("details", {}, h("summary", { text: t("login.where") }),
      h("p", { text: t("login.file") }), h("pre", { tabindex: "0" }, h("code", { text: "cat data/admin.token" })))));
  input.focus();
}

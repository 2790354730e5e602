// The part of a form that asks for an account's credential: each kind that names no file of the gateway's machine.

import { choice, field, h, put } from "./dom.js";
import { t } from "./i18n.js";

const secret = (required) => h("input", { type: "password", required, autocomplete: "off", spellcheck: "false" });
const plain = (props) => h("input", { autocapitalize: "off", spellcheck: "false", ...props });

/** Each kind: its fields, and what they say. */
const KINDS = {
  api_key: () => one("api_key"),
  bearer: () => one("bearer"),
  oauth2,
  json,
  none: () => ({ fields: [], value: () => "none" }),
};

/** `{el, value(), clear()}`; `value()` throws where what was pasted cannot be read. */
export function credentialFields() {
  const place = h("div");
  let asked;
  const show = (kind) => {
    asked = KINDS[kind]();
    put(place, asked.fields);
  };
  const names = { ...Object.fromEntries(["api_key", "bearer", "oauth2", "none"].map((kind) => [kind, t(`credential.${kind}`)])), json: t("form.credential_other") };
  const kind = choice(Object.keys(KINDS).map((name) => [name, names[name]]), "api_key", show);
  show("api_key");
  return {
    el: [field(t("form.credential_kind"), kind), place],
    value: () => asked.value(),
    clear: () => place.querySelectorAll("input, textarea").forEach((input) => { input.value = ""; }),
  };
}

function one(kind) {
  const input = secret(true);
  return { fields: [field(t(`credential.${kind}`), input, t("form.credential_hint"))], value: () => ({ [kind]: input.value.trim() }) };
}

/** A login that is renewed: without a refresh token the client's own. */
function oauth2() {
  const [url, id, scope] = [plain({ type: "url", required: true, placeholder: "https://login.example.com/oauth/token" }), plain({ required: true }), plain()];
  const [client, refresh] = [secret(false), secret(false)];
  const said = { token_url: url, client_id: id, client_secret: client, refresh_token: refresh, scope };
  return {
    fields: [
      field(t("form.token_url"), url),
      h("div", { class: "fields" }, field(t("form.client_id"), id), field(t("form.client_secret"), client, t("form.client_secret_hint"))),
      field(t("form.refresh_token"), refresh, t("form.refresh_token_hint")),
      field(t("form.scope"), scope),
    ],
    value() {
      const given = Object.entries(said).map(([name, input]) => [name, input.value.trim()]).filter(([, text]) => text);
      return { oauth2: Object.fromEntries(given) };
    },
  };
}

/** Whatever the configuration takes. */
function json() {
  const input = h("textarea", { rows: 5, required: true, autocomplete: "off", spellcheck: "false", placeholder: '{"header": {"name": "x-api-key", "value": "…"}}' });
  return {
    fields: [field("JSON", input, t("form.credential_json_hint"))],
    value() {
      try {
        return JSON.parse(input.value);
      } catch {
        // The parser's own words would quote the secret.
        throw new Error(t("form.credential_json_wrong"));
      }
    },
  };
}

// What each client needs to come here: the same lines as `poolgate env` prints, with the key in them.

import { get } from "./api.js";
import { t } from "./i18n.js";

/** Where clients reach the gateway, as far as can be told from here. */
export async function gateway() {
  try {
    const { config } = await get("/api/v1/config");
    return reached(config.listen?.[0], location.hostname);
  } catch {
    return "http://127.0.0.1:8080";
  }
}

/** The address of `listen` for somebody who reaches the page at `host`. */
export function reached(listen, host) {
  const address = String(listen?.address ?? "127.0.0.1:8080");
  const [, name, port] = /^(.*):(\d+)$/.exec(address) ?? [null, address, "8080"];
  // It listens at every address: then the one that this page came from is one of them.
  const place = ["0.0.0.0", "[::]", "::", ""].includes(name) ? (host.includes(":") ? `[${host.replace(/[[\]]/g, "")}]` : host) : name;
  return `${listen?.tls ? "https" : "http"}://${place}:${port}`;
}

/** [{id, name, parts: [{text, where?}]}] */
export function recipes(url, key) {
  const shell = t("recipe.shell");
  return [
    { id: "openai", name: "OpenAI SDK", parts: [{ where: shell, text: `export OPENAI_BASE_URL=${url}/v1\nexport OPENAI_API_KEY=${key}` }] },
    { id: "anthropic", name: "Anthropic SDK", parts: [{ where: shell, text: `export ANTHROPIC_BASE_URL=${url}\nexport ANTHROPIC_API_KEY=${key}` }] },
    { id: "claude", name: "Claude Code", parts: [{ where: shell, text: `export ANTHROPIC_BASE_URL=${url}\nexport ANTHROPIC_AUTH_TOKEN=${key}` }] },
    { id: "codex", name: "Codex", parts: [
      { where: shell, text: `export POOLGATE_KEY=${key}` },
      { where: "~/.codex/config.toml", text: [
        'model_provider = "poolgate"', "[model_providers.poolgate]", 'name = "poolgate"', `base_url = "${url}/v1"`,
        'env_key = "POOLGATE_KEY"', 'wire_api = "responses"'].join("\n") }] },
    { id: "gemini", name: "Gemini CLI", parts: [
      { where: shell, text: `export GOOGLE_GEMINI_BASE_URL=${url}\nexport GEMINI_API_KEY=${key}` },
      { where: "~/.gemini/settings.json", text: '{"security": {"auth": {"selectedType": "gemini-api-key"}}}' }] },
    { id: "curl", name: "curl", parts: [{ where: shell, text: [
      `curl ${url}/v1/chat/completions \\`, `  -H 'Authorization: Bearer ${key}' \\`, "  -H 'Content-Type: application/json' \\",
      `  -d '{"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]}'`].join("\n") }] },
  ];
}

// What can be done with one account, the same in the table and in its own window.

import { at, post, remove } from "./api.js";
import { ask, explain, toast } from "./dialog.js";
import { t } from "./i18n.js";
import { everyAccount, learn, live } from "./live.js";
import { changeForm } from "./account_form.js";

/** Does one thing, and says how it went. */
async function run(account, action, options) {
  try {
    const made = await post(`${at("accounts", account.id)}/${action}`, {}, options);
    learn(made);
    say(made, action);
  } catch (error) {
    toast(explain(error), "bad");
  }
}

/** It was done; there may be something to know of it. */
function say(account, action) {
  toast(t(`done.${action}`, { id: account.id }));
  if (account.warning) toast(account.warning, "warn");
}

/** For `menu`: {text, act, danger}, with null between groups. */
export function actions(account, context) {
  if (!account) return [];
  const { id } = account;
  const does = (action, options) => ({ text: t(`act.${action}`), act: () => run(account, action, options) });
  const renewed = Boolean(account.credential?.expires_at || /oauth|sso|google|file/.test(account.credential?.kind ?? ""));
  const list = [
    account.enabled ? { text: t("act.disable"), act: () => disable(account) } : does("enable"),
    does("reset"),
    does("probe", { long: true }),
    renewed && does("refresh", { long: true }),
    account.instance && { text: t("act.restart"), act: () => restart(account) },
    { text: t("act.requests"), act: () => { location.hash = `#/requests?account=${encodeURIComponent(id)}`; } },
    null,
    { text: t("act.change"), act: () => changeForm(account) },
    account.override?.length && context.may("admin") && { text: t("act.drop_override"), act: () => dropOverride(account) },
    account.source === "api" && context.may("admin") && { text: t("act.remove"), danger: true, act: () => gone(account) },
  ];
  return list.filter((item) => item !== false && item !== undefined && item !== 0);
}

const disable = (account) => ask({
  title: t("ask.disable", { id: account.id }), text: t("ask.disable_text", { n: account.in_flight }), yes: t("act.disable"),
  act: async () => {
    const made = await post(`${at("accounts", account.id)}/disable`);
    learn(made);
    say(made, "disable");
  },
});

const restart = (account) => ask({
  title: t("ask.restart", { id: account.id }), text: t("ask.restart_text", { n: account.in_flight }), yes: t("act.restart"),
  act: async () => {
    learn(await post(`${at("accounts", account.id)}/restart`));
    toast(t("done.restart", { id: account.id }));
  },
});

const dropOverride = (account) => ask({
  title: t("ask.drop_override", { id: account.id }), text: t("ask.drop_override_text", { keys: account.override.join(", ") }), yes: t("act.drop_override"),
  act: async () => learn(await remove(`${at("accounts", account.id)}/override`)),
});

const gone = (account) => ask({
  title: t("ask.remove", { id: account.id }), text: t("ask.remove_text", { n: account.in_flight }), yes: t("act.remove"),
  act: async () => {
    await remove(at("accounts", account.id));
    live.accounts.delete(account.id);
    toast(t("done.remove", { id: account.id }));
    if (location.hash.startsWith("#/accounts/")) location.hash = "#/accounts";
    await everyAccount();
  },
});


// The pools: how many of their accounts can serve, and by which strategy.

import { choice, h, mark, put, say } from "./dom.js";
import { post, at } from "./api.js";
import { explain, toast } from "./dialog.js";
import { t, word } from "./i18n.js";
import { Table } from "./table.js";
import { meter, twoLines } from "./show.js";

const STRATEGIES = ["round_robin", "weighted", "least_connections", "least_used", "response_time", "hash", "random"];

export function pools(context) {
  const change = async (pool, strategy) => {
    try {
      await post([at("pools", pool.name), "strategy"].join("/"), { strategy });
      toast(t("pools.changed", { pool: pool.name, strategy: word("strategy", strategy) }));
    } catch (error) {
      toast(explain(error), "bad");
    }
  };
  const strategy = (cell, pool) => {
    if (!context.may("operator")) return say(cell, word("strategy", pool.strategy));
    let select = cell.querySelector("select");
    if (!select) {
      const options = STRATEGIES.map((name) => [name, word("strategy", name)]);
      select = choice(options, pool.strategy, (value) => change(pool, value), { "aria-label": t("pools.strategy_of", { pool: pool.name }) });
      put(cell, select);
    }
    if (document.activeElement !== select) select.value = pool.strategy;
  };
  const table = new Table({
    caption: t("overview.pools"), key: (pool) => pool.name, flat: true,
    columns: [
      { id: "name", title: t("pools.name"), class: "whole cut lead", show: (cell, pool) => twoLines(cell, pool.name, "", `#/accounts?pool=${encodeURIComponent(pool.name)}`) },
      { id: "available", title: t("pools.available"), label: true, class: "num", show: (cell, pool) => {
        say(cell, `${pool.available} / ${pool.accounts}`);
        mark(cell, "data-bad", pool.available === 0 && pool.accounts > 0);
        cell.classList.toggle("bad", pool.available === 0);
      } },
      { id: "in_flight", title: t("pools.in_flight"), label: true, class: "num", show: (cell, pool) => say(cell, pool.in_flight) },
      { id: "waiting", title: t("pools.waiting"), label: true, class: "w-2", show: (cell, pool) => meter(cell, pool.waiting, pool.max_waiting) },
      { id: "strategy", title: t("pools.strategy"), class: "fit whole", show: strategy },
    ],
  });
  return {
    el: h("div", { class: "flat" }, table.el),
    show: (list) => table.set(list),
    leave: () => table.leave(),
  };
}

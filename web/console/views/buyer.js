// One buyer's story: their orders over all sales, what happened when, what the gate thinks of them.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { field, values } from "../dialogs.js";
import { count } from "../format.js";
import { problem } from "../notices.js";
import { orderColumns } from "../order_table.js";
import { chip, fill, heading, link, section, tiles } from "../parts.js";
import { toQuery } from "../addresses.js";
import { admin, all, gatewayAdmin, orders } from "../rpc.js";
import { eventsOf, timeline } from "../story.js";
import { table } from "../tables.js";

const ORDERS_MAX = 100;

/** @param {import("../page.js").Page} page */
export async function buyerView(page) {
  const { user } = page.params;
  const found = await orders("ListOrders", { userId: user, pageSize: ORDERS_MAX }, page.signal);
  const paid = await Promise.all(
    found.orders.map((/** @type {any} */ { orderNo }) =>
      all(admin, "ListPayments", { orderNo, pageSize: 1_000 }, "payments", page.signal),
    ),
  );
  const happenings = found.orders.flatMap((/** @type {any} */ order, /** @type {number} */ place) => eventsOf(order, paid[place]));
  const inState = (/** @type {string} */ state) => found.orders.filter((/** @type {any} */ order) => order.state === `ORDER_STATE_${state}`);
  fill(
    page.root,
    heading(user, {
      above: link("#/orders", `← ${t("orders.title")}`, { class: "small" }),
      note: t("buyer.note"),
      actions: [link(toQuery("lists", { user }), t("buyer.deny"), { class: "button" })],
    }),
    tiles(
      ["PENDING", "PAID", "CANCELLED", "REJECTED", "REFUNDED"].map((state) => ({
        label: t(`totals.${state.toLowerCase()}`),
        value: count(inState(state).length),
        note: t("buyer.orders"),
      })),
    ),
    found.nextPageToken ? el("p", { class: "notice warn" }, t("buyer.more", { count: ORDERS_MAX })) : null,
    section(t("order.story"), timeline(happenings, { orders: true })),
    section(t("orders.title"), table(t("orders.title"), orderColumns({ sale: true }), found.orders, { empty: t("orders.empty") })),
    section(t("risk.title"), riskForm(page, user, found.orders[0]?.sku ?? "")),
  );
}

/**
 * Ask a gateway what it thinks of this buyer.
 * @param {import("../page.js").Page} page
 * @param {string} user
 * @param {string} sku
 */
function riskForm(page, user, sku) {
  const answer = el("div", { "aria-live": "polite" });
  return el(
    "div",
    { class: "stack" },
    el(
      "form",
      { class: "search", submit: look },
      field(t("sale.sku"), "sku", { value: sku, required: true, spellcheck: "false" }),
      field(t("risk.address"), "address", { hint: t("risk.address.hint") }),
      el("button", { class: "button" }, t("risk.explain")),
    ),
    answer,
  );

  /** @param {SubmitEvent} event */
  async function look(event) {
    event.preventDefault();
    const given = values(/** @type {HTMLFormElement} */ (event.currentTarget));
    try {
      const found = await gatewayAdmin("ExplainRisk", { userId: user, ...given }, page.signal);
      const columns = [
        { label: t("risk.signal"), head: true, cell: (/** @type {any} */ signal) => signal.name },
        { label: t("risk.value"), figures: true, cell: (/** @type {any} */ signal) => signal.value.toFixed(2) },
        { label: t("risk.points"), figures: true, cell: (/** @type {any} */ signal) => signal.contribution.toFixed(1) },
      ];
      fill(
        answer,
        el("p", {}, chip(found.tier, "RISK_TIER_"), " ", t("risk.score", { score: found.score.toFixed(1), challenge: found.challengeAt, refuse: found.refuseAt })),
        table(t("risk.title"), columns, found.signals),
      );
    } catch (error) {
      fill(answer, problem(error));
    }
  }
}

// Orders as rows of a table.

import { t } from "../shared/i18n.js";
import { amount, count, time } from "./format.js";
import { chip, link } from "./parts.js";
import { to } from "./addresses.js";

export const STATE = "ORDER_STATE_";
export const ORDER_STATES = ["PENDING", "PAID", "CANCELLED", "REJECTED", "REFUNDED"];

/**
 * @param {{buyer?: boolean, sale?: boolean}} which
 * @returns {import("./tables.js").Column<any>[]}
 */
export function orderColumns({ buyer = false, sale = false }) {
  const all = [
    { label: t("order.number"), head: true, mono: true, cell: (/** @type {any} */ order) => link(to("orders", order.orderNo), order.orderNo) },
    { label: t("order.state"), cell: (/** @type {any} */ order) => chip(order.state, STATE) },
    sale && { label: t("sale.sku"), cell: (/** @type {any} */ order) => link(to("sales", order.sku), order.sku) },
    buyer && { label: t("order.buyer"), cell: (/** @type {any} */ order) => link(to("buyers", order.userId), order.userId) },
    { label: t("order.units"), figures: true, cell: (/** @type {any} */ order) => count(order.quantity) },
    { label: t("order.amount"), figures: true, cell: (/** @type {any} */ order) => amount(order.amount) },
    { label: t("order.created"), cell: (/** @type {any} */ order) => time(order.createTime) },
    { label: t("order.expires"), cell: (/** @type {any} */ order) => (order.state === "ORDER_STATE_PENDING" ? time(order.expireTime) : "–") },
  ];
  return /** @type {import("./tables.js").Column<any>[]} */ (all.filter(Boolean));
}

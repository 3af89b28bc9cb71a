// What happened to orders, in the order in which it happened.

import { el } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { amount, time } from "./format.js";
import { link, nothing, word } from "./parts.js";
import { to } from "./addresses.js";

/**
 * @typedef {object} Happening
 * @property {string} time RFC 3339
 * @property {string} text
 * @property {string} orderNo
 */

/**
 * Return what is on record of an order and the payments stated for it.
 * @param {any} order
 * @param {any[]} payments
 * @returns {Happening[]}
 */
export function eventsOf(order, payments = []) {
  const ended = order.state === "ORDER_STATE_REJECTED" ? "story.rejected" : "story.cancelled";
  /** @type {[string | undefined, string][]} */
  const happened = [
    [order.createTime, t("story.created", { count: order.quantity, sku: order.sku, amount: amount(order.amount) })],
    [order.payTime, t("story.paid", { payment: order.paymentId })],
    [order.cancelTime, t(ended)],
    [order.refundTime, t("story.refunded", { refund: order.refundId })],
    [order.restoreTime, t("story.restored", { count: order.quantity })],
    ...payments
      .filter((payment) => payment.state !== "PAYMENT_STATE_APPLIED")
      .flatMap((payment) => /** @type {[string | undefined, string][]} */ ([
        [payment.receiveTime, t("story.unused", { payment: payment.paymentId, amount: amount(payment.amount), reason: word(payment.reason, "PAYMENT_REASON_") })],
        [payment.refundTime, t("story.settled", { payment: payment.paymentId, refund: payment.refundId })],
      ])),
  ];
  return happened
    .filter(([when]) => when)
    .map(([when, text]) => ({ time: /** @type {string} */ (when), text, orderNo: order.orderNo }));
}

/**
 * Return happenings, oldest first.
 * @param {Happening[]} happenings
 * @param {{orders?: boolean}} [options] `orders`: each names its order
 */
export function timeline(happenings, { orders = false } = {}) {
  if (!happenings.length) return nothing(t("story.empty"));
  const sorted = [...happenings].sort((one, other) => Date.parse(one.time) - Date.parse(other.time));
  return el(
    "ol",
    { class: "timeline" },
    ...sorted.map((each) =>
      el(
        "li",
        {},
        time(each.time),
        el("span", {}, each.text),
        orders ? link(to("orders", each.orderNo), each.orderNo, { class: "mono small" }) : null,
      ),
    ),
  );
}

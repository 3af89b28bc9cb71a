// Payments as rows of a table.

import { t } from "../shared/i18n.js";
import { amount, time } from "./format.js";
import { chip, link, word } from "./parts.js";
import { to } from "./addresses.js";

/**
 * @param {{order?: boolean, action?: (payment: any) => import("./parts.js").Child}} which
 * @returns {import("./tables.js").Column<any>[]}
 */
export function paymentColumns({ order = false, action }) {
  const all = [
    { label: t("payment.id"), head: true, mono: true, cell: (/** @type {any} */ payment) => `${payment.provider} ${payment.paymentId}` },
    { label: t("payment.state"), cell: (/** @type {any} */ payment) => chip(payment.state, "PAYMENT_STATE_") },
    {
      label: t("payment.reason"),
      cell: (/** @type {any} */ payment) =>
        payment.reason === "PAYMENT_REASON_UNSPECIFIED" ? "–" : word(payment.reason, "PAYMENT_REASON_"),
    },
    { label: t("order.amount"), figures: true, cell: (/** @type {any} */ payment) => amount(payment.amount) },
    order && { label: t("order.number"), mono: true, cell: (/** @type {any} */ payment) => link(to("orders", payment.orderNo), payment.orderNo) },
    { label: t("payment.received"), cell: (/** @type {any} */ payment) => time(payment.receiveTime) },
    { label: t("order.refundId"), mono: true, cell: (/** @type {any} */ payment) => payment.refundId || "–" },
    action && { label: "", cell: action },
  ];
  return /** @type {import("./tables.js").Column<any>[]} */ (all.filter(Boolean));
}

// One order: what happened to it, its payments, and what an operator can do about it.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { ask, field } from "../dialogs.js";
import { amount, count } from "../format.js";
import { said } from "../notices.js";
import { STATE } from "../order_table.js";
import { button, chip, facts, fill, heading, link, section } from "../parts.js";
import { paymentColumns } from "../payment_table.js";
import { to } from "../addresses.js";
import { admin, orders } from "../rpc.js";
import { eventsOf, timeline } from "../story.js";
import { table } from "../tables.js";

/** @param {import("../page.js").Page} page */
export async function orderView(page) {
  const orderNo = page.params.number;
  const [{ order }, { payments }] = await Promise.all([
    orders("GetOrder", { orderNo }, page.signal),
    admin("ListPayments", { orderNo, pageSize: 1_000 }, page.signal),
  ]);
  fill(
    page.root,
    heading(orderNo, {
      above: link("#/orders", `← ${t("orders.title")}`, { class: "small" }),
      beside: chip(order.state, STATE),
      actions: [
        order.state === "ORDER_STATE_PENDING" && button(t("order.cancel"), () => cancel(page, order), { class: "button danger-quiet" }),
        order.state === "ORDER_STATE_PAID" && button(t("order.refund"), () => refund(page, order)),
      ],
    }),
    facts([
      [t("sale.sku"), link(to("sales", order.sku), order.sku)],
      [t("order.buyer"), link(to("buyers", order.userId), order.userId)],
      [t("order.units"), count(order.quantity)],
      [t("order.amount"), amount(order.amount)],
      [t("order.request"), order.requestId],
      [t("order.payment"), order.paymentId],
      [t("order.refundId"), order.refundId],
    ]),
    section(t("order.story"), timeline(eventsOf(order, payments))),
    section(t("nav.payments"), table(t("nav.payments"), paymentColumns({}), payments, { empty: t("order.noPayments") })),
  );
}

/**
 * @param {import("../page.js").Page} page
 * @param {any} order
 */
async function cancel(page, order) {
  const { orderNo, userId, quantity, sku } = order;
  const done = await ask({
    title: t("order.cancel.title"),
    says: [t("order.cancel.says", { user: userId, count: quantity, sku }), el("p", { class: "mono" }, orderNo)],
    verb: t("order.cancel"),
    danger: true,
    act: () => orders("CancelOrder", { orderNo }),
  });
  if (done) {
    said(t("order.cancel.done", { order: orderNo }));
    page.reload();
  }
}

/**
 * @param {import("../page.js").Page} page
 * @param {any} order
 */
async function refund(page, order) {
  const { orderNo, userId, quantity } = order;
  const done = await ask({
    title: t("order.refund.title"),
    says: [t("order.refund.says", { user: userId, amount: amount(order.amount) }), el("p", { class: "mono" }, orderNo)],
    fields: [
      field(t("order.refundId"), "refund", { field: "refund_id", required: true, hint: t("order.refundId.hint"), maxlength: 64 }),
      field(t("order.restock"), "restock", {
        options: [
          ["yes", t("order.restock.yes", { count: quantity })],
          ["no", t("order.restock.no", { count: quantity })],
        ],
      }),
    ],
    verb: t("order.refund"),
    danger: true,
    act: (given) => orders("RefundOrder", { orderNo, refundId: given.refund, restock: given.restock === "yes" }),
  });
  if (done) {
    said(t("order.refund.done", { order: orderNo }));
    page.reload();
  }
}

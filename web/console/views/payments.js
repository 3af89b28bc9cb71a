// Payments: first those that must be paid back.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { ask, field } from "../dialogs.js";
import { amount } from "../format.js";
import { problem, said } from "../notices.js";
import { button, fill, heading, link, word } from "../parts.js";
import { paymentColumns } from "../payment_table.js";
import { toQuery } from "../addresses.js";
import { admin } from "../rpc.js";
import { Pages, table } from "../tables.js";

const PAGE_SIZE = 100;
const STATES = ["TO_REFUND", "APPLIED", "REFUNDED", ""];

/** @param {import("../page.js").Page} page */
export async function paymentsView(page) {
  const state = page.query.has("state") ? (page.query.get("state") ?? "") : "TO_REFUND";
  const pages = new Pages();
  const list = el("div", { "aria-live": "polite" });
  fill(page.root, heading(t("payments.title"), { note: t("payments.note") }), tabs(state), list);
  await show();

  async function show() {
    try {
      const request = { state: state && state !== "ALL" ? `PAYMENT_STATE_${state}` : undefined, pageSize: PAGE_SIZE, pageToken: pages.token };
      const found = await admin("ListPayments", request, page.signal);
      const columns = paymentColumns({
        order: true,
        action: (payment) => payment.state === "PAYMENT_STATE_TO_REFUND" && button(t("payment.settle"), () => settle(payment), { class: "button small" }),
      });
      fill(
        list,
        table(t("payments.title"), columns, found.payments, { empty: t("payments.empty") }),
        pages.bar(found.nextPageToken, show, t("payments.shown", { count: found.payments.length, place: pages.tokens.length })),
      );
    } catch (error) {
      if (!page.signal.aborted) fill(list, problem(error));
    }
  }

  /** @param {any} payment */
  async function settle(payment) {
    const { provider, paymentId } = payment;
    const done = await ask({
      title: t("payment.settle.title"),
      says: [
        t("payment.settle.says", { amount: amount(payment.amount), provider, payment: paymentId }),
        t("payment.settle.moves"),
      ],
      fields: [field(t("order.refundId"), "refund", { field: "refund_id", required: true, hint: t("order.refundId.hint"), maxlength: 64 })],
      verb: t("payment.settle"),
      danger: true,
      act: ({ refund }) => admin("SettlePayment", { provider, paymentId, refundId: refund }),
    });
    if (done) {
      said(t("payment.settle.done", { payment: paymentId }));
      await show();
    }
  }
}

/** @param {string} current */
function tabs(current) {
  const entries = STATES.map((state) => {
    const given = state || "ALL";
    const marks = current === given || (!state && current === "ALL") ? { "aria-current": "page" } : {};
    return el("li", {}, link(toQuery("payments", { state: given }), state ? word(state, "") : t("all"), marks));
  });
  return el("ul", { class: "tabs" }, ...entries);
}

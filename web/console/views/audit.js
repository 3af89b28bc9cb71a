// The audit's verdict: replayed from the ledger, each rule and what it was checked on.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { amount, count, time } from "../format.js";
import { problem } from "../notices.js";
import { chip, facts, fill, heading, section } from "../parts.js";
import { admin } from "../rpc.js";
import { differences } from "../sale_actions.js";
import { skuForm } from "../sku_form.js";
import { table } from "../tables.js";

const RULE = "AUDIT_RULE_";

/** @param {import("../page.js").Page} page */
export function auditView(page) {
  const answer = el("div", { "aria-live": "polite" });
  fill(page.root, heading(t("audit.title"), { note: t("audit.note") }), skuForm(page, t("audit.run"), run), answer);

  /** @param {string} sku */
  async function run(sku) {
    fill(answer, el("p", { class: "soft" }, t("audit.running")));
    try {
      show(answer, await admin("AuditSale", { sku }, page.signal));
    } catch (error) {
      if (!page.signal.aborted) fill(answer, problem(error));
    }
  }
}

/**
 * @param {HTMLElement} answer
 * @param {any} found
 */
function show(answer, found) {
  const { proven, units } = found;
  fill(
    answer,
    el(
      "div",
      { class: proven ? "notice good verdict" : "notice warn verdict" },
      el("h2", {}, proven ? t("audit.proven") : t("audit.disproven")),
      el("p", {}, proven ? t("audit.proven.says") : found.explanation),
      facts([
        [t("audit.read"), time(found.readTime)],
        [t("audit.rows"), count(found.replayedRows)],
        ["SHA-256", el("span", { class: "mono" }, found.digest)],
      ]),
    ),
    section(t("audit.rules"), checks(found)),
    found.wrongRow ? section(t("audit.wrongRow"), row(found.wrongRow)) : null,
    proven
      ? section(
          t("audit.units"),
          table(t("audit.units"), unitColumns(), [
            ["audit.unsold", units.unsold],
            ["audit.returning", units.returning],
            ["audit.awaiting", units.awaitingPayment],
            ["audit.paid", units.paid],
            ["audit.writtenOff", units.writtenOff],
            ["audit.loaded", units.loaded],
          ]),
        )
      : null,
    found.payments.length ? section(t("audit.money"), table(t("audit.money"), moneyColumns(), found.payments)) : null,
    found.changes.length ? section(t("sale.changes"), table(t("sale.changes"), changeColumns(), found.changes)) : null,
    found.voids.length ? section(t("audit.voids"), table(t("audit.voids"), voidColumns(), found.voids)) : null,
  );
}

/** @param {any} found */
function checks(found) {
  /** @type {Record<string, string>} */
  const evidence = {
    LOADED_ONCE: t("audit.on.units", { units: Number(found.units?.loaded ?? 0) }),
    LEGAL_PATH: t("audit.on.orders", { rows: Number(found.replayedRows), orders: Number(found.ledgerOrders) }),
    SAME_UNITS: t("audit.on.rows", { rows: Number(found.replayedRows) }),
    NEVER_OVERSOLD: t("audit.on.peak", { peak: Number(found.peakUnits), units: Number(found.units?.loaded ?? 0) }),
    ORDERS_AGREE: t("audit.on.compared", { orders: Number(found.comparedOrders) }),
    SALE_AGREES: t("audit.on.sold", { sold: Number(found.saleSoldUnits), total: Number(found.saleTotalUnits) }),
  };
  const columns = [
    { label: t("audit.rule"), head: true, wide: true, cell: (/** @type {any} */ check) => t(`audit.rule.${check.rule.replace(RULE, "")}`) },
    { label: t("audit.on"), wide: true, cell: (/** @type {any} */ check) => evidence[check.rule.replace(RULE, "")] ?? "–" },
    { label: t("audit.result"), cell: (/** @type {any} */ check) => chip(check.result, "AUDIT_RESULT_") },
  ];
  return table(t("audit.rules"), columns, found.checks);
}

/** @param {any} wrong */
function row(wrong) {
  return facts([
    [t("audit.row"), count(wrong.id)],
    [t("audit.kind"), wrong.kind],
    [t("order.number"), wrong.orderNo],
    [t("order.units"), count(wrong.units)],
    [t("log.time"), time(wrong.writeTime)],
  ]);
}

/** @returns {import("../tables.js").Column<[string, string]>[]} */
function unitColumns() {
  return [
    { label: t("audit.where"), head: true, cell: ([key]) => t(key) },
    { label: t("order.units"), figures: true, cell: ([, value]) => count(value) },
  ];
}

/** @returns {import("../tables.js").Column<any>[]} */
function moneyColumns() {
  /** @param {string} name */
  const cell = (name) => (/** @type {any} */ account) => amount({ currency: account.currency, minorUnits: account[name] });
  return [
    { label: t("sale.currency"), head: true, cell: ({ currency }) => currency },
    { label: t("audit.taken"), figures: true, cell: cell("taken") },
    { label: t("audit.applied"), figures: true, cell: cell("applied") },
    { label: t("audit.toRefund"), figures: true, cell: cell("toRefund") },
    { label: t("audit.refunded"), figures: true, cell: cell("refunded") },
  ];
}

/** @returns {import("../tables.js").Column<any>[]} */
function changeColumns() {
  return [
    { label: t("log.time"), cell: (change) => time(change.changeTime) },
    { label: t("log.operator"), cell: (change) => change.operator || "–" },
    { label: t("log.what"), wide: true, cell: differences },
  ];
}

/** @returns {import("../tables.js").Column<any>[]} */
function voidColumns() {
  return [
    { label: t("order.number"), head: true, mono: true, cell: (each) => each.orderNo },
    { label: t("log.operator"), cell: (each) => each.operator },
    { label: t("log.time"), cell: (each) => time(each.voidTime) },
    { label: t("lists.reason"), wide: true, cell: (each) => each.reason },
  ];
}

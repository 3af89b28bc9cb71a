// One sale now: its stock, its orders, the mesh around it, and what operators changed.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { settings } from "../config.js";
import { amount, count, span, time } from "../format.js";
import { failed } from "../notices.js";
import { button, chip, facts, fill, heading, link, section, shares, tiles } from "../parts.js";
import { toQuery } from "../addresses.js";
import { admin, all, inventory, orders } from "../rpc.js";
import { addUnits, changeSale, closeSale, differences, pauseSale, reopenSale } from "../sale_actions.js";
import { standing } from "../sale_state.js";
import { table } from "../tables.js";
import { meshNow } from "./mesh_now.js";

const LOOK_MS = 1_500;

/** @param {import("../page.js").Page} page */
export async function saleView(page) {
  const { sku } = page.params;
  const place = () => el("div", { class: "stack" });
  const parts = { head: place(), now: place(), mesh: place(), changes: place() };
  fill(page.root, parts.head, parts.now, parts.mesh, parts.changes);
  let shown = "";
  await page.poll(LOOK_MS, async () => {
    const [{ sale }, totals] = await Promise.all([
      inventory("GetSale", { sku }, page.signal),
      orders("GetSaleTotals", { sku }, page.signal),
    ]);
    // Buttons stay while nothing they depend on has changed: who is about to press keeps theirs.
    const looks = JSON.stringify([sale.terms, sale.state, standing(sale)]);
    if (looks !== shown) {
      shown = looks;
      showHead(page, parts.head, sale);
      await showChanges(page, parts.changes, sku);
    }
    showNow(parts.now, sale, totals);
    fill(parts.mesh, await meshNow(page.signal));
  });
}

/**
 * @param {import("../page.js").Page} page
 * @param {HTMLElement} place
 * @param {any} sale
 */
function showHead(page, place, sale) {
  const { sku, title } = sale.terms;
  const now = standing(sale);
  /** @param {(sale: any) => Promise<boolean>} action */
  const does = (action) => async () => {
    try {
      // With the numbers of this moment, not of when the button was drawn.
      const fresh = await inventory("GetSale", { sku });
      if (await action(fresh.sale)) page.reload();
    } catch (error) {
      failed(error);
    }
  };
  const isOpen = sale.loaded && now !== "closed";
  fill(
    place,
    heading(title || sku, {
      above: link("#/sales", `← ${t("sales.title")}`, { class: "small" }),
      beside: chip(now),
      note: title ? sku : "",
      actions: [
        isOpen && now !== "paused" && button(t("sale.pause"), does(pauseSale)),
        isOpen && now === "paused" && button(t("sale.reopen"), does(reopenSale), { class: "button primary" }),
        isOpen && button(t("sale.add"), does(addUnits)),
        isOpen && button(t("sale.change"), does(changeSale)),
        isOpen && button(t("sale.close"), does(closeSale), { class: "button danger-quiet" }),
      ],
    }),
    el(
      "p",
      { class: "links small" },
      link(toQuery("orders", { sku }), t("nav.orders")),
      link(toQuery("review", { sku }), t("nav.review")),
      link(toQuery("audit", { sku }), t("nav.audit")),
      link(toQuery("reconcile", { sku }), t("nav.reconcile")),
      link(toQuery("policies", { sku }), t("nav.policies")),
      link(toQuery("rehearsal", { sku }), t("nav.rehearsal"), { hidden: !settings().publicOrigin }),
    ),
  );
}

/**
 * @param {HTMLElement} place
 * @param {any} sale
 * @param {any} totals
 */
function showNow(place, sale, totals) {
  const { terms } = sale;
  const left = Number(sale.remainingUnits);
  const units = (/** @type {string} */ name) => Number(totals[`${name}Units`]);
  const underWay = Math.max(0, Number(terms.totalUnits) - left - units("sold"));
  fill(
    place,
    tiles([
      { label: t("sale.left"), value: sale.loaded ? count(left) : "–", note: t("sale.ofTotal", { total: Number(totals.totalUnits) }), look: "lead" },
      { label: t("totals.pending"), value: count(units("pending")), note: t("totals.units") },
      { label: t("totals.paid"), value: count(units("paid")), note: t("totals.units") },
      { label: t("totals.cancelled"), value: count(units("cancelled")), note: t("totals.restored", { units: units("restored") }) },
      { label: t("totals.rejected"), value: count(units("rejected")), note: t("totals.units") },
      { label: t("totals.refunded"), value: count(units("refunded")), note: t("totals.writtenOff", { units: units("writtenOff") }) },
    ]),
    shares(
      t("sale.where"),
      [
        { label: t("totals.paid"), value: units("paid"), look: "good" },
        { label: t("totals.pending"), value: units("pending"), look: "warn" },
        { label: t("totals.underWay"), value: underWay, look: "info" },
        { label: t("totals.writtenOffUnits"), value: units("writtenOff"), look: "bad" },
        { label: t("sale.left"), value: left, look: "rest" },
      ],
      count,
    ),
    facts([
      [t("sale.price"), amount(terms.unitPrice)],
      [t("sale.limit"), count(terms.purchaseLimit)],
      [t("sale.start"), time(terms.startTime)],
      [t("sale.end"), time(terms.endTime)],
      [t("sale.toPay"), span(terms.paymentWindow)],
      [t("sale.again"), terms.rebuyAllowed ? t("yes") : t("no")],
      [t("sale.epoch"), count(sale.epoch)],
    ]),
  );
}

/**
 * @param {import("../page.js").Page} page
 * @param {HTMLElement} place
 * @param {string} sku
 */
async function showChanges(page, place, sku) {
  const changes = await all(admin, "ListSaleChanges", { sku, pageSize: 1_000 }, "changes", page.signal);
  const columns = [
    { label: t("log.time"), cell: (/** @type {any} */ change) => time(change.changeTime) },
    { label: t("log.operator"), cell: (/** @type {any} */ change) => change.operator || "–" },
    { label: t("log.what"), wide: true, cell: differences },
  ];
  fill(
    place,
    section(t("sale.changes"), table(t("sale.changes"), columns, changes.reverse(), { empty: t("sale.changes.empty") })),
  );
}

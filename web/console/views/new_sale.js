// Create a sale: its terms, checked by the service.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { field, mark, tick, values } from "../dialogs.js";
import { fromInput, readAmount, toInput, zone } from "../format.js";
import { problem, said } from "../notices.js";
import { fill, heading, link } from "../parts.js";
import { to } from "../addresses.js";
import { inventory } from "../rpc.js";

const DAY_MS = 86_400_000;

/** @param {import("../page.js").Page} page */
export function newSaleView(page) {
  const trouble = el("div");
  const form = /** @type {HTMLFormElement} */ (
    el(
      "form",
      { class: "card stack", submit: create },
      pair(
        field(t("sale.sku"), "sku", { required: true, hint: t("sale.sku.hint"), maxlength: 64, spellcheck: "false" }),
        field(t("sale.name"), "title", { maxlength: 200 }),
      ),
      pair(
        field(t("sale.units"), "units", { field: "total_units", type: "number", min: 1, max: 10_000_000, value: "100", required: true }),
        field(t("sale.limit"), "limit", { field: "purchase_limit", type: "number", min: 1, max: 1_000, value: "1", required: true }),
      ),
      pair(
        field(t("sale.price"), "price", { field: "unit_price", inputmode: "decimal", value: "1.00", required: true }),
        field(t("sale.currency"), "currency", { field: "unit_price.currency", value: "CNY", pattern: "[A-Z]{3}", required: true }),
      ),
      pair(
        field(t("sale.start"), "start", { field: "start_time", type: "datetime-local", step: 1, hint: t("sale.start.hint", { zone: zone() }) }),
        field(t("sale.end"), "end", {
          field: "end_time",
          type: "datetime-local",
          step: 1,
          required: true,
          value: toInput(new Date(Date.now() + DAY_MS)),
          hint: t("sale.end.hint", { zone: zone() }),
        }),
      ),
      pair(
        field(t("sale.window"), "window", { field: "payment_window", type: "number", min: 1, max: 10_080, value: "15", required: true }),
        tick(t("sale.rebuy"), "rebuy"),
      ),
      trouble,
      el(
        "div",
        { class: "choices" },
        el("button", { class: "button primary" }, t("sale.create")),
        link("#/sales", t("cancel"), { class: "button" }),
      ),
    )
  );
  fill(page.root, heading(t("sale.create.title"), { note: t("sale.create.note") }), form);

  /** @param {SubmitEvent} event */
  async function create(event) {
    event.preventDefault();
    fill(trouble);
    const given = values(form);
    const unitPrice = readAmount(given.price, given.currency);
    try {
      if (!unitPrice) throw new Error(t("sale.price.wrong", { currency: given.currency }));
      const terms = {
        sku: given.sku,
        title: given.title,
        totalUnits: given.units,
        unitPrice,
        purchaseLimit: Number(given.limit),
        startTime: fromInput(given.start),
        endTime: fromInput(given.end),
        paymentWindow: `${Number(given.window) * 60}s`,
        rebuyAllowed: given.rebuy === "yes",
      };
      await inventory("CreateSale", { terms });
      said(t("sale.created", { sku: given.sku }));
      location.hash = to("sales", given.sku);
    } catch (error) {
      fill(trouble, problem(error));
      mark(form, error);
    }
  }
}

/** @param {...HTMLElement} fields */
function pair(...fields) {
  return el("div", { class: "pair" }, ...fields);
}

// What an operator does to a sale. Each asks first, with the numbers of this moment.

import { el } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { ask, field } from "./dialogs.js";
import { count, fromInput, readAmount, time, toAmountInput, toInput, zone } from "./format.js";
import { said } from "./notices.js";
import { facts } from "./parts.js";
import { inventory } from "./rpc.js";
import { hasStarted } from "./sale_state.js";

/** @param {any} sale */
function standsAt(sale) {
  const { terms, remainingUnits } = sale;
  return facts([
    [t("sale.left"), t("sale.leftOf", { left: Number(remainingUnits), total: Number(terms.totalUnits) })],
    [t("sale.start"), time(terms.startTime)],
    [t("sale.end"), time(terms.endTime)],
  ]);
}

/**
 * Stop selling; orders go on.
 * @param {any} sale
 */
export function pauseSale(sale) {
  const { sku } = sale.terms;
  return ask({
    title: t("sale.pause.title", { sku }),
    says: [t("sale.pause.says"), standsAt(sale)],
    verb: t("sale.pause"),
    danger: true,
    act: () => change(sku, { state: "SALE_STATE_PAUSED" }, t("sale.pause.done", { sku })),
  });
}

/**
 * Sell again after a pause.
 * @param {any} sale
 */
export function reopenSale(sale) {
  const { sku } = sale.terms;
  return ask({
    title: t("sale.reopen.title", { sku }),
    says: [t("sale.reopen.says", { left: Number(sale.remainingUnits) }), standsAt(sale)],
    verb: t("sale.reopen"),
    act: () => change(sku, { state: "SALE_STATE_OPEN" }, t("sale.reopen.done", { sku })),
  });
}

/**
 * Stop selling for good. The sku has to be written, as nothing brings the sale back.
 * @param {any} sale
 */
export function closeSale(sale) {
  const { sku } = sale.terms;
  return ask({
    title: t("sale.close.title", { sku }),
    says: [t("sale.close.says", { left: Number(sale.remainingUnits) }), standsAt(sale)],
    fields: [field(t("sale.close.write", { sku }), "written", { required: true, spellcheck: "false" })],
    verb: t("sale.close"),
    danger: true,
    act: ({ written }) => {
      if (written !== sku) throw new Error(t("sale.close.wrong", { sku }));
      return change(sku, { state: "SALE_STATE_CLOSED" }, t("sale.close.done", { sku }));
    },
  });
}

/**
 * Put more units on sale. The addition has one name, so that repeating it adds nothing.
 * @param {any} sale
 */
export function addUnits(sale) {
  const { sku, totalUnits } = sale.terms;
  const additionId = crypto.randomUUID();
  return ask({
    title: t("sale.add.title", { sku }),
    says: [t("sale.add.says"), standsAt(sale)],
    fields: [field(t("sale.add.units"), "units", { type: "number", min: 1, max: 10_000_000 - Number(totalUnits), required: true })],
    verb: t("sale.add"),
    act: async ({ units }) => {
      const answer = await inventory("AddStock", { sku, additionId, units });
      said(t("sale.add.done", { units: Number(units), total: count(answer.sale.terms.totalUnits) }));
    },
  });
}

/**
 * Change when it sells, and before it starts title and price.
 * @param {any} sale
 */
export function changeSale(sale) {
  const { sku, title, unitPrice, startTime, endTime } = sale.terms;
  const started = hasStarted(sale);
  const price = toAmountInput(unitPrice);
  const fields = [
    field(t("sale.start"), "start", { field: "start_time", type: "datetime-local", step: 1, value: toInput(startTime), required: true, hint: zone() }),
    field(t("sale.end"), "end", { field: "end_time", type: "datetime-local", step: 1, value: toInput(endTime), required: true, hint: zone() }),
  ];
  if (!started) {
    fields.unshift(
      field(t("sale.name"), "title", { value: title, maxlength: 200 }),
      field(`${t("sale.price")} (${unitPrice.currency})`, "price", { field: "unit_price", value: price, inputmode: "decimal", required: true }),
    );
  }
  return ask({
    title: t("sale.change.title", { sku }),
    says: [started ? t("sale.change.started") : t("sale.change.says")],
    fields,
    verb: t("sale.change"),
    act: (given) => {
      /** @type {Record<string, unknown>} */
      const changed = {};
      if (given.start !== toInput(startTime)) changed.startTime = fromInput(given.start);
      if (given.end !== toInput(endTime)) changed.endTime = fromInput(given.end);
      if (!started && given.title !== title) changed.title = given.title;
      if (!started && given.price !== price) {
        changed.unitPrice = readAmount(given.price, unitPrice.currency);
        if (!changed.unitPrice) throw new Error(t("sale.price.wrong", { currency: unitPrice.currency }));
      }
      if (!Object.keys(changed).length) throw new Error(t("sale.change.nothing"));
      return change(sku, changed, t("sale.change.done", { sku }));
    },
  });
}

/**
 * @param {string} sku
 * @param {object} changed
 * @param {string} done
 */
async function change(sku, changed, done) {
  await inventory("UpdateSale", { sku, ...changed });
  said(done);
}

/**
 * Return what operators changed in one step, in words.
 * @param {any} change SaleChange
 */
export function differences(change) {
  const { before, after, addedUnits } = change;
  const told = [];
  if (Number(addedUnits)) told.push(t("change.units", { units: Number(addedUnits) }));
  if (after.title !== undefined) told.push(t("change.title", { before: before.title ?? "", after: after.title }));
  if (after.unitPrice) {
    const [old, since] = [before.unitPrice, after.unitPrice].map((money) =>
      money ? `${toAmountInput(money)} ${money.currency}` : "–",
    );
    told.push(t("change.price", { before: old, after: since }));
  }
  if (after.state && after.state !== "SALE_STATE_UNSPECIFIED") {
    told.push(t("change.state", { before: state(before.state), after: state(after.state) }));
  }
  const items = told.map((text) => el("li", {}, text));
  if (after.startTime) items.push(el("li", {}, t("change.start"), " ", time(before.startTime), " → ", time(after.startTime)));
  if (after.endTime) items.push(el("li", {}, t("change.end"), " ", time(before.endTime), " → ", time(after.endTime)));
  return el("ul", { class: "plain-list" }, ...items);
}

/** @param {string} value */
function state(value) {
  return t(`enum.${value.replace("SALE_STATE_", "").toLowerCase()}`);
}

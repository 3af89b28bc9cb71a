// All sales, and those that Redis has lost.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { ask } from "../dialogs.js";
import { amount, count, time } from "../format.js";
import { said } from "../notices.js";
import { button, chip, fill, heading, link } from "../parts.js";
import { to } from "../addresses.js";
import { all, inventory } from "../rpc.js";
import { standing } from "../sale_state.js";
import { canRehearse } from "../shell.js";
import { table } from "../tables.js";

const LOOK_MS = 2_000;
const PAGE_SIZE = 1_000;

/** @param {import("../page.js").Page} page */
export async function salesView(page) {
  const list = el("div");
  const lost = el("div");
  fill(
    page.root,
    heading(t("sales.title"), {
      actions: [
        canRehearse() && link("#/rehearsal", t("nav.rehearsal"), { class: "button" }),
        link("#/sales/new", t("sales.new"), { class: "button primary" }),
      ],
    }),
    lost,
    list,
  );
  await page.poll(LOOK_MS, async () => {
    const request = { pageSize: PAGE_SIZE };
    const [sales, lostSkus] = await Promise.all([
      all(inventory, "ListSales", request, "sales", page.signal),
      // The order service alone knows which are lost; without it the list still shows.
      all(inventory, "ListLostSales", request, "skus", page.signal).catch(() => []),
    ]);
    showLost(page, lost, lostSkus);
    showSales(list, sales);
  });
}

/**
 * @param {HTMLElement} list
 * @param {any[]} sales
 */
function showSales(list, sales) {
  const newest = [...sales].sort((one, other) => other.terms.startTime.localeCompare(one.terms.startTime));
  const columns = [
    {
      label: t("sale.sku"),
      head: true,
      cell: (/** @type {any} */ { terms }) =>
        el("span", { class: "two" }, link(to("sales", terms.sku), terms.sku), el("span", { class: "soft small" }, terms.title)),
    },
    { label: t("sale.state"), cell: (/** @type {any} */ sale) => chip(standing(sale)) },
    {
      label: t("sale.left"),
      figures: true,
      cell: (/** @type {any} */ { loaded, remainingUnits }) => (loaded ? count(remainingUnits) : "–"),
    },
    { label: t("sale.of"), figures: true, cell: (/** @type {any} */ { terms }) => count(terms.totalUnits) },
    { label: t("sale.price"), figures: true, cell: (/** @type {any} */ { terms }) => amount(terms.unitPrice) },
    { label: t("sale.start"), cell: (/** @type {any} */ { terms }) => time(terms.startTime) },
    { label: t("sale.end"), cell: (/** @type {any} */ { terms }) => time(terms.endTime) },
  ];
  keepFocus(list, table(t("sales.title"), columns, newest, { empty: t("sales.empty") }));
}

/**
 * Replace a table without taking the focus from the link that has it.
 * @param {HTMLElement} list
 * @param {Node} shown
 */
function keepFocus(list, shown) {
  const focused = list.contains(document.activeElement) ? document.activeElement?.getAttribute("href") : null;
  fill(list, shown);
  if (focused) /** @type {HTMLElement | null} */ (list.querySelector(`a[href="${CSS.escape(focused)}"]`))?.focus();
}

/**
 * @param {import("../page.js").Page} page
 * @param {HTMLElement} place
 * @param {string[]} skus
 */
function showLost(page, place, skus) {
  if (!skus.length) {
    fill(place);
    return;
  }
  const rows = skus.map((sku) =>
    el("li", {}, el("span", { class: "mono" }, sku), " ", button(t("sales.rebuild"), () => rebuild(page, sku), { class: "button small" })),
  );
  fill(place, el("div", { class: "notice warn" }, el("p", {}, t("sales.lost")), el("ul", {}, ...rows)));
}

/**
 * @param {import("../page.js").Page} page
 * @param {string} sku
 */
async function rebuild(page, sku) {
  const done = await ask({
    title: t("sales.rebuild.title", { sku }),
    says: [t("sales.rebuild.says")],
    verb: t("sales.rebuild"),
    act: () => inventory("RebuildSale", { sku }),
  });
  if (done) {
    said(t("sales.rebuild.done", { sku }));
    page.reload();
  }
}

// The operators' log: what was done through the console, and what is on record of sales and rules.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { to, toQuery } from "../addresses.js";
import { time } from "../format.js";
import { problem } from "../notices.js";
import { fill, heading, link, word } from "../parts.js";
import { actions, admin, all, gate, inventory } from "../rpc.js";
import { differences } from "../sale_actions.js";
import { Pages, table } from "../tables.js";

const PAGE_SIZE = 100;
const SALES_MAX = 200;
/** @type {Record<string, (page: import("../page.js").Page, list: HTMLElement) => Promise<void>>} */
const KINDS = { calls: showCalls, sales: showSales, gate: showGate };

/** @param {import("../page.js").Page} page */
export async function logView(page) {
  const kind = page.query.get("of") ?? "calls";
  const list = el("div", { "aria-live": "polite" });
  const tabs = Object.keys(KINDS).map((each) =>
    el("li", {}, link(toQuery("log", { of: each }), t(`log.of.${each}`), each === kind ? { "aria-current": "page" } : {})),
  );
  fill(
    page.root,
    heading(t("log.title"), { note: t("log.note") }),
    el("ul", { class: "tabs" }, ...tabs),
    el("p", { class: "soft small" }, t(`log.of.${kind}.note`)),
    list,
  );
  try {
    await (KINDS[kind] ?? showCalls)(page, list);
  } catch (error) {
    if (!page.signal.aborted) fill(list, problem(error));
  }
}

/**
 * Calls of operators through this edge.
 * @param {import("../page.js").Page} page
 * @param {HTMLElement} list
 */
async function showCalls(page, list) {
  const pages = new Pages();
  /** @type {import("../tables.js").Column<any>[]} */
  const columns = [
    { label: t("log.time"), cell: (action) => time(action.callTime) },
    { label: t("log.operator"), cell: (action) => action.operator || t("log.nobody") },
    { label: t("log.call"), head: true, cell: (action) => action.method.split("/").at(-1) },
    { label: t("log.request"), wide: true, mono: true, cell: (action) => action.requestJson || "–" },
    { label: t("log.answer"), figures: true, cell: (action) => (action.httpStatus ? `HTTP ${action.httpStatus}` : "–") },
  ];
  await show();

  async function show() {
    const found = await actions("ListOperatorActions", { pageSize: PAGE_SIZE, pageToken: pages.token }, page.signal);
    fill(
      list,
      table(t("log.title"), columns, found.actions, { empty: t("log.empty") }),
      pages.bar(found.nextPageToken, show, t("log.shown", { count: found.actions.length, place: pages.tokens.length })),
    );
  }
}

/**
 * Changes of sales that are on record, by whatever way they were made.
 * @param {import("../page.js").Page} page
 * @param {HTMLElement} list
 */
async function showSales(page, list) {
  const sales = await all(inventory, "ListSales", { pageSize: 1_000 }, "sales", page.signal);
  const newest = sales.sort((one, other) => other.terms.startTime.localeCompare(one.terms.startTime)).slice(0, SALES_MAX);
  const changes = (
    await Promise.all(
      newest.map(({ terms }) => all(admin, "ListSaleChanges", { sku: terms.sku, pageSize: 1_000 }, "changes", page.signal)),
    )
  ).flat();
  changes.sort((one, other) => Date.parse(other.changeTime) - Date.parse(one.changeTime));
  /** @type {import("../tables.js").Column<any>[]} */
  const columns = [
    { label: t("log.time"), cell: (change) => time(change.changeTime) },
    { label: t("log.operator"), cell: (change) => change.operator || t("log.nobody") },
    { label: t("sale.sku"), head: true, cell: (change) => link(to("sales", change.sku), change.sku) },
    { label: t("log.what"), wide: true, cell: differences },
  ];
  fill(list, table(t("log.of.sales"), columns, changes, { empty: t("log.empty") }));
}

/**
 * Changes of the gate's rules that are on record.
 * @param {import("../page.js").Page} page
 * @param {HTMLElement} list
 */
async function showGate(page, list) {
  const pages = new Pages();
  /** @type {import("../tables.js").Column<any>[]} */
  const columns = [
    { label: t("log.time"), cell: (change) => time(change.changeTime) },
    { label: t("log.operator"), cell: (change) => change.operator },
    { label: t("log.what"), head: true, cell: (change) => word(change.kind, "GATE_CHANGE_KIND_") },
    { label: t("log.before"), wide: true, mono: true, cell: (change) => change.before },
    { label: t("log.after"), wide: true, mono: true, cell: (change) => change.after },
  ];
  await show();

  async function show() {
    const found = await gate("ListGateChanges", { pageSize: PAGE_SIZE, pageToken: pages.token }, page.signal);
    fill(
      list,
      table(t("log.of.gate"), columns, found.changes, { empty: t("log.empty") }),
      pages.bar(found.nextPageToken, show, t("log.shown", { count: found.changes.length, place: pages.tokens.length })),
    );
  }
}

// A rehearsal: set a product and its quantity, send the requests, see who got a unit.

import { el } from "../../shared/dom.js";
import { number, t } from "../../shared/i18n.js";
import { toQuery } from "../addresses.js";
import { ask, field, values } from "../dialogs.js";
import { count, spanOf } from "../format.js";
import { problem } from "../notices.js";
import { orderColumns } from "../order_table.js";
import { button, fill, heading, link, section, shares, tiles, word } from "../parts.js";
import { rehearse } from "../rehearse.js";
import { all, inventory, orders } from "../rpc.js";
import { canRehearse } from "../shell.js";
import { table } from "../tables.js";

const REQUESTS_MAX = 100_000;
const WEEK_MS = 7 * 86_400_000;
const WRITTEN_MS = 60_000;
const LOOK_MS = 500;

/** @param {import("../page.js").Page} page */
export function rehearsalView(page) {
  if (!canRehearse()) {
    fill(page.root, heading(t("nav.rehearsal")), el("p", { class: "notice" }, t("rehearsal.notHere")));
    return;
  }
  const answer = el("div", { class: "stack" });
  const sku = page.query.get("sku") ?? "";
  const fields = sku
    ? []
    : [field(t("rehearsal.units"), "units", { type: "number", min: 1, max: 10_000_000, value: "100", required: true })];
  const form = el(
    "form",
    { class: "search", submit: start },
    field(t("sale.sku"), "sku", { value: sku || `rehearsal-${Date.now().toString(36)}`, readonly: Boolean(sku), required: true, spellcheck: "false" }),
    ...fields,
    field(t("rehearsal.requests"), "requests", { type: "number", min: 1, max: REQUESTS_MAX, value: "10000", required: true }),
    el("button", { class: "button primary" }, t("rehearsal.start")),
  );
  fill(page.root, heading(t("nav.rehearsal"), { note: sku ? t("rehearsal.note.sale") : t("rehearsal.note") }), form, answer);

  /** @param {SubmitEvent} event */
  async function start(event) {
    event.preventDefault();
    const given = values(/** @type {HTMLFormElement} */ (form));
    const requests = Number(given.requests);
    const agreed = await ask({
      title: t("rehearsal.title", { sku: given.sku }),
      says: [given.units ? t("rehearsal.says.new", { units: Number(given.units), requests }) : t("rehearsal.says", { requests })],
      verb: t("rehearsal.start"),
      danger: Boolean(sku),
      act: async () => {
        if (given.units) await create(given.sku, given.units);
      },
    });
    if (agreed) await run(page, answer, given.sku, requests);
  }
}

/**
 * Create a sale that sells at once.
 * @param {string} sku
 * @param {string} units
 */
function create(sku, units) {
  return inventory("CreateSale", {
    terms: {
      sku,
      title: t("nav.rehearsal"),
      totalUnits: units,
      unitPrice: { currency: "CNY", minorUnits: "100" },
      purchaseLimit: 1,
      endTime: new Date(Date.now() + WEEK_MS).toISOString(),
    },
  });
}

/**
 * @param {import("../page.js").Page} page
 * @param {HTMLElement} answer
 * @param {string} sku
 * @param {number} requests
 */
async function run(page, answer, sku, requests) {
  const stopping = new AbortController();
  page.signal.addEventListener("abort", () => stopping.abort());
  const meter = /** @type {HTMLProgressElement} */ (el("progress", { max: requests, value: 0, "aria-label": t("rehearsal.progress") }));
  const now = el("div", { class: "stack" });
  const listed = el("div", { "aria-live": "polite" });
  const stop = button(t("rehearsal.stop"), () => stopping.abort());
  fill(answer, meter, now, stop, listed);
  try {
    await rehearse({
      sku,
      requests,
      signal: stopping.signal,
      tell: (progress) => {
        meter.value = progress.sent;
        showProgress(now, progress);
      },
    });
    stop.remove();
    await showOrders(page, listed, sku);
  } catch (error) {
    if (!page.signal.aborted) fill(listed, problem(error));
  }
}

/**
 * @param {HTMLElement} now
 * @param {import("../rehearse.js").Progress} progress
 */
function showProgress(now, { sent, total, outcomes, elapsedMs }) {
  const sorted = Object.entries(outcomes).sort((one, other) => other[1] - one[1]);
  fill(
    now,
    tiles([
      { label: t("rehearsal.answered"), value: count(sent), note: t("rehearsal.ofAll", { total }), look: "lead" },
      { label: t("rehearsal.reserved"), value: count(outcomes.RESERVED ?? 0), note: t("totals.units") },
      { label: t("rehearsal.time"), value: spanOf(elapsedMs / 1000), note: t("rehearsal.rate", { rate: number(Math.round((sent * 1000) / Math.max(1, elapsedMs))) }) },
    ]),
    shares(
      t("rehearsal.outcomes"),
      sorted.map(([outcome, value]) => ({ label: word(outcome, ""), value, look: outcome === "RESERVED" ? "good" : outcome === "SOLD_OUT" ? "rest" : "warn" })),
      count,
    ),
  );
}

/**
 * Wait until the orders of all reservations are written, and list them.
 * @param {import("../page.js").Page} page
 * @param {HTMLElement} listed
 * @param {string} sku
 */
async function showOrders(page, listed, sku) {
  const until = Date.now() + WRITTEN_MS;
  let found = await read();
  while (found.held > found.list.length && Date.now() < until && !page.signal.aborted) {
    fill(listed, el("p", { class: "soft" }, t("rehearsal.waiting", { held: found.held, listed: found.list.length })));
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    found = await read();
  }
  fill(
    listed,
    section(
      t("rehearsal.listed", { orders: found.list.length, units: found.held }),
      link(toQuery("orders", { sku }), t("rehearsal.toOrders")),
      table(t("orders.title"), orderColumns({ buyer: true }), found.list, { empty: t("orders.empty") }),
    ),
  );

  async function read() {
    const [{ sale }, list] = await Promise.all([
      inventory("GetSale", { sku }, page.signal),
      all(orders, "ListOrders", { sku, pageSize: 1_000 }, "orders", page.signal),
    ]);
    return { held: Number(sale.terms.totalUnits) - Number(sale.remainingUnits), list };
  }
}

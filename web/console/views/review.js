// Review: orders of a sale that belong together, and giving back the units of those that hoard.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { to } from "../addresses.js";
import { ask, field, tell } from "../dialogs.js";
import { count, time } from "../format.js";
import { failed, problem, said } from "../notices.js";
import { button, chip, fill, heading, link, nothing, word } from "../parts.js";
import { reviews } from "../rpc.js";
import { Selection } from "../selection.js";
import { skuForm } from "../sku_form.js";
import { Pages, table } from "../tables.js";

const KIND = "CLUSTER_KIND_";
const EFFECT = "VOID_EFFECT_";
const PAGE_SIZE = 50;
// A call voids a thousand orders at most; no cluster has more orders than an audited sale.
const CALLS_MAX = 1_000;

/** @typedef {{sku: string, ordersMin: number, early: string}} Asked what makes a cluster, and of which sale */

/** @param {import("../page.js").Page} page */
export function reviewView(page) {
  const answer = el("div", { "aria-live": "polite" });
  const fields = [
    field(t("review.ordersMin"), "least", { field: "orders_min", type: "number", min: 2, max: 1_000, value: "3", required: true }),
    field(t("review.early"), "early", { type: "number", min: 1, max: 60_000, value: "200", required: true }),
  ];
  fill(page.root, heading(t("review.title"), { note: t("review.note") }), skuForm(page, t("review.look"), look, fields), answer);

  /**
   * @param {string} sku
   * @param {Record<string, string>} given
   */
  async function look(sku, { least, early }) {
    const asked = { sku, ordersMin: Number(least), early: `${Number(early) / 1000}s` };
    const pages = new Pages();
    await show();

    async function show() {
      fill(answer, el("p", { class: "soft" }, t("review.running")));
      try {
        const found = await reviews("ReviewSale", { ...asked, pageSize: PAGE_SIZE, pageToken: pages.token }, page.signal);
        fill(answer, ...shown(found, asked, () => look(sku, { least, early })), pages.bar(found.nextPageToken, show, t("letters.shown", { count: found.clusters.length, place: pages.tokens.length })));
      } catch (error) {
        if (!page.signal.aborted) fill(answer, problem(error));
      }
    }
  }
}

/**
 * @param {any} found ReviewSaleResponse
 * @param {Asked} asked
 * @param {() => unknown} again looks again
 */
function shown(found, asked, again) {
  const { clusters, orderCount, sightedCount } = found;
  const known = el("p", { class: "soft" }, t("review.known", { orders: count(orderCount), sighted: count(sightedCount) }));
  if (!clusters.length) return [known, nothing(t("review.none"))];
  const chosen = /** @type {Selection<string>} */ (new Selection());
  /** @type {import("../tables.js").Column<any>[]} */
  const columns = [
    chosen.column((cluster) => cluster.id, (cluster) => Number(cluster.pendingUnits) > 0, (cluster) => cluster.id),
    { label: t("review.why"), cell: (cluster) => word(cluster.kind, KIND) },
    { label: t("review.cluster"), head: true, mono: true, cell: (cluster) => button(cluster.id, () => lookAt(cluster), { class: "plain" }) },
    { label: t("nav.orders"), figures: true, cell: (cluster) => count(cluster.orderCount) },
    { label: t("review.buyers"), figures: true, cell: (cluster) => count(cluster.userCount) },
    { label: t("review.pending"), figures: true, cell: (cluster) => count(cluster.pendingUnits) },
    { label: t("review.paid"), figures: true, cell: (cluster) => count(cluster.paidUnits) },
    { label: t("review.first"), cell: (cluster) => time(cluster.firstTime) },
    { label: t("review.last"), cell: (cluster) => time(cluster.lastTime) },
  ];
  const voids = chosen.button(t("review.void"), (ids) => voidClusters(asked, ids, again), "button danger-quiet");
  return [known, table(t("review.title"), columns, clusters), el("div", { class: "choices" }, voids)];
}

/**
 * Show what a cluster may be besides, and its first orders.
 * @param {any} cluster
 */
function lookAt({ id, kind, orderCount, orderNos }) {
  const rows = orderNos.map((/** @type {string} */ number) => el("li", {}, link(to("orders", number), number, { class: "mono" })));
  tell(word(kind, KIND), [
    t(`review.mayBe.${kind.replace(KIND, "")}`),
    el("p", { class: "mono small" }, id),
    t("review.orders", { count: orderNos.length, total: count(orderCount) }),
    el("ul", { class: "plain-list" }, ...rows),
  ]);
}

/**
 * Say what voiding would do, order by order, and do it if the operator agrees.
 * @param {Asked} asked
 * @param {string[]} clusterIds
 * @param {() => unknown} again
 */
async function voidClusters(asked, clusterIds, again) {
  const request = { ...asked, clusterIds };
  let foreseen;
  try {
    foreseen = await reviews("VoidOrders", { ...request, reason: t("review.void.asked"), dryRun: true });
  } catch (error) {
    failed(error);
    return;
  }
  const meant = only(foreseen, "VOIDED");
  const total = meant.length + foreseen.remainingCount;
  const units = meant.reduce((sum, { quantity }) => sum + quantity, 0);
  const more = foreseen.remainingCount ? t("review.void.more", { count: foreseen.remainingCount }) : null;
  const paid = only(foreseen, "NEEDS_REFUND").length;
  const done = await ask({
    title: t("review.void.title", { count: total, sku: asked.sku }),
    says: [
      t("review.void.says", { count: meant.length, units: count(units) }),
      more,
      paid ? t("review.void.paid", { count: paid }) : null,
      el("details", {}, el("summary", {}, t("review.void.orders")), table(t("review.void.orders"), voidColumns(), foreseen.orders)),
    ].filter(Boolean),
    fields: [field(t("lists.reason"), "reason", { required: true, maxlength: 500, hint: t("review.void.reason") })],
    verb: t("review.void"),
    danger: true,
    act: async ({ reason }) => said(t("review.void.done", { count: await voidAll({ ...request, reason }) })),
  });
  if (done) again();
}

/**
 * Void all orders that are meant, a thousand a call, and return how many there were.
 * @param {object} request
 */
async function voidAll(request) {
  let voided = 0;
  for (let calls = 0; calls < CALLS_MAX; calls += 1) {
    const answer = await reviews("VoidOrders", request);
    voided += only(answer, "VOIDED").length;
    if (!answer.remainingCount) break;
  }
  return voided;
}

/**
 * @param {any} answer VoidOrdersResponse
 * @param {string} effect
 * @returns {any[]}
 */
function only(answer, effect) {
  return answer.orders.filter((/** @type {any} */ order) => order.effect === EFFECT + effect);
}

/** @returns {import("../tables.js").Column<any>[]} */
function voidColumns() {
  return [
    { label: t("order.number"), head: true, mono: true, cell: (order) => order.orderNo },
    { label: t("order.buyer"), cell: (order) => order.userId || "–" },
    { label: t("order.units"), figures: true, cell: (order) => (order.quantity ? count(order.quantity) : "–") },
    { label: t("review.effect"), cell: (order) => chip(order.effect, EFFECT) },
  ];
}

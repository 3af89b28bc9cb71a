// Reconcile: what Redis and the database disagree about, shown before anything is changed.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { ask, tick } from "../dialogs.js";
import { count } from "../format.js";
import { problem, said } from "../notices.js";
import { button, chip, fill, heading, link, nothing, word } from "../parts.js";
import { to } from "../addresses.js";
import { rollback } from "../rpc.js";
import { skuForm } from "../sku_form.js";
import { table } from "../tables.js";

const KIND = "RECONCILE_FINDING_KIND_";

/** @param {import("../page.js").Page} page */
export function reconcileView(page) {
  const answer = el("div", { "aria-live": "polite" });
  fill(page.root, heading(t("reconcile.title"), { note: t("reconcile.note") }), skuForm(page, t("reconcile.compare"), compare), answer);

  /** @param {string} sku */
  async function compare(sku) {
    fill(answer, el("p", { class: "soft" }, t("reconcile.running")));
    try {
      show(sku, await rollback("Reconcile", { sku }, page.signal));
    } catch (error) {
      if (!page.signal.aborted) fill(answer, problem(error));
    }
  }

  /**
   * @param {string} sku
   * @param {any} found
   */
  function show(sku, found) {
    const { findings, driftUnits } = found;
    const open = findings.filter((/** @type {any} */ finding) => !finding.repaired);
    fill(
      answer,
      findings.length
        ? el("p", { class: "notice warn" }, t("reconcile.found", { count: total(found), drift: Number(driftUnits) }))
        : nothing(t("reconcile.agree", { sku })),
      findings.length ? table(t("reconcile.title"), columns(), findings) : null,
      open.length ? button(t("reconcile.repair"), () => repair(sku, found), { class: "button danger" }) : null,
    );
  }

  /**
   * @param {string} sku
   * @param {any} found
   */
  async function repair(sku, found) {
    const withheld = Math.max(0, -Number(found.driftUnits));
    const kinds = Object.entries(countBy(found.findings)).map(([kind, number]) =>
      el("li", {}, t(`reconcile.does.${kind}`, { count: number })),
    );
    await ask({
      title: t("reconcile.repair.title", { sku }),
      says: [t("reconcile.repair.says", { count: total(found) }), el("ul", {}, ...kinds)],
      fields: withheld ? [tick(t("reconcile.restock", { units: withheld }), "restock")] : [],
      verb: t("reconcile.repair"),
      danger: true,
      act: async ({ restock }) => {
        const answer = await rollback("Reconcile", { sku, repair: true, repairRestock: restock === "yes" });
        said(t("reconcile.repaired", { count: answer.findings.filter((/** @type {any} */ each) => each.repaired).length }));
        show(sku, answer);
      },
    });
  }
}

/** @param {any} found */
function total(found) {
  return found.findings.length + Number(found.unlistedFindings);
}

/** @param {any[]} findings */
function countBy(findings) {
  /** @type {Record<string, number>} */
  const counts = {};
  for (const { kind } of findings) counts[kind.replace(KIND, "")] = (counts[kind.replace(KIND, "")] ?? 0) + 1;
  return counts;
}

/** @returns {import("../tables.js").Column<any>[]} */
function columns() {
  return [
    { label: t("reconcile.kind"), cell: (finding) => word(finding.kind, KIND) },
    { label: t("order.number"), mono: true, cell: (finding) => (finding.orderNo ? link(to("orders", finding.orderNo), finding.orderNo) : "–") },
    { label: t("order.units"), figures: true, cell: (finding) => count(finding.units) },
    { label: t("reconcile.explanation"), wide: true, cell: (finding) => finding.explanation },
    { label: t("order.state"), cell: (finding) => chip(finding.repaired ? "repaired" : "open_finding") },
  ];
}

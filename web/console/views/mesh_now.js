// The mesh at this moment: attempts by outcome, lags, and the share that is shed.
//
// These are counters of whole processes, not of one sale: metrics of attempts and lags carry no sku.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { settings } from "../config.js";
import { count, percent, spanOf } from "../format.js";
import { Metrics } from "../metrics.js";
import { link, section, shares, tiles, word } from "../parts.js";
import { rollback } from "../rpc.js";

const LOOKS = ["good", "rest", "info", "warn", "bad"];

/**
 * Return what the mesh says of itself.
 * @param {AbortSignal} signal
 */
export async function meshNow(signal) {
  const { metrics: sources, charts } = settings();
  const [metrics, status] = await Promise.all([
    Metrics.read(sources, signal),
    rollback("GetStatus", {}, signal).catch(() => null),
  ]);
  const parts = [el("p", { class: "soft small" }, t("mesh.note"))];
  if (sources.length) parts.push(attempts(metrics));
  parts.push(lags(metrics, status, sources.length > 0));
  if (metrics.silent.length) {
    parts.push(el("p", { class: "notice warn small" }, t("mesh.silent", { sources: metrics.silent.join(", ") })));
  }
  if (!sources.length) parts.push(el("p", { class: "soft" }, t("mesh.none")));
  parts.push(charts ? link(charts, t("mesh.charts"), { rel: "noreferrer" }) : el("p", { class: "soft small" }, t("mesh.noCharts")));
  return section(t("mesh.title"), ...parts);
}

/** @param {Metrics} metrics */
function attempts(metrics) {
  const outcomes = [...metrics.by("seckill_attempts_total", "outcome")]
    .filter(([, value]) => value > 0)
    .sort((one, other) => other[1] - one[1]);
  const parts = outcomes.map(([outcome, value], place) => ({
    label: word(outcome, ""),
    value,
    look: outcome === "reserved" ? "good" : LOOKS[1 + (place % (LOOKS.length - 1))],
  }));
  return el("div", {}, el("h3", {}, t("mesh.attempts")), shares(t("mesh.attempts"), parts, count));
}

/**
 * @param {Metrics} metrics
 * @param {any} status of the rollback service; null if it does not answer
 * @param {boolean} measured whether there are metrics at all
 */
function lags(metrics, status, measured) {
  const number = (/** @type {number | null} */ value) => (value === null ? "–" : count(value));
  const length = (/** @type {number | null} */ value) => (value === null ? "–" : spanOf(value));
  const share = metrics.max("seckill_edge_shed_share");
  const measuredTiles = [
    { label: t("mesh.outbox"), value: number(metrics.max("seckill_outbox_depth")), note: t("mesh.oldest", { age: length(metrics.max("seckill_outbox_oldest_age_seconds")) }) },
    { label: t("mesh.consumer"), value: number(metrics.sum("seckill_consumer_lag_messages")), note: t("mesh.consumer.note") },
    { label: t("mesh.wait"), value: length(metrics.max("seckill_gateway_predicted_wait_seconds")), note: t("mesh.wait.note") },
    { label: t("mesh.shed"), value: share === null ? "–" : percent(share), note: t("mesh.shed.note") },
  ];
  return tiles([
    ...(measured ? measuredTiles : []),
    { label: t("mesh.due"), value: status ? count(status.dueOrders) : "–", note: t("mesh.due.note") },
    { label: t("mesh.delayed"), value: status ? count(status.delayedOrders) : "–", note: t("mesh.delayed.note") },
  ]);
}

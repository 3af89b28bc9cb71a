// What a sale is doing now, by the server's clock.

/** @typedef {"before" | "open" | "soldOut" | "paused" | "ended" | "lost"} Phase */

/**
 * @param {any} sale as the gateway's JSON has it
 * @param {number} nowMs
 * @returns {Phase}
 */
export function phaseOf(sale, nowMs) {
  // Archived ones, too, which are not loaded any more; of a lost one nothing is told.
  if (sale.state === "SALE_STATE_CLOSED") return "ended";
  if (!sale.loaded) return "lost";
  if (nowMs >= Date.parse(sale.terms.endTime)) return "ended";
  if (sale.state === "SALE_STATE_PAUSED") return "paused";
  if (nowMs < Date.parse(sale.terms.startTime)) return "before";
  return sale.soldOut ? "soldOut" : "open";
}

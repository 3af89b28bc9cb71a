// What a sale is doing now, in one word.

/**
 * @param {any} sale
 * @param {number} [nowMs]
 * @returns {"not_loaded" | "closed" | "paused" | "scheduled" | "ended" | "sold_out" | "live"}
 */
export function standing(sale, nowMs = Date.now()) {
  // Archived ones, too, which are not loaded any more; of a lost one nothing is told.
  if (sale.state === "SALE_STATE_CLOSED") return "closed";
  if (!sale.loaded) return "not_loaded";
  if (sale.state === "SALE_STATE_PAUSED") return "paused";
  if (Date.parse(sale.terms.startTime) > nowMs) return "scheduled";
  if (Date.parse(sale.terms.endTime) <= nowMs) return "ended";
  return sale.soldOut ? "sold_out" : "live";
}

/**
 * Whether the sale has started: title and price are then fixed.
 * @param {any} sale
 */
export function hasStarted(sale) {
  return Date.parse(sale.terms.startTime) <= Date.now();
}

// Sends purchases of development identities to the edge that buyers call, a few at a time.

import { call, CallFailed } from "../shared/api.js";
import { settings } from "./config.js";
import { DevelopmentIssuer } from "./development.js";

// A browser has about six connections to an origin; more calls would only wait in it.
const IN_FLIGHT_MAX = 12;
const TRIES = 5;

/**
 * @typedef {object} Progress
 * @property {number} sent purchases answered so far
 * @property {number} total
 * @property {Record<string, number>} outcomes by name: an outcome, or the reason of an error
 * @property {number} elapsedMs
 */

/**
 * Have this many buyers try to buy one unit each.
 * @param {object} plan
 * @param {string} plan.sku
 * @param {number} plan.requests
 * @param {AbortSignal} plan.signal
 * @param {(progress: Progress) => void} plan.tell called now and then, and at the end
 */
export async function rehearse({ sku, requests, signal, tell }) {
  const issuer = await DevelopmentIssuer.load();
  const crowd = crypto.randomUUID().slice(0, 8);
  const started = performance.now();
  /** @type {Progress} */
  const progress = { sent: 0, total: requests, outcomes: {}, elapsedMs: 0 };
  let next = 0;

  async function send() {
    while (next < requests && !signal.aborted) {
      next += 1;
      const outcome = await buy(issuer, sku, `rehearsal-${crowd}-${next}`, signal);
      progress.sent += 1;
      progress.outcomes[outcome] = (progress.outcomes[outcome] ?? 0) + 1;
    }
  }

  const timer = setInterval(() => report(), 200);
  const report = () => tell({ ...progress, elapsedMs: performance.now() - started });
  try {
    await Promise.all(Array.from({ length: IN_FLIGHT_MAX }, send));
  } finally {
    clearInterval(timer);
    report();
  }
}

/**
 * Have one buyer ask for a purchase token and buy; return what became of it.
 * @param {DevelopmentIssuer} issuer
 * @param {string} sku
 * @param {string} user
 * @param {AbortSignal} signal
 */
async function buy(issuer, sku, user, signal) {
  const path = `${settings().publicOrigin}/v1/sales/${encodeURIComponent(sku)}`;
  const identity = await issuer.token(user);
  const requestId = crypto.randomUUID();
  for (let place = 1; ; place += 1) {
    try {
      const { purchaseToken } = await call("POST", `${path}:issuePurchaseToken`, { body: {}, identity, signal });
      const body = { quantity: 1, purchaseToken, requestId };
      const { outcome } = await call("POST", `${path}:purchase`, { body, identity, signal });
      return outcome.replace("PURCHASE_OUTCOME_", "");
    } catch (error) {
      if (!(error instanceof CallFailed)) return "ABORTED";
      if (!error.isTransient || place === TRIES) return error.reason || "UNANSWERED";
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? 200 * place));
    }
  }
}

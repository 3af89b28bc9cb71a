// One press until it has an answer: the same request id, sent again as often as it takes.

import { CallFailed, backoffMs, call, pause } from "../shared/api.js";
import { nowMs } from "../shared/clock.js";

const TOKEN_REASONS = new Set(["PURCHASE_TOKEN_EXPIRED", "PURCHASE_TOKEN_INVALID"]);
const TOKENS_MAX = 4;
// A defect of the mesh may be of one replica only.
const INTERNAL_MAX = 3;
const GIVE_UP_MS = 10 * 60_000;
// The store's clock, which decides, may be behind the edge's, which the page follows.
const EARLY_MAX_MS = 3_000;
const EARLY_PAUSE_MS = 200;

/**
 * @typedef {object} Trouble why it takes longer
 * @property {CallFailed} failed
 * @property {number} againMs
 */

/**
 * Send a press until it is answered.
 * @param {object} options
 * @param {string} options.sku
 * @param {import("./attempts.js").Attempt} options.attempt
 * @param {import("./tokens.js").PurchaseTokens} options.tokens
 * @param {string} options.identity
 * @param {(trouble: Trouble | null) => void} options.onTrouble told before each pause, and when it goes on
 * @returns {Promise<{outcome: string, orderNo: string}>} the outcome without its prefix
 * @throws {CallFailed} what trying again does not change
 */
export async function buy({ sku, attempt, tokens, identity, onTrouble }) {
  const startMs = nowMs();
  let failures = 0;
  let renewals = 0;
  for (;;) {
    try {
      const token = await tokens.get();
      const answer = await call("POST", `/v1/sales/${encodeURIComponent(sku)}:purchase`, {
        body: { purchase_token: token, quantity: attempt.quantity, request_id: attempt.requestId },
        identity,
      });
      const outcome = answer.outcome.replace("PURCHASE_OUTCOME_", "");
      if (outcome !== "NOT_STARTED" || nowMs() - attempt.pressedMs > EARLY_MAX_MS) {
        return { outcome, orderNo: answer.orderNo };
      }
      await pause(EARLY_PAUSE_MS);
    } catch (failed) {
      if (!(failed instanceof CallFailed)) throw failed;
      failures += 1;
      if (TOKEN_REASONS.has(failed.reason) && renewals < TOKENS_MAX) {
        tokens.drop();
        renewals += 1;
        if (renewals === 1) continue;
      } else if (!failed.isTransient || (failed.reason === "INTERNAL" && failures > INTERNAL_MAX)) {
        throw failed;
      }
      if (nowMs() - startMs > GIVE_UP_MS) throw failed;
      const againMs = backoffMs(failed, failures);
      onTrouble({ failed, againMs });
      await pause(againMs);
      onTrouble(null);
    }
  }
}

// Purchase tokens: a permission to buy that lasts ten seconds, fetched when it is needed.

import { CallFailed, call } from "../shared/api.js";
import { nowMs } from "../shared/clock.js";

// What is left of a token's life must do for the purchase to get there.
const LIFE_LEFT_MS = 1_000;
const SOLUTIONS_MAX = 3;
const PROOF_OF_WORK = "CHALLENGE_KIND_PROOF_OF_WORK";

/** One buyer's tokens for one sale. */
export class PurchaseTokens {
  /** @type {{token: string, untilMs: number} | null} */
  #kept = null;
  /** @type {Promise<string> | null} */
  #fetching = null;

  /**
   * @param {string} sku
   * @param {string} identity a JWT
   * @param {(solving: boolean) => void} onChallenge told when one is being solved, and when it is
   */
  constructor(sku, identity, onChallenge) {
    this.sku = sku;
    this.identity = identity;
    this.onChallenge = onChallenge;
  }

  /**
   * Return a token that lasts long enough; fetch one if there is none.
   * @returns {Promise<string>}
   * @throws {CallFailed}
   */
  get() {
    if (this.#kept && this.#kept.untilMs - nowMs() > LIFE_LEFT_MS) {
      return Promise.resolve(this.#kept.token);
    }
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = null;
    });
    return this.#fetching;
  }

  /** Forget the token: it was not accepted. */
  drop() {
    this.#kept = null;
  }

  async #fetch() {
    let solution = "";
    for (let solved = 0; ; solved += 1) {
      try {
        const answer = await call("POST", `/v1/sales/${encodeURIComponent(this.sku)}:issuePurchaseToken`, {
          body: solution ? { challenge_solution: solution } : {},
          identity: this.identity,
        });
        this.#kept = { token: answer.purchaseToken, untilMs: Date.parse(answer.expireTime) };
        return answer.purchaseToken;
      } catch (failed) {
        const challenge = failed instanceof CallFailed ? failed.challenge : null;
        if (challenge?.kind !== PROOF_OF_WORK || solved === SOLUTIONS_MAX) throw failed;
        this.onChallenge(true);
        try {
          solution = await solve(challenge);
        } finally {
          this.onChallenge(false);
        }
        if (!solution) throw failed;
      }
    }
  }
}

/**
 * Solve a challenge in a worker, so that the page stays alive.
 * @param {Record<string, any>} challenge
 * @returns {Promise<string>} "" if it cannot be solved
 */
function solve(challenge) {
  const worker = new Worker(new URL("./solver.js", import.meta.url), { type: "module" });
  return new Promise((resolve) => {
    worker.addEventListener("message", ({ data }) => resolve(data));
    worker.addEventListener("error", () => resolve(""));
    worker.postMessage(challenge);
  }).finally(() => worker.terminate());
}

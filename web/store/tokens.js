// Purchase tokens: a permission to buy that lasts ten seconds, fetched when it is needed.

import { CallFailed, call } from "../shared/api.js";
import { nowMs } from "../shared/clock.js";
import { later } from "../shared/later.js";

// What is left of a token's life must do for the purchase to get there.
const LIFE_LEFT_MS = 1_000;
const SOLUTIONS_MAX = 3;

/** One buyer's tokens for one sale. */
export class PurchaseTokens {
  /** @type {{token: string, untilMs: number} | null} */
  #kept = null;
  /** @type {Promise<string> | null} */
  #fetching = null;

  /**
   * @param {object} options
   * @param {string} options.sku
   * @param {string} options.identity a JWT
   * @param {string} options.attestation address of the shop's script for attestations
   * @param {HTMLElement} options.place where a widget may show itself
   * @param {(kind: string) => void} options.onChallenge told the kind of the one that is being
   *   solved, and "" when it is
   */
  constructor({ sku, identity, attestation, place, onChallenge }) {
    this.sku = sku;
    this.identity = identity;
    this.attestation = attestation;
    this.place = place;
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
        if (!challenge || solved === SOLUTIONS_MAX) throw failed;
        const solver = await later(new URL("./challenges.js", import.meta.url)).catch(() => null);
        if (!solver) throw failed;
        this.onChallenge(challenge.kind);
        try {
          solution = await solver.solve(challenge, this.attestation, this.place);
        } finally {
          this.onChallenge("");
        }
        if (!solution) throw failed;
      }
    }
  }
}

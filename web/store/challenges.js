// What the gate asks a doubtful buyer's browser for before there is a purchase token.

import { moreTexts } from "../shared/i18n.js";

const PROOF_OF_WORK = "CHALLENGE_KIND_PROOF_OF_WORK";
const ATTESTATION = "CHALLENGE_KIND_ATTESTATION";

// The words of this script are there when it is.
await moreTexts({
  en: new URL("./texts/later/en.json", import.meta.url),
  zh: new URL("./texts/later/zh.json", import.meta.url),
});

/**
 * A challenge as the gateway's JSON has it.
 * @typedef {object} Challenge
 * @property {string} kind
 * @property {string} challenge
 * @property {string} siteKey
 * @property {string | null} expireTime
 */

/**
 * What a shop's script for attestations exports as its default (docs/pages.md).
 * @callback Attest
 * @param {{siteKey: string, challenge: string, place: HTMLElement, language: string}} asked
 * @returns {Promise<string>} the provider's token
 */

/**
 * Return the solution of a challenge; "" if there is none here.
 * @param {Challenge} challenge
 * @param {string} attestation address of the shop's script; "" if it has none
 * @param {HTMLElement} place where a widget may show itself
 * @returns {Promise<string>}
 */
export async function solve(challenge, attestation, place) {
  if (challenge.kind === PROOF_OF_WORK) return compute(challenge);
  if (challenge.kind !== ATTESTATION || !attestation) return "";
  try {
    const address = new URL(attestation, location.href);
    const attest = /** @type {{default: Attest}} */ (await import(address.href)).default;
    const { siteKey, challenge: data } = challenge;
    return await attest({ siteKey, challenge: data, place, language: document.documentElement.lang });
  } catch (error) {
    // The buyer is told that there is no proof; why is for whoever wrote the script.
    console.warn("attestation:", error);
    return "";
  } finally {
    place.replaceChildren();
  }
}

/**
 * Find the number of a proof of work in a worker, so that the page stays alive.
 * @param {Challenge} challenge
 * @returns {Promise<string>} "" if it cannot be found
 */
function compute(challenge) {
  const worker = new Worker(new URL("./solver.js", import.meta.url), { type: "module" });
  return new Promise((resolve) => {
    worker.addEventListener("message", ({ data }) => resolve(data));
    worker.addEventListener("error", () => resolve(""));
    worker.postMessage(challenge);
  }).finally(() => worker.terminate());
}

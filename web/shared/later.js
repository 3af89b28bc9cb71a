// Scripts that the first view does without: fetched when they are needed.

import { pause } from "./api.js";

const TRIES_MAX = 60;
const PAUSE_MS = 1_000;

/**
 * Import a script; without a connection it is tried again, at once when there is one.
 * @param {URL} url
 * @returns {Promise<any>}
 */
export async function later(url) {
  for (let tries = 1; ; tries += 1) {
    try {
      // A browser may remember that an address failed, so the next one differs.
      return await import(tries === 1 ? url.href : `${url.href}?${tries}`);
    } catch (error) {
      if (tries === TRIES_MAX) throw error;
      await pause(PAUSE_MS);
    }
  }
}

// What a view is given.

/**
 * @typedef {object} Page what a view is given
 * @property {HTMLElement} root
 * @property {Record<string, string>} params parts of the address
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal aborted when the operator goes elsewhere
 * @property {(intervalMs: number, look: () => Promise<void>) => Promise<void>} poll looks now, and
 *   again and again while the page is visible
 * @property {() => void} reload shows the view again
 */

/**
 * Make one.
 * @param {Omit<Page, "poll"> & {failed: (error: unknown) => void}} given `failed`: told of a look
 *   that failed after the first
 * @returns {Page}
 */
export function makePage({ failed, ...given }) {
  return {
    ...given,
    poll: async (intervalMs, look) => {
      await look();
      const timer = setInterval(() => {
        if (document.visibilityState === "visible") look().catch(failed);
      }, intervalMs);
      given.signal.addEventListener("abort", () => clearInterval(timer));
    },
  };
}

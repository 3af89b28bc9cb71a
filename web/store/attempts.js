// A press of the button, kept where reloads and other tabs of the same buyer find it.
//
// It is kept before it is sent: whatever happens on the way, the same request id is sent again, and
// the mesh gives the answer that the first one had.

import { nowMs } from "../shared/clock.js";

// An older press that was never answered is not sent again by itself.
const FRESH_MS = 10 * 60_000;

/**
 * @typedef {object} Attempt
 * @property {string} requestId
 * @property {number} quantity
 * @property {number} pressedMs by the server's clock
 * @property {string} outcome without its prefix; "" while there is none
 * @property {string} orderNo
 */

/**
 * @param {string} userId
 * @param {string} sku
 */
function key(userId, sku) {
  return `seckill.attempt:${sku}:${userId}`;
}

/**
 * Return the buyer's last press in this sale; null if there was none.
 * @param {string} userId
 * @param {string} sku
 * @returns {Attempt | null}
 */
export function read(userId, sku) {
  try {
    return JSON.parse(localStorage.getItem(key(userId, sku)) ?? "null");
  } catch {
    return null;
  }
}

/**
 * @param {string} userId
 * @param {string} sku
 * @param {Attempt} attempt
 */
export function keep(userId, sku, attempt) {
  localStorage.setItem(key(userId, sku), JSON.stringify(attempt));
}

/**
 * Make and keep a new press.
 * @param {string} userId
 * @param {string} sku
 * @param {number} quantity
 * @returns {Attempt}
 */
export function press(userId, sku, quantity) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const requestId = `page-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  const attempt = { requestId, quantity, pressedMs: nowMs(), outcome: "", orderNo: "" };
  keep(userId, sku, attempt);
  return attempt;
}

/**
 * Whether a press waits for its answer, and is young enough to be sent again.
 * @param {Attempt | null} attempt
 */
export function isOpen(attempt) {
  return attempt !== null && !attempt.outcome && nowMs() - attempt.pressedMs < FRESH_MS;
}

/**
 * Call `listener` when another tab of this buyer presses, or has an answer.
 * @param {string} userId
 * @param {string} sku
 * @param {() => void} listener
 */
export function onChange(userId, sku, listener) {
  addEventListener("storage", (event) => {
    if (event.key === key(userId, sku)) listener();
  });
}

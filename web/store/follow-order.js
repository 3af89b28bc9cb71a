// An order as it changes: watched, with polling behind it.

import { CallFailed, backoffMs, call, lines, pause } from "../shared/api.js";

// A proxy on the way may hold a watch's lines back: so often the order is asked for besides.
const ASK_MS = 8_000;
const RESTORE_POLL_MS = 1_000;
const RESTORE_POLLS_MAX = 300;
const WATCH_ENDED = new CallFailed({ status: 0, message: "the watch ended" });

/**
 * An order as the gateway's JSON has it.
 * @typedef {object} Order
 * @property {string} orderNo
 * @property {string} sku
 * @property {number} quantity
 * @property {{currency: string, minorUnits: string}} amount
 * @property {string} state with its prefix ORDER_STATE_
 * @property {string | null} createTime
 * @property {string | null} expireTime
 * @property {string | null} payTime
 * @property {string | null} cancelTime
 * @property {string | null} restoreTime
 */

/** @param {Order} order */
export function stateOf(order) {
  return order.state.replace("ORDER_STATE_", "");
}

/** @param {Order} order */
function isSettled(order) {
  const state = stateOf(order);
  return state === "PAID" || state === "REFUNDED" || Boolean(order.restoreTime);
}

/**
 * Tell of an order now and at each change, until nothing more will come of it.
 * @param {object} options
 * @param {string} options.orderNo
 * @param {string} options.identity
 * @param {(order: Order) => void} options.onOrder
 * @param {(failed: CallFailed | null) => void} options.onTrouble null once it goes on
 * @throws {CallFailed} what trying again does not change, e.g. there is no such order
 */
export async function followOrder({ orderNo, identity, onOrder, onTrouble }) {
  const path = `/v1/orders/${encodeURIComponent(orderNo)}`;
  let failures = 0;
  /** @type {Order | null} */
  let order = null;
  const take = (/** @type {Order} */ told) => {
    if (failures) onTrouble(null);
    failures = 0;
    order = told;
    onOrder(told);
  };
  while (order === null || stateOf(order) === "PENDING") {
    /** @type {CallFailed} */
    let failed = WATCH_ENDED;
    // Back in sight, or online again: what the watch has missed is asked for at once.
    const woken = new AbortController();
    const wake = () => document.visibilityState === "visible" && woken.abort(WATCH_ENDED);
    document.addEventListener("visibilitychange", wake);
    const asking = setInterval(async () => {
      const told = await call("GET", path, { identity }).catch(() => null);
      if (told) take(told.order);
      if (told && stateOf(told.order) !== "PENDING") woken.abort(WATCH_ENDED);
    }, ASK_MS);
    try {
      for await (const told of lines(`${path}:watch`, { identity, signal: woken.signal })) take(told.order);
    } catch (error) {
      if (!(error instanceof CallFailed)) throw error;
      failed = error;
    } finally {
      clearInterval(asking);
      document.removeEventListener("visibilitychange", wake);
    }
    if (order !== null && stateOf(order) !== "PENDING") break;
    if (!failed.isTransient) throw failed;
    try {
      take((await call("GET", path, { identity })).order);
    } catch (error) {
      if (!(error instanceof CallFailed) || !error.isTransient) throw error;
      failed = error;
      failures += 1;
      onTrouble(failed);
    }
    if (!woken.signal.aborted) await pause(backoffMs(failed, failures + 1));
  }
  for (let polls = 0; !isSettled(order) && polls < RESTORE_POLLS_MAX; polls += 1) {
    await pause(RESTORE_POLL_MS);
    const told = await call("GET", path, { identity }).catch(() => null);
    if (told && told.order.restoreTime) take(told.order);
  }
}

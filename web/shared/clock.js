// The server's clock. Sales start by it, whatever the visitor's clock says.
//
// The edge says its time to the millisecond (`x-time` of /v1/clock) without asking Python. Of a few
// questions the one with the shortest round trip counts, and half of it is taken for the way back.
// Between questions performance.now() counts on: setting the visitor's clock does not move it. It
// may stand still while a machine sleeps, so whoever wakes up asks again.

const QUESTIONS = 4;
const AGAIN_MS = 5 * 60_000;
const RETRY_MS = 5_000;
// performance.now() and Date.now() apart by more: the machine slept, or its clock was set.
const SLEPT_MS = 400;
const CLOCK_MS = 4_000;

/** @type {number | null} Milliseconds to add to performance.now(). */
let offsetMs = null;
let isStale = true;
let askedMs = 0;
let driftMs = 0;
/** @type {Promise<void> | null} */
let asking = null;
/** @type {Set<() => void>} */
const listeners = new Set();

/** The server's time in Unix milliseconds; the visitor's own until it is known. */
export function nowMs() {
  return offsetMs === null ? Date.now() : performance.now() + offsetMs;
}

/**
 * Call `listener` whenever the clock was read again.
 * @param {() => void} listener
 */
export function onSync(listener) {
  listeners.add(listener);
}

/** Read the server's clock; without an answer what is known stays. */
export function sync() {
  asking ??= read().finally(() => {
    asking = null;
  });
  return asking;
}

/** Read the clock again if it is old, or if this machine has slept; cheap to call often. */
export function keep() {
  const slept = Math.abs(Date.now() - performance.now() - driftMs) > SLEPT_MS;
  isStale ||= slept;
  if (slept || performance.now() - askedMs > (isStale ? RETRY_MS : AGAIN_MS)) sync();
}

async function read() {
  let best = Number.POSITIVE_INFINITY;
  for (let question = 0; question < QUESTIONS; question += 1) {
    const sentMs = performance.now();
    const serverMs = await readOnce();
    const gotMs = performance.now();
    if (serverMs === null) break;
    if (gotMs - sentMs < best) {
      best = gotMs - sentMs;
      offsetMs = serverMs - (sentMs + gotMs) / 2;
      isStale = false;
    }
  }
  askedMs = performance.now();
  driftMs = Date.now() - askedMs;
  for (const listener of listeners) listener();
}

/** @returns {Promise<number | null>} */
async function readOnce() {
  try {
    const response = await fetch("/v1/clock", {
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(CLOCK_MS),
    });
    const seconds = Number(response.headers.get("x-time"));
    return response.ok && seconds > 0 ? seconds * 1000 : null;
  } catch {
    return null;
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") sync();
});

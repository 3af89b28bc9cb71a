// Which buyer is signed in: a JWT of the shop's issuer, kept under a known key.
//
// A shop's own sign-in page stores the token there and comes back to the address in `next`
// (docs/pages.md).

import { nowMs } from "./clock.js";

/** Where the token is kept. */
export const KEY = "seckill.identity";

/**
 * @typedef {object} Identity
 * @property {string} token
 * @property {string} userId its subject
 * @property {number} expireMs Unix milliseconds
 */

/**
 * Return who is signed in; null if nobody is, or no longer.
 * @returns {Identity | null}
 */
export function identity() {
  const token = localStorage.getItem(KEY);
  const found = token ? parse(token) : null;
  return found && found.expireMs > nowMs() ? found : null;
}

/**
 * @param {string} token
 * @returns {Identity | null}
 */
function parse(token) {
  try {
    const text = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof claims.sub !== "string") return null;
    return {
      token,
      userId: claims.sub,
      expireMs: Number(claims.exp ?? Number.POSITIVE_INFINITY) * 1000,
    };
  } catch {
    return null;
  }
}

/** Forget who is signed in. */
export function signOut() {
  localStorage.removeItem(KEY);
}

/**
 * Call `listener` when somebody signs in or out, in another tab too.
 * @param {() => void} listener
 */
export function onChange(listener) {
  addEventListener("storage", (event) => {
    if (event.key === null || event.key === KEY) listener();
  });
}

/**
 * @typedef {object} Config what a shop sets in /config.json
 * @property {string} signIn address of the sign-in page; "" if there is none
 * @property {string} pay address of the page to pay at; {order_no} stands for the order's number
 * @property {string} attestation address of the shop's script for attestations; "" if it has none
 */

/** @type {Promise<Config> | null} */
let config = null;

/** Return what the shop has set. */
export function readConfig() {
  config ??= fetch("/config.json", { credentials: "omit" })
    .then((response) => (response.ok ? response.json() : {}))
    .catch(() => ({}))
    .then((told) => ({ signIn: "", pay: "", attestation: "", ...told }));
  return config;
}

/**
 * Return the address at which to sign in and come back to this page; "" if the shop has none.
 * @param {Config} told
 */
export function signInAddress({ signIn }) {
  if (!signIn) return "";
  const address = new URL(signIn, location.href);
  address.searchParams.set("next", location.pathname + location.search);
  return address.href;
}

// Who is signed in: a JWT of the shop's issuer (operators: of theirs), kept under a known key.
//
// A shop's own sign-in page stores the token there and comes back to the address in `next`
// (docs/pages.md).

import { nowMs } from "./clock.js";

/** Where tokens are kept, by who they are for. */
export const KEYS = { buyer: "seckill.identity", operator: "seckill.operator" };

/**
 * @typedef {object} Identity
 * @property {string} token
 * @property {string} userId its subject
 * @property {string[]} roles
 * @property {number} expireMs Unix milliseconds
 */

/**
 * Return who is signed in; null if nobody is, or no longer.
 * @param {"buyer" | "operator"} [who]
 * @returns {Identity | null}
 */
export function identity(who = "buyer") {
  const token = localStorage.getItem(KEYS[who]);
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
      roles: Array.isArray(claims.roles) ? claims.roles : [],
      expireMs: Number(claims.exp ?? Number.POSITIVE_INFINITY) * 1000,
    };
  } catch {
    return null;
  }
}

/** @param {"buyer" | "operator"} [who] */
export function signOut(who = "buyer") {
  localStorage.removeItem(KEYS[who]);
}

/**
 * Call `listener` when somebody signs in or out, in another tab too.
 * @param {() => void} listener
 */
export function onChange(listener) {
  addEventListener("storage", (event) => {
    if (event.key === null || Object.values(KEYS).includes(event.key)) listener();
  });
}

/**
 * @typedef {object} Config what a shop sets in /config.json
 * @property {string} signIn address of the buyers' sign-in page; "" if there is none
 * @property {string} operatorSignIn address of the operators'
 * @property {string} pay address of the page to pay at; {order_no} stands for the order's number
 */

/** @type {Promise<Config> | null} */
let config = null;

/** Return what the shop has set. */
export function readConfig() {
  config ??= fetch("/config.json", { credentials: "omit" })
    .then((response) => (response.ok ? response.json() : {}))
    .catch(() => ({}))
    .then((told) => ({ signIn: "", operatorSignIn: "", pay: "", ...told }));
  return config;
}

/**
 * Return the address at which to sign in and come back to this page; "" if the shop has none.
 * @param {Config} told
 * @param {"buyer" | "operator"} [who]
 */
export function signInAddress(told, who = "buyer") {
  const page = who === "buyer" ? told.signIn : told.operatorSignIn;
  if (!page) return "";
  const address = new URL(page, location.href);
  address.searchParams.set("next", location.pathname + location.search);
  return address.href;
}

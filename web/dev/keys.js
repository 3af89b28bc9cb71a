// The keys of the local stack, and signing with them. Nothing of this folder is in what production
// serves.

/**
 * @typedef {object} Keys as devstack writes them
 * @property {string} issuer
 * @property {string} audience
 * @property {string} keyId
 * @property {string} key base64url
 * @property {{name: string, secret: string} | null} provider secret: whsec_ and base64
 */

/** @returns {Promise<Keys>} */
export async function readKeys() {
  const response = await fetch("/dev/keys.json", { cache: "no-store", credentials: "omit" });
  if (!response.ok) throw new Error("this stack gives no keys away");
  return response.json();
}

/** @param {string} text base64 or base64url */
function fromBase64(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
}

/** @param {Uint8Array} bytes */
function toBase64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

/** @param {unknown} value */
function part(value) {
  return toUrl(toBase64(new TextEncoder().encode(JSON.stringify(value))));
}

/** @param {string} base64 */
function toUrl(base64) {
  return base64.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/**
 * @param {string} key
 * @param {string} text
 */
async function hmac(key, text) {
  const known = await crypto.subtle.importKey("raw", fromBase64(key), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return toBase64(new Uint8Array(await crypto.subtle.sign("HMAC", known, new TextEncoder().encode(text))));
}

/**
 * Sign a JWT (HS256) as the development issuer does.
 * @param {Keys} keys
 * @param {Record<string, unknown>} claims
 */
export async function signJwt(keys, claims) {
  const text = `${part({ alg: "HS256", typ: "JWT", kid: keys.keyId })}.${part({ iss: keys.issuer, aud: keys.audience, ...claims })}`;
  return `${text}.${toUrl(await hmac(keys.key, text))}`;
}

/**
 * Return the headers of a webhook, as Standard Webhooks has them.
 * @param {string} secret
 * @param {{id: string, seconds: number, body: string}} message
 */
export async function signWebhook(secret, { id, seconds, body }) {
  return {
    "webhook-id": id,
    "webhook-timestamp": String(seconds),
    "webhook-signature": `v1,${await hmac(secret.replace("whsec_", ""), `${id}.${seconds}.${body}`)}`,
  };
}

/**
 * Return an address of this site, so that no link leads elsewhere.
 * @param {string | null} path
 */
export function inside(path) {
  const address = new URL(path || "/", location.href);
  return address.origin === location.origin ? address.href : "/";
}

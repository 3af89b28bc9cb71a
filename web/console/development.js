// Identities for development: signed in the page, with the key that the local stack alone serves.

const LIFE_S = 3600;
const KEYS = "/dev/keys.json";

/** @typedef {{issuer: string, audience: string, keyId: string, key: string}} Keys */

/** Signs tokens of the development issuer. */
export class DevelopmentIssuer {
  /**
   * @param {Keys} keys
   * @param {CryptoKey} key
   */
  constructor(keys, key) {
    this.keys = keys;
    this.key = key;
  }

  /** Read the key. */
  static async load() {
    const answer = await fetch(KEYS, { credentials: "omit" });
    if (!answer.ok) throw new Error(`${KEYS}: status ${answer.status}`);
    /** @type {Keys} */
    const keys = await answer.json();
    const secret = { kty: "oct", k: keys.key, alg: "HS256" };
    const algorithm = { name: "HMAC", hash: "SHA-256" };
    const key = await crypto.subtle.importKey("jwk", secret, algorithm, false, ["sign"]);
    return new DevelopmentIssuer(keys, key);
  }

  /**
   * Return a JWT.
   * @param {string} subject
   * @param {string[]} [roles]
   */
  async token(subject, roles = []) {
    const now = Math.floor(Date.now() / 1000);
    const header = { alg: "HS256", typ: "JWT", kid: this.keys.keyId };
    const claims = {
      iss: this.keys.issuer,
      aud: this.keys.audience,
      sub: subject,
      iat: now,
      exp: now + LIFE_S,
      ...(roles.length ? { roles } : {}),
    };
    const signed = `${encode(JSON.stringify(header))}.${encode(JSON.stringify(claims))}`;
    const mark = await crypto.subtle.sign("HMAC", this.key, new TextEncoder().encode(signed));
    return `${signed}.${encode(new Uint8Array(mark))}`;
  }
}

/**
 * Return base64url.
 * @param {string | Uint8Array} content
 */
function encode(content) {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const text = btoa(String.fromCharCode(...bytes));
  return text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

// Who is signed in: a token of the operators' issuer, for as long as the tab is open.

const TOKEN = "seckill.operator";
const STATE = "seckill.operator.state";

/** Return the token; "" if nobody is signed in. */
export function token() {
  return sessionStorage.getItem(TOKEN) ?? "";
}

/** @param {string} given */
export function signIn(given) {
  sessionStorage.setItem(TOKEN, given);
}

export function signOut() {
  sessionStorage.removeItem(TOKEN);
}

/** Return the operator's name, which the token states; "" if nobody is signed in. */
export function operator() {
  return String(claims(token())?.sub ?? "");
}

/**
 * Return what a JWT states, unverified; null if it is none.
 * @param {string} given
 * @returns {Record<string, unknown> | null}
 */
export function claims(given) {
  try {
    const part = given.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return null;
  }
}

/**
 * Return the address of the issuer's sign-in page, which sends the operator back with a token.
 * @param {string} page the configured address
 */
export function signInAddress(page) {
  const state = crypto.randomUUID();
  sessionStorage.setItem(STATE, state);
  const address = new URL(page);
  address.searchParams.set("return_to", location.origin + location.pathname);
  address.searchParams.set("state", state);
  return address.href;
}

/**
 * Take the token that the sign-in page has put behind the `#`, and take it out of the address.
 *
 * One without the state that this tab has sent is not taken: somebody else asked for it.
 */
export function takeTokenFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const found = given.get("token");
  if (found === null) return;
  const expected = sessionStorage.getItem(STATE);
  sessionStorage.removeItem(STATE);
  history.replaceState(null, "", location.pathname);
  if (expected !== null && given.get("state") === expected) signIn(found);
}

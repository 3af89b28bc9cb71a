// What the console knows of the place where it runs: /config.json, from the edge's settings.

/**
 * @typedef {object} Config
 * @property {string} signIn address of the operators' sign-in page; "" if there is none
 * @property {string} charts address of the charts; "" if there are none
 * @property {string[]} metrics names of the processes whose metrics can be read
 * @property {string} publicOrigin of the edge that buyers call; "" unless rehearsals may call it
 * @property {boolean} developmentIssuer whether the development issuer's key is served
 */

/** @type {Config} */
let config = { signIn: "", charts: "", metrics: [], publicOrigin: "", developmentIssuer: false };

/** Read it, once, before anything is shown. */
export async function readConfig() {
  const response = await fetch("/config.json", { credentials: "omit" });
  if (response.ok) config = { ...config, ...(await response.json()) };
}

/** Return it. */
export function settings() {
  return config;
}

// Addresses of views.

/**
 * Return the address of a view: `to("sales", sku)`.
 * @param {...string} parts
 */
export function to(...parts) {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

/**
 * Return the address of a view with a query.
 * @param {string} path
 * @param {Record<string, string>} query
 */
export function toQuery(path, query) {
  const given = Object.entries(query).filter(([, value]) => value);
  return given.length ? `#/${path}?${new URLSearchParams(given)}` : `#/${path}`;
}

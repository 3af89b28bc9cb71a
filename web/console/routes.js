// Which view an address names.

import { auditView } from "./views/audit.js";
import { buyerView } from "./views/buyer.js";
import { deadLettersView } from "./views/dead_letters.js";
import { killSwitchView } from "./views/kill_switch.js";
import { limitsView } from "./views/limits.js";
import { listsView } from "./views/lists.js";
import { logView } from "./views/log.js";
import { newSaleView } from "./views/new_sale.js";
import { orderView } from "./views/order.js";
import { ordersView } from "./views/orders.js";
import { paymentsView } from "./views/payments.js";
import { policiesView } from "./views/policies.js";
import { reconcileView } from "./views/reconcile.js";
import { rehearsalView } from "./views/rehearsal.js";
import { reviewView } from "./views/review.js";
import { saleView } from "./views/sale.js";
import { salesView } from "./views/sales.js";
import { webhooksView } from "./views/webhooks.js";

/** @typedef {(page: import("./page.js").Page) => void | Promise<void>} View */

/** @type {[string, View, string][]} Path, view, and the entry of the navigation it belongs to. */
const ROUTES = [
  ["/sales", salesView, "sales"],
  ["/sales/new", newSaleView, "sales"],
  ["/sales/:sku", saleView, "sales"],
  ["/rehearsal", rehearsalView, "rehearsal"],
  ["/orders", ordersView, "orders"],
  ["/orders/:number", orderView, "orders"],
  ["/buyers/:user", buyerView, "orders"],
  ["/payments", paymentsView, "payments"],
  ["/review", reviewView, "review"],
  ["/lists", listsView, "lists"],
  ["/limits", limitsView, "limits"],
  ["/policies", policiesView, "policies"],
  ["/audit", auditView, "audit"],
  ["/reconcile", reconcileView, "reconcile"],
  ["/dead-letters", deadLettersView, "dead-letters"],
  ["/webhooks", webhooksView, "webhooks"],
  ["/kill-switch", killSwitchView, "kill-switch"],
  ["/log", logView, "log"],
];

/**
 * Return the view of "#/sales/phone?x=1", and what the address says to it.
 * @param {string} hash
 */
export function resolve(hash) {
  const [path, search = ""] = hash.slice(1).split("?", 2);
  const query = new URLSearchParams(search);
  for (const [pattern, view, nav] of ROUTES) {
    const params = match(pattern, path);
    if (params) return { view, params, query, nav };
  }
  return { view: salesView, params: {}, query, nav: "sales" };
}

/**
 * @param {string} pattern
 * @param {string} path
 */
function match(pattern, path) {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  /** @type {Record<string, string>} */
  const params = {};
  for (const [place, part] of wanted.entries()) {
    if (part.startsWith(":")) params[part.slice(1)] = decode(given[place]);
    else if (part !== given[place]) return null;
  }
  return params;
}

/** @param {string} part */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

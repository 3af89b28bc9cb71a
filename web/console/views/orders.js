// Orders: by sale, buyer and state, newest first, in pages.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { field, values } from "../dialogs.js";
import { count } from "../format.js";
import { problem } from "../notices.js";
import { fill, heading, word } from "../parts.js";
import { orderColumns, ORDER_STATES, STATE } from "../order_table.js";
import { to, toQuery } from "../addresses.js";
import { orders } from "../rpc.js";
import { Pages, table } from "../tables.js";

const PAGE_SIZE = 100;
const NUMBER = /^[0-9A-Za-z]{26}$/;

/** @param {import("../page.js").Page} page */
export async function ordersView(page) {
  const wanted = {
    sku: page.query.get("sku") ?? "",
    user: page.query.get("user") ?? "",
    state: page.query.get("state") ?? "",
  };
  const pages = new Pages();
  const list = el("div", { "aria-live": "polite" });
  fill(page.root, heading(t("orders.title")), searchForm(wanted), list);
  await show();

  async function show() {
    const request = {
      sku: wanted.sku,
      userId: wanted.user,
      state: wanted.state ? `${STATE}${wanted.state}` : undefined,
      pageSize: PAGE_SIZE,
      pageToken: pages.token,
    };
    try {
      const found = await orders("ListOrders", request, page.signal);
      const total = await totalOf(page, wanted);
      const said = t("orders.shown", { count: found.orders.length, place: pages.tokens.length });
      fill(
        list,
        total === null ? null : el("p", { class: "soft" }, t("orders.total", { units: total })),
        table(t("orders.title"), orderColumns({ buyer: true, sale: !wanted.sku }), found.orders, { empty: t("orders.empty") }),
        pages.bar(found.nextPageToken, show, said),
      );
    } catch (error) {
      if (!page.signal.aborted) fill(list, problem(error));
    }
  }
}

/**
 * Return the units that orders of a sale hold; null if the list is not of one sale.
 * @param {import("../page.js").Page} page
 * @param {{sku: string, user: string, state: string}} wanted
 */
async function totalOf(page, { sku, user, state }) {
  if (!sku || user || state) return null;
  const totals = await orders("GetSaleTotals", { sku }, page.signal);
  return count(totals.soldUnits);
}

/** @param {{sku: string, user: string, state: string}} wanted */
function searchForm(wanted) {
  return el(
    "form",
    { class: "search", role: "search", submit: search },
    field(t("orders.number"), "number", { spellcheck: "false" }),
    field(t("sale.sku"), "sku", { value: wanted.sku, spellcheck: "false" }),
    field(t("order.buyer"), "user", { value: wanted.user, spellcheck: "false" }),
    field(t("order.state"), "state", {
      value: wanted.state,
      options: [["", t("any")], ...ORDER_STATES.map((state) => /** @type {[string, string]} */ ([state, word(state, "")]))],
    }),
    el("button", { class: "button primary" }, t("search")),
  );

  /** @param {SubmitEvent} event */
  function search(event) {
    event.preventDefault();
    const { number, sku, user, state } = values(/** @type {HTMLFormElement} */ (event.currentTarget));
    if (NUMBER.test(number)) location.hash = to("orders", number);
    else location.hash = toQuery("orders", { sku, user, state });
  }
}

// Tables: on a phone each row becomes a card, whose cells say what they are.

import { el } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { button, nothing } from "./parts.js";

/**
 * @template Row
 * @typedef {object} Column
 * @property {string} label
 * @property {(row: Row) => import("./parts.js").Child} cell
 * @property {boolean} [figures] numbers, to the right
 * @property {boolean} [head] names the row
 * @property {boolean} [mono]
 * @property {boolean} [wide] long text
 */

/**
 * Return a table, or what it says when it is empty.
 * @template Row
 * @param {string} caption for screen readers
 * @param {Column<Row>[]} columns
 * @param {Row[]} rows
 * @param {{empty?: string}} [options]
 */
export function table(caption, columns, rows, { empty = t("table.empty") } = {}) {
  if (!rows.length) return nothing(empty);
  const head = columns.map(({ label, figures }) =>
    el("th", { scope: "col", class: figures ? "figures right" : "" }, label || hidden(t("table.actions"))),
  );
  const body = rows.map((row) => el("tr", {}, ...columns.map((column) => cell(column, row))));
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      {},
      el("caption", { class: "visually-hidden" }, caption),
      el("thead", {}, el("tr", {}, ...head)),
      el("tbody", {}, ...body),
    ),
  );
}

/** @param {string} text */
function hidden(text) {
  return el("span", { class: "visually-hidden" }, text);
}

/**
 * @template Row
 * @param {Column<Row>} column
 * @param {Row} row
 */
function cell({ label, cell, figures, head, mono, wide }, row) {
  const looks = [figures && "figures right", mono && "mono", wide && "wide"].filter(Boolean);
  const attributes = { class: looks.join(" "), "data-label": label };
  return head
    ? el("th", { ...attributes, scope: "row" }, cell(row))
    : el("td", attributes, cell(row));
}

/** Pages of a list, forwards and back. */
export class Pages {
  constructor() {
    /** @type {string[]} tokens of the pages before this one, and of this one */
    this.tokens = [""];
  }

  /** The token of the page to show. */
  get token() {
    return /** @type {string} */ (this.tokens.at(-1));
  }

  /**
   * Return the way to the pages beside this one.
   * @param {string} next the next page's token; "" if there is none
   * @param {() => void} show shows the page
   * @param {string} said what this page is
   */
  bar(next, show, said) {
    const older = button(t("pages.next"), () => {
      this.tokens.push(next);
      show();
    });
    const newer = button(t("pages.previous"), () => {
      this.tokens.pop();
      show();
    });
    older.toggleAttribute("disabled", !next);
    newer.toggleAttribute("disabled", this.tokens.length === 1);
    return el(
      "nav",
      { class: "pages", "aria-label": t("pages.label") },
      el("span", { class: "soft small" }, said),
      newer,
      older,
    );
  }
}

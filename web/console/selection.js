// Rows that are ticked, and what is done with all of them.

import { el } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

/** @template Id */
export class Selection {
  constructor() {
    /** @type {Set<Id>} */
    this.chosen = new Set();
    /** @type {HTMLButtonElement[]} */
    this.buttons = [];
  }

  /**
   * Return a column with a box for each row that can be chosen.
   * @param {(row: any) => Id} idOf
   * @param {(row: any) => boolean} canBe
   * @param {(row: any) => string} nameOf
   * @returns {import("./tables.js").Column<any>}
   */
  column(idOf, canBe, nameOf) {
    return {
      label: t("table.choose"),
      cell: (row) =>
        canBe(row) &&
        el("input", {
          type: "checkbox",
          "aria-label": t("table.chooseOne", { name: nameOf(row) }),
          change: (/** @type {Event} */ event) => this.set(idOf(row), /** @type {HTMLInputElement} */ (event.target).checked),
        }),
    };
  }

  /**
   * Return a button that works while something is chosen.
   * @param {string} text
   * @param {(ids: Id[]) => unknown} act
   * @param {string} [look]
   */
  button(text, act, look = "button") {
    const made = /** @type {HTMLButtonElement} */ (
      el("button", { type: "button", class: look, disabled: true, click: () => act([...this.chosen]) }, text)
    );
    this.buttons.push(made);
    return made;
  }

  /**
   * @param {Id} id
   * @param {boolean} isChosen
   */
  set(id, isChosen) {
    if (isChosen) this.chosen.add(id);
    else this.chosen.delete(id);
    for (const each of this.buttons) each.disabled = this.chosen.size === 0;
  }
}

/**
 * Return what became of things that were settled together.
 * @param {number} count
 * @param {{reason: string}[]} refused
 */
export function settled(count, refused) {
  const why = refused.map(({ reason }) => reason).join("; ");
  return refused.length ? t("settled.some", { done: count, refused: refused.length, why }) : t("settled.all", { done: count });
}

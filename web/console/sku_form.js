// The form that names a sale, and runs something for it; at once if the address names one.

import { el } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { field, values } from "./dialogs.js";

/**
 * @param {import("./page.js").Page} page
 * @param {string} verb
 * @param {(sku: string, given: Record<string, string>) => Promise<void>} run told all that the form says
 * @param {HTMLElement[]} [fields] what it asks for besides
 */
export function skuForm(page, verb, run, fields = []) {
  const named = page.query.get("sku") ?? "";
  const press = el("button", { class: "button primary" }, verb);
  const form = el(
    "form",
    { class: "search", submit: submit },
    field(t("sale.sku"), "sku", { value: named, required: true, spellcheck: "false" }),
    ...fields,
    press,
  );
  if (named) queueMicrotask(() => start(named));
  return form;

  /** @param {SubmitEvent} event */
  function submit(event) {
    event.preventDefault();
    start(values(/** @type {HTMLFormElement} */ (form)).sku);
  }

  /** @param {string} sku */
  async function start(sku) {
    press.toggleAttribute("disabled", true);
    await run(sku, values(/** @type {HTMLFormElement} */ (form)));
    press.toggleAttribute("disabled", false);
  }
}

// Dialogs: they ask before anything is done, say what it will do, and show why it failed. Others only
// tell.

import { CallFailed } from "../shared/api.js";
import { el } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { problem } from "./notices.js";
import { fill } from "./parts.js";

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {import("./parts.js").Child[]} [says] what it will do
 * @property {HTMLElement[]} [fields]
 * @property {string} verb what the button says
 * @property {boolean} [danger] cannot be taken back, or stops buyers
 * @property {(values: Record<string, string>) => Promise<unknown>} act done when the operator agrees
 */

/**
 * Ask, and act if the operator agrees; stays open with the reason if that fails.
 * @param {Question} question
 * @returns {Promise<boolean>} whether it was done
 */
export function ask({ title, says = [], fields = [], verb, danger = false, act }) {
  const id = `dialog-${crypto.randomUUID()}`;
  const trouble = el("div");
  const agree = el("button", { class: danger ? "button danger" : "button primary" }, verb);
  const leave = el("button", { class: "button", type: "button", click: () => dialog.close() }, t("cancel"));
  const form = el(
    "form",
    { class: "stack", submit: submit },
    el("h2", { id }, title),
    ...paragraphs(says),
    ...fields,
    trouble,
    el("div", { class: "choices" }, agree, leave),
  );
  const dialog = /** @type {HTMLDialogElement} */ (el("dialog", { "aria-labelledby": id }, form));
  let done = false;

  /** @param {SubmitEvent} event */
  async function submit(event) {
    event.preventDefault();
    fill(trouble);
    agree.toggleAttribute("disabled", true);
    try {
      await act(values(/** @type {HTMLFormElement} */ (form)));
      done = true;
      dialog.close();
    } catch (error) {
      fill(trouble, problem(error));
      mark(form, error);
    } finally {
      agree.toggleAttribute("disabled", false);
    }
  }

  document.body.append(dialog);
  dialog.showModal();
  // What is safe has the focus, unless there is something to fill in.
  if (danger && !fields.length) leave.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(done);
    });
  });
}

/**
 * Tell something, until it is closed.
 * @param {string} title
 * @param {import("./parts.js").Child[]} says
 */
export function tell(title, says) {
  const id = `dialog-${crypto.randomUUID()}`;
  const leave = el("button", { class: "button", type: "button", click: () => dialog.close() }, t("close"));
  const parts = [el("h2", { id }, title), ...paragraphs(says), el("div", { class: "choices" }, leave)];
  const dialog = /** @type {HTMLDialogElement} */ (
    el("dialog", { "aria-labelledby": id, close: () => dialog.remove() }, el("div", { class: "stack" }, ...parts))
  );
  document.body.append(dialog);
  dialog.showModal();
  leave.focus();
}

/** @param {import("./parts.js").Child[]} says texts become paragraphs */
function paragraphs(says) {
  return says.map((each) => (typeof each === "string" ? el("p", {}, each) : each));
}

/**
 * Return what a form says, by the names of its fields.
 * @param {HTMLFormElement} form
 */
export function values(form) {
  /** @type {Record<string, string>} */
  const found = {};
  for (const [name, value] of new FormData(form)) found[name] = String(value).trim();
  return found;
}

/**
 * Mark the fields that the service finds fault with, and go to the first of them.
 * @param {HTMLElement} form
 * @param {unknown} error
 */
export function mark(form, error) {
  for (const node of form.querySelectorAll("[aria-invalid]")) node.removeAttribute("aria-invalid");
  if (!(error instanceof CallFailed)) return;
  const wrong = error.violations.map(({ field }) => field.replace(/^(terms|policy)\./, ""));
  const nodes = [...form.querySelectorAll("[data-field]")].filter((node) =>
    wrong.some((field) => field.startsWith(/** @type {HTMLElement} */ (node).dataset.field ?? "")),
  );
  for (const node of nodes) node.setAttribute("aria-invalid", "true");
  if (nodes.length) /** @type {HTMLElement} */ (nodes[0]).focus();
}

/**
 * Return a labelled field.
 * @param {string} label
 * @param {string} name
 * @param {{hint?: string, options?: [string, string][], field?: string, value?: string} & Record<string, any>} [attributes]
 *   of the input; `options` makes it a choice, `rows` a text of several lines, and `field` is the
 *   contract's name for it
 */
export function field(label, name, { hint = "", options, field = name, value = "", ...attributes } = {}) {
  const id = `field-${name}-${crypto.randomUUID()}`;
  const shared = {
    id,
    name,
    "data-field": field,
    "aria-describedby": hint ? `${id}-hint` : null,
    ...attributes,
  };
  const input = options
    ? el("select", shared, ...options.map(([key, text]) => el("option", { value: key, selected: key === value }, text)))
    : attributes.rows
      ? el("textarea", shared, value)
      : el("input", { type: "text", autocomplete: "off", ...shared, value });
  return el(
    "div",
    { class: "field" },
    el("label", { for: id }, label),
    input,
    hint ? el("p", { id: `${id}-hint`, class: "soft small" }, hint) : null,
  );
}

/**
 * Return a box to tick.
 * @param {string} label
 * @param {string} name
 * @param {boolean} [checked]
 */
export function tick(label, name, checked = false) {
  return el("label", { class: "tick" }, el("input", { type: "checkbox", name, value: "yes", checked }), label);
}

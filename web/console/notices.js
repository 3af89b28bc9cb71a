// What happened, said once at the foot of the page and to screen readers.

import { CallFailed } from "../shared/api.js";
import { el, find } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { button } from "./parts.js";

const SHOWN_MS = 8_000;

/**
 * Say what was done.
 * @param {string} text
 */
export function said(text) {
  const node = el("div", { class: "notice good" }, el("p", {}, text));
  find("notices").append(node);
  setTimeout(() => node.remove(), SHOWN_MS);
}

/**
 * Return why something failed, in the service's own words, with its reason and its id.
 * @param {unknown} error
 */
export function problem(error) {
  if (!(error instanceof CallFailed)) {
    return el("div", { class: "notice warn", role: "alert" }, el("p", {}, String(error)));
  }
  const id = error.metadata["request-id"];
  return el(
    "div",
    { class: "notice warn", role: "alert" },
    el("p", {}, error.status === 0 ? t("problem.offline") : error.message),
    el(
      "p",
      { class: "small soft mono" },
      [error.reason || (error.status ? `HTTP ${error.status}` : ""), id && `request-id ${id}`]
        .filter(Boolean)
        .join(" · "),
    ),
  );
}

/**
 * Show a failure at the foot of the page until it is closed.
 * @param {unknown} error
 */
export function failed(error) {
  const node = problem(error);
  node.append(button(t("close"), () => node.remove(), { class: "plain" }));
  find("notices").append(node);
}

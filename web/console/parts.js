// The parts that the views are made of.

import { el } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

/** @typedef {Node | string | null | undefined | false} Child */

/**
 * @param {string} text
 * @param {(event: Event) => unknown} press
 * @param {Record<string, any>} [attributes]
 */
export function button(text, press, attributes = {}) {
  return el("button", { type: "button", class: "button", ...attributes, click: press }, text);
}

/**
 * @param {string} href
 * @param {string} text
 * @param {Record<string, any>} [attributes]
 */
export function link(href, text, attributes = {}) {
  return el("a", { href, ...attributes }, text);
}

/**
 * Replace what an element contains.
 * @param {Element} node
 * @param {...Child} children
 */
export function fill(node, ...children) {
  node.replaceChildren(.../** @type {(Node | string)[]} */ (children.filter(Boolean)));
}

/**
 * Return a value of an enum in words: "PAYMENT_STATE_TO_REFUND" is the text "enum.to_refund".
 * @param {string} value
 * @param {string} prefix
 */
export function word(value, prefix) {
  const short = value.replace(prefix, "").toLowerCase();
  const text = t(`enum.${short}`);
  return text.startsWith("enum.") ? short.replaceAll("_", " ") : text;
}

/** @type {Record<string, string>} The chip's look by the value's last words. */
const LOOKS = {
  live: "good", open: "good", paid: "good", applied: "good", holds: "good", told: "good", pass: "good",
  paused: "warn", pending: "warn", to_refund: "warn", scheduled: "info", waiting: "info", sending: "info",
  sold_out: "info", not_loaded: "bad", dead: "bad", broken: "bad", gone: "bad", deny: "bad", refuse: "bad",
  rejected: "bad", voided: "bad", needs_refund: "warn", challenge: "warn", held: "warn", unknown: "warn",
};

/**
 * Return a chip with a value of an enum; its words say it too, not the colour alone.
 * @param {string} value
 * @param {string} [prefix]
 */
export function chip(value, prefix = "") {
  const look = LOOKS[value.replace(prefix, "").toLowerCase()] ?? "plain";
  return el("span", { class: `chip ${look}` }, word(value, prefix));
}

/**
 * Return the heading of a view, with what can be done beside it.
 * @param {string} title
 * @param {{above?: Child, beside?: Child, actions?: Child[], note?: string}} [more]
 */
export function heading(title, { above, beside, actions = [], note = "" } = {}) {
  return el(
    "header",
    { class: "heading" },
    el(
      "div",
      {},
      above,
      el("h1", { tabindex: "-1" }, title, beside ? " " : null, beside),
      note ? el("p", { class: "soft small" }, note) : null,
    ),
    actions.some(Boolean) ? el("div", { class: "actions" }, ...actions) : null,
  );
}

/**
 * Return numbers side by side.
 * @param {{label: string, value: Child, note?: Child, look?: string}[]} tiles
 */
export function tiles(tiles) {
  return el(
    "dl",
    { class: "tiles" },
    ...tiles.map(({ label, value, note, look = "" }) =>
      el(
        "div",
        { class: `tile ${look}` },
        el("dt", {}, label),
        el("dd", { class: "figures" }, value),
        note ? el("dd", { class: "soft small" }, note) : null,
      ),
    ),
  );
}

/**
 * Return terms and what they are.
 * @param {[string, Child][]} pairs
 */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el(
    "dl",
    { class: "facts" },
    ...shown.flatMap(([term, value]) => [el("dt", {}, term), el("dd", { class: "figures" }, value)]),
  );
}

/**
 * Return a part of a view with a heading of its own.
 * @param {string} title
 * @param {...Child} children
 */
export function section(title, ...children) {
  return el("section", { class: "part" }, el("h2", {}, title), ...children);
}

/**
 * Return the parts of a whole as a bar, with a legend in words.
 * @param {string} label what the whole is
 * @param {{label: string, value: number, look: string}[]} parts
 * @param {(value: number) => string} say
 */
export function shares(label, parts, say) {
  const total = parts.reduce((sum, part) => sum + part.value, 0);
  const shown = parts.filter((part) => part.value > 0);
  const bar = el("div", { class: "bar", "aria-hidden": "true" });
  for (const part of shown) {
    const piece = el("span", { class: part.look });
    // The style of an element, which the content security policy allows to scripts.
    piece.style.flexGrow = String(part.value / (total || 1));
    bar.append(piece);
  }
  const legend = parts.map((part) =>
    el(
      "li",
      { class: part.value ? "" : "none" },
      el("span", { class: `dot ${part.look}`, "aria-hidden": "true" }),
      el("span", {}, part.label),
      el("b", { class: "figures" }, say(part.value)),
    ),
  );
  return el("figure", { class: "shares" }, bar, el("ul", { "aria-label": label }, ...legend));
}

/** @param {string} text what a list says that is empty */
export function nothing(text) {
  return el("p", { class: "nothing soft" }, text);
}

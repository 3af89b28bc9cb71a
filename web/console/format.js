// Amounts, times and lengths as an operator reads them: with the currency's code, and the zone.

import { EXPONENTS } from "../shared/currencies.js";
import { el } from "../shared/dom.js";
import { language, number, t } from "../shared/i18n.js";

const NOTHING = "–";

/** @param {string | number} value of protobuf's JSON, which has 64-bit integers as strings */
export function count(value) {
  return number(Number(value));
}

/** @param {number} share 0 to 1 */
export function percent(share) {
  const format = new Intl.NumberFormat(language(), { style: "percent", maximumFractionDigits: 1 });
  return format.format(share);
}

/** @param {string} currency */
function digits(currency) {
  return EXPONENTS[currency] ?? 2;
}

/** @param {{currency: string, minorUnits: string} | null | undefined} money */
export function amount(money) {
  if (!money?.currency) return NOTHING;
  const places = digits(money.currency);
  const format = new Intl.NumberFormat(language(), {
    minimumFractionDigits: places,
    maximumFractionDigits: places,
  });
  return `${format.format(Number(money.minorUnits) / 10 ** places)} ${money.currency}`;
}

/**
 * Return "9.90" for an input.
 * @param {{currency: string, minorUnits: string}} money
 */
export function toAmountInput({ currency, minorUnits }) {
  return (Number(minorUnits) / 10 ** digits(currency)).toFixed(digits(currency));
}

/**
 * Read an amount such as "9.90"; null if it is none, or has more places than the currency.
 * @param {string} text
 * @param {string} currency
 */
export function readAmount(text, currency) {
  const found = /^(\d{1,15})(?:\.(\d{1,4}))?$/.exec(text.trim());
  const fraction = found?.[2] ?? "";
  if (!found || fraction.length > digits(currency)) return null;
  return { currency, minorUnits: String(BigInt(found[1] + fraction.padEnd(digits(currency), "0"))) };
}

/**
 * Return a time with its zone, to the second.
 * @param {string | null | undefined} stamp RFC 3339
 * @returns {Node}
 */
export function time(stamp) {
  if (!stamp) return document.createTextNode(NOTHING);
  return el("time", { datetime: stamp, title: stamp, class: "time" }, moment(new Date(stamp)));
}

/** @param {Date} when */
export function moment(when) {
  return `${local(when).replace("T", " ")} ${zone(when)}`;
}

/** @param {Date} when */
function local(when) {
  const two = (/** @type {number} */ value) => String(value).padStart(2, "0");
  const day = [when.getFullYear(), two(when.getMonth() + 1), two(when.getDate())].join("-");
  return `${day}T${[when.getHours(), when.getMinutes(), when.getSeconds()].map(two).join(":")}`;
}

/**
 * Return the zone of this browser, e.g. "UTC+8".
 * @param {Date} [when]
 */
export function zone(when = new Date()) {
  const minutes = -when.getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60];
  return `UTC${minutes > 0 ? "+" : "−"}${hours}${rest ? `:${String(rest).padStart(2, "0")}` : ""}`;
}

/**
 * Return what an input of type datetime-local takes.
 * @param {string | Date | undefined} when
 */
export function toInput(when) {
  return when ? local(new Date(when)) : "";
}

/**
 * Return RFC 3339; undefined for an empty input.
 * @param {string} value
 */
export function fromInput(value) {
  return value ? new Date(value).toISOString() : undefined;
}

/** @param {string | null | undefined} duration of protobuf's JSON, e.g. "900s" */
export function span(duration) {
  return duration ? spanOf(Number.parseFloat(duration)) : NOTHING;
}

/** @param {number} seconds */
export function spanOf(seconds) {
  if (seconds < 120) return t("unit.s", { value: Math.round(seconds * 10) / 10 });
  if (seconds < 7200) return t("unit.min", { value: Math.round(seconds / 6) / 10 });
  return t("unit.h", { value: Math.round(seconds / 360) / 10 });
}

// The page's words in the visitor's language, and numbers, money and times as that language has them.

import { EXPONENTS } from "./currencies.js";

/** @typedef {"en" | "zh"} Language */

const KEY = "seckill.language";
const TAGS = { en: "en", zh: "zh-Hans" };
const LOCALES = { en: "en-GB", zh: "zh-CN" };
const SHARED = {
  en: new URL("./texts/en.json", import.meta.url),
  zh: new URL("./texts/zh.json", import.meta.url),
};

// Outcomes, and why calls are refused: most visits do without.
const ANSWERS = {
  en: new URL("./texts/answers/en.json", import.meta.url),
  zh: new URL("./texts/answers/zh.json", import.meta.url),
};

/** @type {Record<string, string>} */
let texts = {};
/** @type {Map<string, Promise<void>>} Texts that were asked for later, by their address. */
const more = new Map();
/** @type {Language} */
let current = "en";

/** @returns {Language} */
function wanted() {
  const chosen = localStorage.getItem(KEY);
  if (chosen === "en" || chosen === "zh") return chosen;
  const first = navigator.languages.find((tag) => /^(en|zh)\b/i.test(tag)) ?? "en";
  return first.toLowerCase().startsWith("zh") ? "zh" : "en";
}

/**
 * Load the words, shared ones and the page's own, and put them into the page.
 * @param {...Record<Language, URL>} own
 */
export async function loadTexts(...own) {
  current = wanted();
  const parts = await Promise.all([SHARED, ...own].map((texts) => loadText(texts[current])));
  texts = Object.assign({}, ...parts);
  document.documentElement.lang = TAGS[current];
  translate(document.body);
}

/** @param {URL} url */
async function loadText(url) {
  const response = await fetch(url, { credentials: "omit" });
  return response.json();
}

/**
 * Load words that the first view does without, once.
 * @param {Record<Language, URL>} later
 */
export function moreTexts(later) {
  const url = later[current];
  const loading =
    more.get(url.href) ??
    loadText(url).then((found) => {
      Object.assign(texts, found);
    });
  more.set(url.href, loading);
  loading.catch(() => more.delete(url.href));
  return loading;
}

/** Load the words for answers; while there is no connection a general one has to do. */
function loadAnswers() {
  return moreTexts(ANSWERS).catch(() => {});
}

/** The language in use. */
export function language() {
  return current;
}

/** Change to the other language; the page is loaded again, and goes on where it was. */
export function switchLanguage() {
  localStorage.setItem(KEY, current === "en" ? "zh" : "en");
  location.reload();
}

/**
 * Put the words into all elements that name theirs: data-text, data-label, data-title.
 * @param {ParentNode} root
 */
export function translate(root) {
  for (const node of root.querySelectorAll("[data-text]")) {
    node.textContent = t(/** @type {HTMLElement} */ (node).dataset.text ?? "");
  }
  for (const node of root.querySelectorAll("[data-label]")) {
    node.setAttribute("aria-label", t(/** @type {HTMLElement} */ (node).dataset.label ?? ""));
  }
}

/**
 * Return a text with its {values} filled in. One with `count` may have forms `.one` and `.other`.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  let text = texts[key];
  if (text === undefined && typeof values.count === "number") {
    const form = new Intl.PluralRules(LOCALES[current]).select(values.count);
    text = texts[`${key}.${form}`] ?? texts[`${key}.other`];
  }
  if (text === undefined) return key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? number(value) : value;
  });
}

/** @param {string} key */
function hasText(key) {
  return key in texts;
}

/** @param {number} value */
export function number(value) {
  return new Intl.NumberFormat(LOCALES[current]).format(value);
}

/**
 * Return an amount as the language has it, with the decimal places of ISO 4217 (browsers follow
 * CLDR, which leaves out those that a country no longer uses).
 * @param {{currency: string, minorUnits: string | number}} money
 */
export function money({ currency, minorUnits }) {
  const digits = EXPONENTS[/** @type {keyof typeof EXPONENTS} */ (currency)] ?? 2;
  return new Intl.NumberFormat(LOCALES[current], {
    style: "currency",
    currency,
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  }).format(Number(minorUnits) / 10 ** digits);
}

/** @param {number} ms Unix milliseconds */
export function timeOfDay(ms) {
  return new Intl.DateTimeFormat(LOCALES[current], { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(ms);
}

/** @param {number} ms Unix milliseconds */
export function dateTime(ms) {
  return new Intl.DateTimeFormat(LOCALES[current], {
    weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
  }).format(ms);
}

/**
 * Return "3 seconds", "2 minutes": at least one second.
 * @param {number} ms
 */
export function wait(ms) {
  const seconds = Math.max(1, Math.ceil(ms / 1000));
  const [value, unit] = seconds < 120 ? [seconds, "second"] : [Math.round(seconds / 60), "minute"];
  return new Intl.NumberFormat(LOCALES[current], { style: "unit", unit, unitDisplay: "long" }).format(value);
}

/**
 * Return a time that is left as digits: 09:58, 2:09:58.
 * @param {number} ms
 */
export function digits(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const parts = [Math.floor(seconds / 60) % 60, seconds % 60].map((part) => String(part).padStart(2, "0"));
  const hours = Math.floor(seconds / 3600);
  return (hours ? [String(hours), ...parts] : parts).join(":");
}

/**
 * Return a sentence that says what became of a press.
 * @param {string} outcome without its prefix
 */
export async function explainOutcome(outcome) {
  await loadAnswers();
  const key = `outcome.${outcome}`;
  return t(hasText(key) ? key : "reason.unknown", { reason: outcome, wait: t("wait.moment") });
}

/**
 * Return a sentence that says why a call failed and what to do next.
 * @param {import("./api.js").CallFailed} failed
 */
export async function explain(failed) {
  if (failed.status) await loadAnswers();
  // Some reasons are outcomes, too, and have their sentence.
  const keys = [`reason.${failed.reason || (failed.status ? "unknown" : "offline")}`, `outcome.${failed.reason}`];
  return t(keys.find(hasText) ?? "reason.unknown", {
    wait: failed.retryAfterMs === null ? t("wait.moment") : wait(failed.retryAfterMs),
    fields: failed.violations.map((violation) => violation.field).join(", ") || "?",
    order: failed.metadata.order_no ?? "",
    request: failed.metadata["request-id"] ?? "-",
    reason: failed.reason || String(failed.status),
  });
}

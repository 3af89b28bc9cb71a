// The list of sales.

import { CallFailed, call } from "../shared/api.js";
import { keep as keepClock, nowMs, onSync } from "../shared/clock.js";
import { el, find, show, write } from "../shared/dom.js";
import { dateTime, digits, explain, money, t } from "../shared/i18n.js";
import { openPage } from "./frame.js";
import { phaseOf } from "./phase.js";
import { picture } from "./picture.js";

const TICK_MS = 500;
const POLL_MS = 15_000;
const PAGE_SIZE = 50;
const PAGES_MAX = 20;
// From this on the days do not matter, the digits do.
const SOON_MS = 24 * 3_600_000;
const ORDER = ["open", "soldOut", "paused", "before", "lost", "ended"];

await openPage({
  en: new URL("./texts/list/en.json", import.meta.url),
  zh: new URL("./texts/list/zh.json", import.meta.url),
});

/** @type {Map<string, {sale: any, card: HTMLElement, state: HTMLElement, phase: string}>} */
const cards = new Map();
let pages = 1;
let pollTimer = 0;

async function poll() {
  clearTimeout(pollTimer);
  let pauseMs = POLL_MS * (1 + Math.random() / 2);
  try {
    const { sales, more } = await readPages();
    take(sales);
    show(find("more"), more);
    show(find("problem"), false);
  } catch (failed) {
    if (!(failed instanceof CallFailed)) throw failed;
    write(find("problem"), await explain(failed));
    show(find("problem"), true);
    pauseMs = Math.max(pauseMs / 3, failed.retryAfterMs ?? 0);
  }
  show(find("wait"), false);
  pollTimer = setTimeout(() => document.visibilityState === "visible" && poll(), pauseMs);
}

async function readPages() {
  const sales = [];
  let token = "";
  for (let page = 0; page < pages; page += 1) {
    const told = await call("GET", `/v1/sales?page_size=${PAGE_SIZE}&page_token=${encodeURIComponent(token)}`);
    sales.push(...told.sales.filter((/** @type {any} */ sale) => sale.loaded));
    token = told.nextPageToken;
    if (!token) break;
  }
  return { sales, more: Boolean(token) && pages < PAGES_MAX };
}

/** @param {any[]} sales */
function take(sales) {
  const told = new Set(sales.map((sale) => sale.terms.sku));
  for (const sku of [...cards.keys()].filter((known) => !told.has(known))) cards.delete(sku);
  for (const sale of sales) {
    const { sku } = sale.terms;
    const known = cards.get(sku);
    if (known && JSON.stringify(known.sale.terms) === JSON.stringify(sale.terms)) known.sale = sale;
    else cards.set(sku, makeCard(sale));
  }
  draw();
}

/** @param {any} sale */
function makeCard(sale) {
  const { terms } = sale;
  const state = el("p", { class: "tag figures" });
  const card = el(
    "li",
    { class: "card" },
    el("div", { class: "card-picture" }, picture(terms.sku)),
    el(
      "div",
      { class: "card-text" },
      el("h2", {}, el("a", { href: `/sale/?sku=${encodeURIComponent(terms.sku)}` }, terms.title || terms.sku)),
      el("p", { class: "card-price figures" }, money(terms.unitPrice)),
      state,
    ),
  );
  return { sale, card, state, phase: "" };
}

function draw() {
  keepClock();
  const now = nowMs();
  let moved = false;
  for (const entry of cards.values()) {
    const phase = phaseOf(entry.sale, now);
    moved ||= phase !== entry.phase || !entry.card.isConnected;
    entry.phase = phase;
    entry.card.dataset.phase = phase;
    write(entry.state, stateText(entry.sale, phase, now));
  }
  if (!moved && find("sales").childElementCount === cards.size) return;
  const start = (/** @type {any} */ entry) => Date.parse(entry.sale.terms.startTime);
  const sorted = [...cards.values()].sort(
    (a, b) => ORDER.indexOf(a.phase) - ORDER.indexOf(b.phase) || start(a) - start(b),
  );
  const held = document.activeElement;
  find("sales").replaceChildren(...sorted.map((entry) => entry.card));
  if (held instanceof HTMLElement && held.isConnected) held.focus();
  show(find("none"), cards.size === 0);
}

/**
 * @param {any} sale
 * @param {string} phase
 * @param {number} now
 */
function stateText(sale, phase, now) {
  const startMs = Date.parse(sale.terms.startTime);
  if (phase === "before" && startMs - now < SOON_MS) return t("card.startsIn", { time: digits(startMs - now) });
  if (phase === "open") return t("card.left", { count: Number(sale.remainingUnits) });
  return t(`card.${phase}`, { time: dateTime(startMs) });
}

find("more").addEventListener("click", () => {
  pages += 1;
  poll();
});
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && poll());
onSync(draw);
setInterval(draw, TICK_MS);
await poll();

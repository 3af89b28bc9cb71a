// The page of one sale.

import { CallFailed, call } from "../shared/api.js";
import { keep as keepClock, nowMs, onSync } from "../shared/clock.js";
import { el, find, show, write } from "../shared/dom.js";
import { dateTime, explain, explainOutcome, money, number, t, wait } from "../shared/i18n.js";
import { later } from "../shared/later.js";
import { isOpen, keep, onChange, press, read } from "./attempts.js";
import { Countdown } from "./countdown.js";
import { openPage, say } from "./frame.js";
import { OrderPanel } from "./order-panel.js";
import { phaseOf } from "./phase.js";
import { picture } from "./picture.js";
import { buy } from "./purchase.js";
import { showLine, showResult } from "./result.js";
import { PurchaseTokens } from "./tokens.js";

const TICK_MS = 250;
const TIMER_MAX_MS = 2 ** 31 - 1;
// A token is fetched so long before the start, at a moment that differs from buyer to buyer: early
// enough to solve a challenge, late enough to last for ten seconds around the start.
const TOKEN_LEAD_MIN_MS = 3_000;
const TOKEN_LEAD_SPREAD_MS = 3_000;
// How often the sale is asked for, by its phase, and up to as much again by half at random.
const POLL_MS = { before: 20_000, open: 3_000, soldOut: 5_000, paused: 4_000, ended: 60_000, lost: 5_000 };
const POLL_WATCHED_MS = 2_000;
const FINAL = ["RESERVED", "ALREADY_PURCHASED"];
// The press may have bought something although it seems to have failed.
const UNCERTAIN = new Set(["", "OUTCOME_UNKNOWN", "INTERNAL"]);
const HOLDS_NOTHING = ["ORDER_STATE_CANCELLED", "ORDER_STATE_REJECTED"];

/** @typedef {import("./attempts.js").Attempt} Attempt */

const sku = new URLSearchParams(location.search).get("sku") ?? "";
// Kept while this tab is open, reloads included.
const TELL = `seckill.tell:${sku}`;
const path = `/v1/sales/${encodeURIComponent(sku)}`;
const { config, address, who } = await openPage();

/** @type {any} The sale as the gateway told it last. */
let sale = null;
/** @type {{units: string, lastExpireTime: string} | null} Units that may come back. */
let unpaid = null;
/** @type {string} */
let phase = "";
let inLine = false;
let solving = "";
/** @type {import("./purchase.js").Trouble | null} */
let trouble = null;
/** Whether the order that is shown holds units. */
let holding = false;
/** @type {OrderPanel | null} */
let panel = null;
let pollTimer = 0;
let startTimer = 0;
let tokenTimer = 0;

const button = find("buy");
const countdown = new Countdown(find("countdown"));
/** @type {import("./returns.js").ReturnWatch | null} Made when the sale is sold out. */
let returns = null;
let makingReturns = false;
const tokens =
  who &&
  new PurchaseTokens({
    sku,
    identity: who.token,
    attestation: config.attestation,
    place: find("attestation"),
    onChallenge: (kind) => {
      solving = kind;
      if (inLine || kind) showLine({ solving, trouble });
      else showResult("", "", "");
    },
  });

// --- The sale

async function poll() {
  clearTimeout(pollTimer);
  /** @type {CallFailed | null} */
  let failed = null;
  try {
    const told = await call("GET", path);
    unpaid = told.unpaid ?? null;
    takeSale(told.sale);
  } catch (error) {
    if (!(error instanceof CallFailed)) throw error;
    failed = error;
  }
  show(find("problem"), failed !== null);
  write(find("problem"), failed ? await explain(failed) : "");
  const usual = wantsToBeTold() && phase === "soldOut" ? POLL_WATCHED_MS : (POLL_MS[/** @type {keyof typeof POLL_MS} */ (phase)] ?? POLL_MS.lost);
  const pauseMs = Math.max(usual, failed?.retryAfterMs ?? 0) * (1 + Math.random() / 2);
  if (failed?.isTransient !== false) pollSoon(pauseMs);
}

/** @param {number} ms */
function pollSoon(ms) {
  clearTimeout(pollTimer);
  pollTimer = setTimeout(pollIfSeen, ms);
}

/** Whether the buyer wants to hear of units that come back. */
function wantsToBeTold() {
  return sessionStorage.getItem(TELL) !== null;
}

/** A page that nobody sees asks for nothing, unless it is to tell of units that come back. */
function pollIfSeen() {
  if (document.visibilityState === "visible" || wantsToBeTold()) poll();
}

/** @param {any} told */
function takeSale(told) {
  const isFirst = sale === null;
  sale = told;
  if (isFirst) drawTerms();
  render();
  // The start may have been moved.
  clearTimeout(startTimer);
  clearTimeout(tokenTimer);
  const leftMs = Date.parse(sale.terms.startTime) - nowMs();
  if (leftMs > 0 && leftMs < TIMER_MAX_MS) {
    startTimer = setTimeout(render, leftMs);
    const leadMs = TOKEN_LEAD_MIN_MS + TOKEN_LEAD_SPREAD_MS * Math.random();
    tokenTimer = setTimeout(fetchTokenAhead, Math.max(0, leftMs - leadMs));
  }
}

/** Fetch the token just before the start; what fails now is told at the press. */
function fetchTokenAhead() {
  if (tokens && !inLine && !holding && document.visibilityState === "visible" && phase === "before") {
    tokens.get().catch(() => {});
  }
}

function drawTerms() {
  const { terms } = sale;
  document.title = terms.title || sku;
  write(find("title"), terms.title || sku);
  write(find("price"), money(terms.unitPrice));
  find("picture").replaceChildren(picture(sku));
  const limit = terms.purchaseLimit || 1;
  find("quantity").max = String(limit);
  show(find("quantity-field"), limit > 1);
  const facts = [
    [t("sale.limit"), number(limit)],
    [t("sale.payWithin"), wait(Number.parseFloat(terms.paymentWindow) * 1000)],
    [t("sale.starts"), dateTime(Date.parse(terms.startTime))],
    [t("sale.ends"), dateTime(Date.parse(terms.endTime))],
  ];
  find("terms").replaceChildren(...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  show(find("offer"), true);
}

function render() {
  keepClock();
  if (!sale) return;
  const now = phaseOf(sale, nowMs());
  if (now !== phase) {
    const before = phase;
    phase = now;
    find("main").dataset.phase = phase;
    if (before && phase === "open" && !inLine && !holding) {
      showResult("", "", "");
      say(t("sale.started"));
    }
    // Not the whole crowd at once, at the moment of the start.
    if (before === "before") pollSoon(POLL_MS.open * Math.random());
  }
  const { terms } = sale;
  const starts = Date.parse(terms.startTime);
  write(find("state"), t(`phase.${phase}`, { time: dateTime(phase === "before" ? starts : Date.parse(terms.endTime)) }));
  countdown.draw(phase === "before" ? starts - nowMs() : null);
  const left = Number(sale.remainingUnits);
  const total = Number(terms.totalUnits);
  show(find("stock"), !holding && ["open", "soldOut", "paused"].includes(phase));
  find("stock-bar").max = total;
  find("stock-bar").value = left;
  write(find("stock-text"), t("sale.left", { count: left, total }));
  drawButton();
  drawReturns();
}

/** Sold out, but perhaps not for good; what says so is fetched when it is first needed. */
async function drawReturns() {
  const isSoldOut = phase === "soldOut" && !holding && !inLine;
  if (!returns && !makingReturns && (isSoldOut || wantsToBeTold())) {
    makingReturns = true;
    const { ReturnWatch } = await later(new URL("./returns.js", import.meta.url));
    returns = new ReturnWatch(find("returning"), TELL, () => poll());
    render();
    return;
  }
  returns?.draw({ isSoldOut, unpaid, terms: sale.terms, isBack: phase === "open" });
}

function drawButton() {
  const mayPress = phase === "open" && !inLine && !holding;
  show(find("act"), !holding);
  show(button, who !== null);
  button.setAttribute("aria-disabled", String(!mayPress));
  button.classList.toggle("waits", inLine);
  show(find("spinner"), inLine);
  const label = inLine ? "button.line" : `button.${phase}`;
  write(find("buy-text"), t(label, { price: money(sale.terms.unitPrice) }));
  show(find("sign-in"), who === null && Boolean(address));
  show(find("no-sign-in"), who === null && !address);
}

// --- The press

/** @param {Attempt} attempt */
async function run(attempt) {
  if (inLine || !who || !tokens) return;
  inLine = true;
  showLine({ solving, trouble });
  render();
  try {
    const answer = await buy({
      sku,
      attempt,
      tokens,
      identity: who.token,
      onTrouble: (now) => {
        trouble = now;
        showLine({ solving, trouble });
      },
    });
    keep(who.userId, sku, { ...attempt, ...answer });
    if (FINAL.includes(answer.outcome)) {
      inLine = false;
      showOrder(answer);
    } else {
      const words = await explainOutcome(answer.outcome);
      inLine = false;
      showResult("warn", t(`result.${answer.outcome}`), words);
      if (answer.outcome === "SOLD_OUT") sale.soldOut = true;
    }
  } catch (failed) {
    if (!(failed instanceof CallFailed)) throw failed;
    const words = await explain(failed);
    inLine = false;
    if (!UNCERTAIN.has(failed.reason)) keep(who.userId, sku, { ...attempt, outcome: failed.reason });
    showResult("warn", t("result.failed"), words);
    if (failed.reason.startsWith("IDENTITY_") && address) {
      find("result").append(el("a", { class: "button", href: address }, t("signIn")));
    }
  }
  trouble = null;
  render();
  poll();
}

/** @param {{outcome: string, orderNo: string}} answer */
function showOrder({ outcome, orderNo }) {
  if (!who || panel?.orderNo === orderNo) return;
  holding = true;
  showResult("", "", "");
  if (outcome === "ALREADY_PURCHASED") {
    explainOutcome(outcome).then((words) => showResult("", t(`result.${outcome}`), words));
  }
  panel = new OrderPanel(find("order"), {
    orderNo,
    identity: who.token,
    config,
    onOrder: (order) => {
      const held = holding;
      holding = !HOLDS_NOTHING.includes(order.state);
      if (held && !holding) poll();
      render();
    },
  });
  show(find("offer"), true);
  panel.run().then(() => {
    // An order that cannot be shown holds nothing back.
    if (!panel?.order) holding = false;
    render();
  });
  // The button goes; the keys go on from the order.
  if (document.activeElement === button) find("order").focus();
}

/** Go on where this buyer was: after a reload, or a press in another tab. */
function resume() {
  if (!who) return;
  const attempt = read(who.userId, sku);
  if (attempt?.orderNo) showOrder(attempt);
  else if (attempt && isOpen(attempt)) run(attempt);
}

button.addEventListener("click", () => {
  if (!who || button.getAttribute("aria-disabled") === "true") return;
  const quantity = Math.max(1, Math.min(Number(find("quantity").value) || 1, sale.terms.purchaseLimit || 1));
  const before = read(who.userId, sku);
  run(isOpen(before) && before?.quantity === quantity ? before : press(who.userId, sku, quantity));
});
find("sign-in").setAttribute("href", address);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") {
    render();
    poll();
  }
});
onSync(render);
if (who) onChange(who.userId, sku, resume);
setInterval(render, TICK_MS);
await poll();
resume();

// One order as its buyer sees it: time left to pay, paid, or over. Used by the sale's page and the
// order's own.

import { CallFailed, call } from "../shared/api.js";
import { keep, nowMs } from "../shared/clock.js";
import { el, show, write } from "../shared/dom.js";
import { dateTime, digits, explain, money, t, timeOfDay } from "../shared/i18n.js";
import { later } from "../shared/later.js";
import { followOrder, stateOf } from "./follow-order.js";
import { say } from "./frame.js";

const TICK_MS = 250;
const SOON_MS = 60_000;

/** @typedef {import("./follow-order.js").Order} Order */

export class OrderPanel {
  /** @type {Order | null} */
  order = null;
  #shown = "";
  #soon = false;
  #gaveBack = false;
  #asking = false;

  /**
   * @param {HTMLElement} root
   * @param {object} options
   * @param {string} options.orderNo
   * @param {string} options.identity
   * @param {import("../shared/identity.js").Config} options.config
   * @param {(order: Order) => void} [options.onOrder]
   */
  constructor(root, { orderNo, identity, config, onOrder = () => {} }) {
    this.root = root;
    this.orderNo = orderNo;
    this.identity = identity;
    this.config = config;
    this.onOrder = onOrder;
    this.left = el("strong", { class: "left figures", role: "timer", "aria-live": "off" });
    this.trouble = el("p", { class: "small soft", role: "status", hidden: true });
  }

  /** Show the order until nothing more comes of it. */
  async run() {
    this.#draw("WAITED", () => [this.#notice("accent", t("order.onItsWay"), t("order.onItsWay.next"))]);
    const timer = setInterval(() => this.#tick(), TICK_MS);
    try {
      await followOrder({
        orderNo: this.orderNo,
        identity: this.identity,
        onOrder: (order) => this.#take(order),
        onTrouble: (failed) => this.#tellTrouble(failed),
      });
    } catch (failed) {
      if (!(failed instanceof CallFailed)) throw failed;
      const words = await explain(failed);
      this.#draw("FAILED", () => [this.#notice("warn", t("order.notShown"), words)]);
    } finally {
      clearInterval(timer);
    }
  }

  /** @param {Order} order */
  #take(order) {
    this.order = order;
    this.onOrder(order);
    this.#tick();
  }

  #tick() {
    const { order } = this;
    if (!order) return;
    keep();
    const leftMs = Date.parse(order.expireTime ?? "") - nowMs();
    write(this.left, digits(leftMs));
    const state = stateOf(order);
    if (state === "PENDING" && leftMs > 0) {
      this.#draw("PENDING", () => this.#pending(order));
      if (leftMs < SOON_MS && !this.#soon) {
        this.#soon = true;
        say(t("order.soon"));
      }
    } else if (state === "PENDING") {
      this.#draw("OVER", () => [this.#notice("warn", t("order.over"), t("order.over.next"))]);
    } else if (state === "PAID") {
      this.#draw("PAID", () => [this.#notice("good", t("order.paid"), t("order.paid.next")), this.#facts(order)]);
    } else if (state === "CANCELLED") {
      this.#drawCancelled(order);
    } else {
      this.#draw(state, () => [this.#notice("warn", t(`order.${state}`), t(`order.${state}.next`)), this.#facts(order)]);
    }
  }

  /** @param {Order} order */
  #pending(order) {
    const amount = money(order.amount);
    const address = this.config.pay.replaceAll("{order_no}", encodeURIComponent(order.orderNo));
    const pay = address
      ? el("a", { class: "button primary large", href: address }, t("order.pay", { amount }))
      : el("p", { class: "notice warn" }, t("order.noPay"));
    const giveBack = el("button", { class: "plain", type: "button", click: () => this.#giveBack() }, t("order.giveBack"));
    return [
      el("div", { class: "notice good" }, el("h2", {}, t("order.yours")), el("p", { class: "deadline" }, t("order.payWithin"), " ", this.left)),
      pay,
      giveBack,
      this.#facts(order),
    ];
  }

  /** @param {Order} order */
  async #drawCancelled(order) {
    const ranOut = Date.parse(order.cancelTime ?? "") >= Date.parse(order.expireTime ?? "");
    const title = t(this.#gaveBack ? "order.gaveBack" : ranOut ? "order.ranOut" : "order.cancelled");
    if (!order.restoreTime) {
      this.#draw("CANCELLED", () => [this.#notice("warn", title, t("order.unitReturns")), this.#facts(order)]);
      return;
    }
    if (this.#asking) return;
    this.#asking = true;
    const told = await call("GET", `/v1/sales/${encodeURIComponent(order.sku)}`).catch(() => null);
    const gone = told?.sale.soldOut ?? false;
    const back = el("a", { class: "button", href: `/sale/?sku=${encodeURIComponent(order.sku)}` }, t("order.toSale"));
    const next = gone ? t("order.unitGone") : t("order.unitBack", { time: timeOfDay(Date.parse(order.restoreTime)) });
    this.#draw("RESTORED", () => [this.#notice("warn", title, next), back, this.#facts(order)]);
  }

  /**
   * @param {string} kind
   * @param {string} title
   * @param {string} text
   */
  #notice(kind, title, text) {
    return el("div", { class: `notice ${kind}` }, el("h2", {}, title), el("p", {}, text));
  }

  /** @param {Order} order */
  #facts(order) {
    const times = [
      ["order.created", order.createTime],
      ["order.paidAt", order.payTime],
      ["order.endedAt", order.cancelTime],
    ];
    const rows = [
      [t("order.number"), el("a", { class: "number", href: `/order/?no=${order.orderNo}` }, order.orderNo)],
      [t("order.amount"), t("order.amountOf", { count: order.quantity, amount: money(order.amount) })],
      ...times.filter(([, time]) => time).map(([name, time]) => [t(String(name)), dateTime(Date.parse(String(time)))]),
    ];
    const cells = rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
    return el("dl", { class: "facts" }, ...cells);
  }

  /**
   * Draw a state once, and say its first words.
   * @param {string} state
   * @param {() => HTMLElement[]} make
   */
  #draw(state, make) {
    if (this.#shown === state) return;
    this.#shown = state;
    const parts = make();
    this.root.dataset.state = state;
    // A button that had the focus may be gone: the panel takes it, so that keys go on from there.
    const held = this.root.contains(document.activeElement) && document.activeElement !== this.root;
    this.root.replaceChildren(...parts, this.trouble);
    show(this.root, true);
    if (held) this.root.focus();
    say(Array.from(parts[0].children, (part) => part.textContent).join(". "));
  }

  /** @param {CallFailed | null} failed */
  async #tellTrouble(failed) {
    show(this.trouble, failed !== null);
    write(this.trouble, failed ? await explain(failed) : "");
  }

  async #giveBack() {
    const { giveBack } = await later(new URL("./give-back.js", import.meta.url));
    giveBack({
      orderNo: this.orderNo,
      identity: this.identity,
      onGivenBack: (/** @type {Order} */ order) => {
        this.#gaveBack = true;
        this.#take(order);
      },
    });
  }
}

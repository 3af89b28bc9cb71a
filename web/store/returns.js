// Sold out, but perhaps not for good: units that nobody pays for come back.

import { el, show, write } from "../shared/dom.js";
import { moreTexts, t, timeOfDay, wait } from "../shared/i18n.js";
import { say } from "./frame.js";

// The words of this script are there when it is.
await moreTexts({
  en: new URL("./texts/later/en.json", import.meta.url),
  zh: new URL("./texts/later/zh.json", import.meta.url),
});

export class ReturnWatch {
  #title = "";

  /**
   * @param {HTMLElement} root
   * @param {string} key of sessionStorage: set while the buyer wants to be told
   * @param {() => void} onTurnedOn
   */
  constructor(root, key, onTurnedOn) {
    this.root = root;
    this.key = key;
    this.onTurnedOn = onTurnedOn;
    this.text = el("p");
    this.button = el("button", { class: "button", type: "button", click: () => this.#toggle() });
    root.append(el("h2", {}, t("returns.title")), this.text, this.button);
  }

  /** Whether the buyer wants to be told. */
  get isOn() {
    return sessionStorage.getItem(this.key) !== null;
  }

  #toggle() {
    if (this.isOn) {
      sessionStorage.removeItem(this.key);
    } else {
      sessionStorage.setItem(this.key, "1");
      // Beside the page's own words; a browser that has none, or a buyer who says no, does without.
      if ("Notification" in window && Notification.permission === "default") Notification.requestPermission();
      this.onTurnedOn();
    }
    this.#drawButton();
  }

  /**
   * @param {object} now
   * @param {boolean} now.isSoldOut whether there is something to say
   * @param {boolean} now.isBack whether the sale sells again
   * @param {{units: string, lastExpireTime: string} | null} now.unpaid
   * @param {any} now.terms of the sale
   */
  draw({ isSoldOut, isBack, unpaid, terms }) {
    show(this.root, isSoldOut);
    if (isSoldOut) {
      write(this.text, words(unpaid, terms));
      this.#drawButton();
    } else if (isBack && this.isOn) {
      sessionStorage.removeItem(this.key);
      this.#tell(terms.title);
    }
  }

  #drawButton() {
    this.button.setAttribute("aria-pressed", String(this.isOn));
    write(this.button, t(this.isOn ? "returns.willTell" : "returns.tell"));
  }

  /** @param {string} title */
  #tell(title) {
    const text = t("returns.back", { title });
    say(text);
    this.#title ||= document.title;
    document.title = `● ${text}`;
    const calm = () => {
      document.title = this.#title;
    };
    addEventListener("pointerdown", calm, { once: true });
    addEventListener("keydown", calm, { once: true });
    try {
      if ("Notification" in window && Notification.permission === "granted") new Notification(text);
    } catch {
      // Phones want a service worker for it.
    }
  }
}

/**
 * @param {{units: string, lastExpireTime: string} | null} unpaid
 * @param {any} terms
 */
function words(unpaid, terms) {
  if (!unpaid) return t("returns.unknown", { wait: wait(Number.parseFloat(terms.paymentWindow) * 1000) });
  const count = Number(unpaid.units);
  if (count === 0) return t("returns.none");
  return t("returns.some", { count, time: timeOfDay(Date.parse(unpaid.lastExpireTime)) });
}

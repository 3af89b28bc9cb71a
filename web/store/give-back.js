// Giving an order back: asked first, as nothing undoes it.

import { CallFailed, call } from "../shared/api.js";
import { el } from "../shared/dom.js";
import { explain, moreTexts, t } from "../shared/i18n.js";

// The words of this script are there when it is.
await moreTexts({
  en: new URL("./texts/later/en.json", import.meta.url),
  zh: new URL("./texts/later/zh.json", import.meta.url),
});

/**
 * Ask, and give the order back if the buyer wants to.
 * @param {object} options
 * @param {string} options.orderNo
 * @param {string} options.identity
 * @param {(order: import("./follow-order.js").Order) => void} options.onGivenBack told how it stands then
 */
export function giveBack({ orderNo, identity, onGivenBack }) {
  const problem = el("p", { class: "small", role: "alert" });
  const dialog = /** @type {HTMLDialogElement} */ (
    el("dialog", { "aria-labelledby": "give-back-title", close: () => dialog.remove() })
  );
  const confirm = async () => {
    try {
      const told = await call("POST", `/v1/orders/${encodeURIComponent(orderNo)}:cancel`, { body: {}, identity });
      dialog.close();
      onGivenBack(told.order);
    } catch (failed) {
      if (!(failed instanceof CallFailed)) throw failed;
      problem.textContent = await explain(failed);
    }
  };
  dialog.append(
    el("h2", { id: "give-back-title" }, t("giveBack.title")),
    el("p", {}, t("giveBack.text")),
    problem,
    el(
      "div",
      { class: "choices" },
      el("button", { class: "button primary", type: "button", click: confirm }, t("giveBack.yes")),
      el("button", { class: "button", type: "button", autofocus: true, click: () => dialog.close() }, t("giveBack.no")),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
}

// A payment provider to try out: no money moves, and what it tells the shop is signed as a real one's.

import { CallFailed, call } from "../shared/api.js";
import { nowMs, sync } from "../shared/clock.js";
import { find, show, write } from "../shared/dom.js";
import { explain, loadTexts, money, t } from "../shared/i18n.js";
import { identity } from "../shared/identity.js";
import { readKeys, signWebhook } from "./keys.js";

const orderNo = new URLSearchParams(location.search).get("no") ?? "";
const back = `/order/?no=${encodeURIComponent(orderNo)}`;

await Promise.all([
  loadTexts({ en: new URL("./texts/en.json", import.meta.url), zh: new URL("./texts/zh.json", import.meta.url) }),
  sync(),
]);
document.title = t("pay.title");
find("back").setAttribute("href", back);

/** @param {unknown} error */
async function tell(error) {
  write(find("problem"), error instanceof CallFailed ? await explain(error) : t("keys.none", { why: String(error) }));
  show(find("problem"), true);
}

/** @param {any} order */
async function pay(order) {
  const { provider } = await readKeys();
  if (!provider) throw new CallFailed({ status: 404, reason: "PAYMENT_PROVIDER_NOT_FOUND" });
  // One payment an order, however often the button is pressed.
  const id = `demo-${orderNo}`;
  const amount = { currency: order.amount.currency, minor_units: Number(order.amount.minorUnits) };
  const body = JSON.stringify({ type: "payment.succeeded", data: { payment_id: id, order_no: orderNo, amount } });
  const seconds = Math.floor(nowMs() / 1000);
  const headers = await signWebhook(provider.secret, { id, seconds, body });
  const told = await call("POST", `/v1/payments/${provider.name}:callback`, {
    body,
    headers: { "content-type": "application/json", ...headers },
  });
  if (told.state === "PAYMENT_STATE_TO_REFUND") throw new CallFailed({ status: 400, reason: "PAYMENT_TOO_LATE" });
}

try {
  const told = await call("GET", `/v1/orders/${encodeURIComponent(orderNo)}`, { identity: identity()?.token });
  const amount = money(told.order.amount);
  write(find("amount"), amount);
  write(find("number"), orderNo);
  write(find("pay"), t("pay.now", { amount }));
  show(find("bill"), true);
  find("pay").addEventListener("click", async () => {
    find("pay").disabled = true;
    try {
      await pay(told.order);
      location.assign(back);
    } catch (error) {
      find("pay").disabled = false;
      tell(error);
    }
  });
} catch (error) {
  tell(error);
}

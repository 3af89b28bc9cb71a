// The page of one order.

import { CallFailed, call } from "../shared/api.js";
import { find, show, write } from "../shared/dom.js";
import { explain, t } from "../shared/i18n.js";
import { openPage } from "./frame.js";
import { OrderPanel } from "./order-panel.js";
import { picture } from "./picture.js";

const orderNo = new URLSearchParams(location.search).get("no") ?? "";
const { config, address, who } = await openPage();

/** @param {string} sku */
async function drawSale(sku) {
  find("picture").replaceChildren(picture(sku));
  find("sale").setAttribute("href", `/sale/?sku=${encodeURIComponent(sku)}`);
  const told = await call("GET", `/v1/sales/${encodeURIComponent(sku)}`).catch(() => null);
  write(find("sale"), told?.sale.terms.title || sku);
}

if (who) {
  let drawn = false;
  const panel = new OrderPanel(find("order"), {
    orderNo,
    identity: who.token,
    config,
    onOrder: (order) => {
      if (!drawn) drawSale(order.sku);
      drawn = true;
    },
  });
  panel.run();
} else {
  const missing = new CallFailed({ status: 401, reason: "IDENTITY_MISSING" });
  write(find("sign-in-why"), address ? await explain(missing) : t("signIn.none"));
  show(find("sign-in-box"), true);
  show(find("sign-in"), Boolean(address));
  find("sign-in").setAttribute("href", address);
}

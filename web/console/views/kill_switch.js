// The kill switch: stops all selling at once; orders go on.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { ask, field } from "../dialogs.js";
import { time } from "../format.js";
import { said } from "../notices.js";
import { button, facts, fill, heading } from "../parts.js";
import { all, inventory } from "../rpc.js";
import { standing } from "../sale_state.js";
import { showKillSwitch } from "../shell.js";

/** @param {import("../page.js").Page} page */
export async function killSwitchView(page) {
  const { killSwitch } = await inventory("GetKillSwitch", {}, page.signal);
  fill(
    page.root,
    heading(t("nav.kill-switch"), { note: t("switch.note") }),
    el(
      "div",
      { class: killSwitch.on ? "notice warn" : "notice good" },
      el("h2", {}, killSwitch.on ? t("switch.isOn") : t("switch.isOff")),
      killSwitch.on
        ? facts([
            [t("switch.since"), time(killSwitch.enableTime)],
            [t("switch.reason"), killSwitch.reason || "–"],
          ])
        : null,
    ),
    killSwitch.on
      ? button(t("switch.turnOff"), () => set(page, false), { class: "button primary large" })
      : button(t("switch.turnOn"), () => set(page, true), { class: "button danger large" }),
  );
}

/**
 * @param {import("../page.js").Page} page
 * @param {boolean} on
 */
async function set(page, on) {
  const sales = await all(inventory, "ListSales", { pageSize: 1_000 }, "sales", page.signal);
  const live = sales.filter((sale) => standing(sale) === "live");
  const units = live.reduce((sum, sale) => sum + Number(sale.remainingUnits), 0);
  const done = await ask({
    title: on ? t("switch.on.title") : t("switch.off.title"),
    says: [t(on ? "switch.on.says" : "switch.off.says", { sales: live.length, units })],
    fields: on ? [field(t("switch.reason"), "reason", { required: true, maxlength: 200 })] : [],
    verb: on ? t("switch.turnOn") : t("switch.turnOff"),
    danger: true,
    act: ({ reason = "" }) => inventory("SetKillSwitch", { on, reason }),
  });
  if (!done) return;
  said(on ? t("switch.on.done") : t("switch.off.done"));
  showKillSwitch();
  page.reload();
}

// The top of each page of the store: where to go, the language, who is signed in.

import { sync } from "../shared/clock.js";
import { el, find } from "../shared/dom.js";
import { loadTexts, switchLanguage, t } from "../shared/i18n.js";
import { identity, onChange, readConfig, signInAddress, signOut } from "../shared/identity.js";

const TEXTS = {
  en: new URL("./texts/en.json", import.meta.url),
  zh: new URL("./texts/zh.json", import.meta.url),
};

/**
 * Load the words and what the shop has set, read the clock, and build the top.
 * @param {...Record<"en" | "zh", URL>} words of this page alone
 */
export async function openPage(...words) {
  const [config] = await Promise.all([readConfig(), loadTexts(TEXTS, ...words), sync()]);
  const address = signInAddress(config);
  const who = identity();
  // Another tab has signed in or out: this page is another one then.
  onChange(() => location.reload());
  const leave = () => {
    signOut();
    location.reload();
  };
  const entry = who
    ? el("button", { class: "plain", type: "button", title: t("signedInAs", { user: who.userId }), click: leave }, t("signOut"))
    : address && el("a", { class: "plain entry", href: address }, t("signIn"));
  find("top").append(
    el(
      "button",
      { class: "plain", type: "button", lang: t("language.tag"), "aria-label": t("language.switch"), click: switchLanguage },
      t("language.other"),
    ),
    ...(entry ? [entry] : []),
  );
  document.documentElement.classList.add("ready");
  return { config, address, who };
}

/**
 * Say something to those who listen to the page; what is seen says it too.
 * @param {string} text
 */
export function say(text) {
  find("said").textContent = text;
}

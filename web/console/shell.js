// What stands around each view: who is signed in, the kill switch, and the way to the others.

import { el, find } from "../shared/dom.js";
import { switchLanguage, t } from "../shared/i18n.js";
import { settings } from "./config.js";
import { button, fill, link } from "./parts.js";
import { inventory } from "./rpc.js";
import { operator, signOut, token } from "./session.js";

const LOOK_MS = 5_000;
/** @type {[string, string[]][]} */
const GROUPS = [
  ["selling", ["sales", "rehearsal", "kill-switch"]],
  ["orders", ["orders", "payments", "review"]],
  ["gate", ["lists", "limits", "policies"]],
  ["truth", ["audit", "reconcile", "dead-letters", "webhooks", "log"]],
];

const state = el("a", { href: "#/kill-switch", class: "switch", id: "switch-state" });

/**
 * Show the frame.
 * @param {string} current the entry of the navigation to mark
 */
export function showFrame(current) {
  const known = Boolean(token());
  fill(
    find("top"),
    el(
      "div",
      { class: "bench-top" },
      el(
        "a",
        { class: "brand", href: "#/sales" },
        el("img", { src: new URL("../shared/icon.svg", import.meta.url).href, alt: "" }),
        t("console"),
      ),
      known && state,
      settings().charts ? link(settings().charts, t("charts"), { class: "small", rel: "noreferrer" }) : null,
      known && el("span", { class: "who small soft" }, t("signedInAs", { user: operator() })),
      button(t("language.other"), switchLanguage, {
        class: "plain",
        "aria-label": t("language.switch"),
      }),
      known && button(t("signOut"), leave, { class: "plain" }),
    ),
  );
  const nav = find("nav");
  nav.hidden = !known;
  nav.setAttribute("aria-label", t("nav.label"));
  fill(nav, ...GROUPS.map(([group, names]) => section(group, names, current)));
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

/**
 * @param {string} group
 * @param {string[]} names
 * @param {string} current
 */
function section(group, names, current) {
  const shown = names.filter((name) => name !== "rehearsal" || canRehearse());
  const entries = shown.map((name) =>
    el("li", {}, link(`#/${name}`, t(`nav.${name}`), name === current ? { "aria-current": "page" } : {})),
  );
  return el(
    "section",
    {},
    el("h2", { id: `nav-${group}` }, t(`nav.group.${group}`)),
    el("ul", { "aria-labelledby": `nav-${group}` }, ...entries),
  );
}

/** Whether requests of development identities can be sent from here. */
export function canRehearse() {
  return settings().developmentIssuer && settings().publicOrigin !== "";
}

function leave() {
  signOut();
  location.hash = "";
  location.reload();
}

/** Keep showing whether the kill switch is on. */
export function watchKillSwitch() {
  setInterval(() => {
    if (token() && document.visibilityState === "visible") showKillSwitch();
  }, LOOK_MS);
  if (token()) showKillSwitch();
}

/** Show whether the kill switch is on. */
export async function showKillSwitch() {
  try {
    const { killSwitch } = await inventory("GetKillSwitch");
    state.className = killSwitch.on ? "switch on" : "switch";
    fill(state, killSwitch.on ? t("switch.on") : t("switch.off"));
  } catch {
    state.className = "switch unknown";
    fill(state, t("switch.unknown"));
  }
}

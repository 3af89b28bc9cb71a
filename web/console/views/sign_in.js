// Who is at the console: by the issuer's sign-in page, by a token, or in development by a name.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { settings } from "../config.js";
import { DevelopmentIssuer } from "../development.js";
import { field, values } from "../dialogs.js";
import { failed } from "../notices.js";
import { fill, heading, link } from "../parts.js";
import { claims, signIn, signInAddress } from "../session.js";

/** @param {import("../page.js").Page} page */
export function signInView(page) {
  document.title = `${t("signIn")} · ${t("console")}`;
  const { signIn: address, developmentIssuer } = settings();
  const ways = [
    address && link(signInAddress(address), t("signIn.issuer"), { class: "button primary large" }),
    developmentIssuer && byName(page),
    byToken(page),
  ];
  fill(page.root, el("div", { class: "narrow stack" }, heading(t("signIn"), { note: t("signIn.note") }), ...nodes(ways)));
}

/** @param {(Node | string | false)[]} ways */
function nodes(ways) {
  return /** @type {Node[]} */ (ways.filter(Boolean));
}

/**
 * In development the page signs its own token.
 * @param {import("../page.js").Page} page
 */
function byName(page) {
  return el(
    "form",
    { class: "card stack", submit: enter },
    el("h2", {}, t("signIn.development")),
    el("p", { class: "soft small" }, t("signIn.development.note")),
    field(t("signIn.name"), "name", { value: "operator", required: true, pattern: "[!-~]{1,128}" }),
    el("button", { class: "button primary" }, t("signIn")),
  );

  /** @param {SubmitEvent} event */
  async function enter(event) {
    event.preventDefault();
    const { name } = values(/** @type {HTMLFormElement} */ (event.currentTarget));
    try {
      const issuer = await DevelopmentIssuer.load();
      signIn(await issuer.token(name, ["operator"]));
      page.reload();
    } catch (error) {
      failed(error);
    }
  }
}

/** @param {import("../page.js").Page} page */
function byToken(page) {
  return el(
    "details",
    { class: "card", open: !settings().signIn && !settings().developmentIssuer },
    el("summary", {}, t("signIn.token")),
    el(
      "form",
      {
        class: "stack",
        submit: (/** @type {SubmitEvent} */ event) => {
          event.preventDefault();
          const { token } = values(/** @type {HTMLFormElement} */ (event.currentTarget));
          if (!claims(token)) {
            failed(new Error(t("signIn.token.wrong")));
            return;
          }
          signIn(token);
          page.reload();
        },
      },
      field(t("signIn.token.label"), "token", { rows: 4, required: true, hint: t("signIn.token.hint"), spellcheck: "false" }),
      el("button", { class: "button" }, t("signIn")),
    ),
  );
}

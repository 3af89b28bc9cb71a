// What becomes of a press, in words: while it is in line, and when it is over.

import { el, find, show } from "../shared/dom.js";
import { t, wait } from "../shared/i18n.js";
import { say } from "./frame.js";

/**
 * Say that the press is in line, or what holds it up.
 * @param {object} now
 * @param {string} now.solving the kind of the challenge that is being solved; "" if none is
 * @param {import("./purchase.js").Trouble | null} now.trouble
 */
export function showLine({ solving, trouble }) {
  if (solving) {
    const key = solving.endsWith("ATTESTATION") ? "line.attestation" : "line.challenge";
    showResult("", t(`${key}.title`), t(key));
  } else if (trouble) {
    showResult("", t("line.title"), t(lineKey(trouble.failed), { wait: wait(trouble.againMs) }));
  } else {
    showResult("", t("line.title"), t("line.waiting"));
  }
}

/** @param {import("../shared/api.js").CallFailed} failed */
function lineKey(failed) {
  if (failed.status === 0) return "line.offline";
  return failed.reason === "RATE_LIMITED" ? "line.tooFast" : "line.busy";
}

/**
 * Say what became of it; without a title nothing is shown.
 * @param {string} kind of notice: "", "good" or "warn"
 * @param {string} title
 * @param {string} text
 */
export function showResult(kind, title, text) {
  const result = find("result");
  const shown = `${kind}|${title}|${text}`;
  if (result.dataset.shown === shown) return;
  result.dataset.shown = shown;
  result.className = `notice ${kind}`;
  result.replaceChildren(el("h2", {}, title), el("p", {}, text));
  show(result, Boolean(title));
  // Also where the sale itself could not be read yet.
  if (title) show(find("offer"), true);
  if (title) say(`${title}. ${text}`);
}

// The console: shows the view that the address names, to whom is signed in.

import { CallFailed } from "../shared/api.js";
import { find } from "../shared/dom.js";
import { loadTexts, t } from "../shared/i18n.js";
import { readConfig } from "./config.js";
import { failed, problem } from "./notices.js";
import { makePage } from "./page.js";
import { fill, heading } from "./parts.js";
import { resolve } from "./routes.js";
import { signOut, takeTokenFromAddress, token } from "./session.js";
import { showFrame, watchKillSwitch } from "./shell.js";
import { signInView } from "./views/sign_in.js";

let leaving = new AbortController();
let isFirst = true;

/** Show what the address names. */
async function show() {
  leaving.abort();
  leaving = new AbortController();
  const root = find("main");
  const { view, params, query, nav } = resolve(location.hash);
  const page = makePage({ root, params, query, signal: leaving.signal, reload: show, failed: tell });
  showFrame(nav);
  fill(root);
  if (!token()) {
    signInView(page);
    return;
  }
  try {
    await view(page);
    name(root, page.signal);
  } catch (error) {
    if (page.signal.aborted) return;
    if (mustSignIn(error)) return;
    fill(root, heading(t(`nav.${nav}`)), problem(error));
    name(root, page.signal);
  }
}

/**
 * Name the document after the view, whose heading gets the focus.
 * @param {HTMLElement} root
 * @param {AbortSignal} signal
 */
function name(root, signal) {
  const heading = /** @type {HTMLElement | null} */ (root.querySelector("h1"));
  if (signal.aborted || !heading) return;
  document.title = `${heading.textContent} · ${t("console")}`;
  if (!isFirst) heading.focus();
  isFirst = false;
}

/** @param {unknown} error */
function tell(error) {
  if (error instanceof DOMException && error.name === "AbortError") return;
  if (!mustSignIn(error)) failed(error);
}

/**
 * Ask for a new token if the error says that this one is none.
 * @param {unknown} error
 */
function mustSignIn(error) {
  if (!(error instanceof CallFailed) || error.status !== 401) return false;
  signOut();
  show();
  failed(error);
  return true;
}

async function start() {
  takeTokenFromAddress();
  await Promise.all([
    readConfig(),
    loadTexts({
      en: new URL("./texts/en.json", import.meta.url),
      zh: new URL("./texts/zh.json", import.meta.url),
    }),
  ]);
  find("skip").addEventListener("click", (/** @type {Event} */ event) => {
    event.preventDefault();
    find("main").focus();
  });
  addEventListener("hashchange", show);
  addEventListener("unhandledrejection", (event) => tell(event.reason));
  await show();
  watchKillSwitch();
}

start();

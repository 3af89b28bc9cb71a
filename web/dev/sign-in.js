// Signs in as anybody: for development.

import { nowMs, sync } from "../shared/clock.js";
import { find, show } from "../shared/dom.js";
import { loadTexts, t } from "../shared/i18n.js";
import { KEY } from "../shared/identity.js";
import { readKeys, inside, signJwt } from "./keys.js";

const LIFE_S = 8 * 3600;
const asked = new URLSearchParams(location.search);

await Promise.all([
  loadTexts({ en: new URL("./texts/en.json", import.meta.url), zh: new URL("./texts/zh.json", import.meta.url) }),
  sync(),
]);
document.title = t("signIn.title");
find("title").textContent = document.title;

find("form").addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  try {
    const seconds = Math.floor(nowMs() / 1000);
    const token = await signJwt(await readKeys(), {
      sub: find("user").value,
      iat: seconds,
      exp: seconds + LIFE_S,
    });
    localStorage.setItem(KEY, token);
    location.assign(inside(asked.get("next")));
  } catch (error) {
    find("problem").textContent = t("keys.none", { why: String(error) });
    show(find("problem"), true);
  }
});

// The digits that run down to a start.

import { el, show, write } from "../shared/dom.js";
import { t } from "../shared/i18n.js";

const UNITS = /** @type {const} */ ([
  ["days", 86_400],
  ["hours", 3_600],
  ["minutes", 60],
  ["seconds", 1],
]);

export class Countdown {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    this.parts = UNITS.map(([unit, seconds]) => {
      const figure = el("b", { class: "figures" });
      const part = el("span", { class: "part" }, figure, el("small", {}, t(`unit.${unit}`)));
      root.append(part);
      return { seconds, figure, part, unit };
    });
  }

  /** @param {number | null} leftMs null hides it */
  draw(leftMs) {
    show(this.root, leftMs !== null);
    let left = Math.max(0, Math.ceil((leftMs ?? 0) / 1000));
    for (const { seconds, figure, part, unit } of this.parts) {
      const value = Math.floor(left / seconds);
      left %= seconds;
      write(figure, String(value).padStart(2, "0"));
      if (unit === "days") show(part, value > 0);
    }
  }
}

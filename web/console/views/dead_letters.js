// Dead letters: messages that could not become orders.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { ask, field, tell } from "../dialogs.js";
import { count, time } from "../format.js";
import { failed, problem, said } from "../notices.js";
import { button, chip, facts, fill, heading, link, word } from "../parts.js";
import { to, toQuery } from "../addresses.js";
import { admin } from "../rpc.js";
import { Selection, settled } from "../selection.js";
import { Pages, table } from "../tables.js";

const UNITS = "DEAD_LETTER_UNITS_";
const ACTION = "DEAD_LETTER_ACTION_";
const MESSAGE_SHOWN_MAX = 600;

/** @param {import("../page.js").Page} page */
export async function deadLettersView(page) {
  const everything = page.query.get("all") === "yes";
  const pages = new Pages();
  const list = el("div", { "aria-live": "polite" });
  fill(
    page.root,
    heading(t("letters.title"), {
      note: t("letters.note"),
      actions: [link(toQuery("dead-letters", { all: everything ? "" : "yes" }), everything ? t("letters.onlyOpen") : t("letters.all"), { class: "button" })],
    }),
    list,
  );
  await show();

  async function show() {
    try {
      const request = { includeSettled: everything, pageSize: 100, pageToken: pages.token };
      const found = await admin("ListDeadLetters", request, page.signal);
      const chosen = /** @type {Selection<string>} */ (new Selection());
      fill(
        list,
        el("p", { class: "soft" }, t("letters.settled", { count: found.settledCount })),
        table(t("letters.title"), columns(chosen), found.deadLetters, { empty: t("letters.empty") }),
        found.deadLetters.length
          ? el(
              "div",
              { class: "choices" },
              chosen.button(t("letters.redrive"), (positions) => redrive(page, positions), "button primary"),
              chosen.button(t("letters.drop"), (positions) => drop(page, positions), "button danger-quiet"),
            )
          : null,
        pages.bar(found.nextPageToken, show, t("letters.shown", { count: found.deadLetters.length, place: pages.tokens.length })),
      );
    } catch (error) {
      if (!page.signal.aborted) fill(list, problem(error));
    }
  }
}

/**
 * @param {Selection<string>} chosen
 * @returns {import("../tables.js").Column<any>[]}
 */
function columns(chosen) {
  return [
    chosen.column((letter) => letter.position, (letter) => !letter.settlement, (letter) => letter.position),
    { label: t("letters.position"), head: true, mono: true, cell: (letter) => button(letter.position, () => look(letter.position), { class: "plain" }) },
    { label: t("letters.written"), cell: (letter) => time(letter.writeTime) },
    { label: t("letters.cause"), cell: (letter) => letter.cause || letter.type },
    { label: t("order.number"), mono: true, cell: (letter) => (letter.orderNo ? link(to("orders", letter.orderNo), letter.orderNo) : "–") },
    { label: t("sale.sku"), cell: (letter) => letter.sku || "–" },
    { label: t("order.units"), figures: true, cell: (letter) => (letter.quantity ? count(letter.quantity) : "–") },
    { label: t("letters.units"), cell: (letter) => chip(letter.units, UNITS) },
    { label: t("order.state"), cell: (letter) => (letter.settlement ? word(letter.settlement.action, ACTION) : t("enum.open")) },
    { label: t("letters.error"), wide: true, cell: (letter) => letter.error },
  ];
}

/**
 * Show everything about one letter.
 * @param {string} position
 */
async function look(position) {
  try {
    const { deadLetter, headers, message, messageBytes } = await admin("GetDeadLetter", { position });
    const { settlement } = deadLetter;
    tell(t("letters.detail", { position }), [
      deadLetter.error,
      facts(Object.entries(headers).map(([name, value]) => [name, String(value)])),
      settlement ? t("letters.settlement", { action: word(settlement.action, ACTION), time: settlement.time, operator: settlement.operator || "–", note: settlement.note }) : null,
      el("p", { class: "mono small" }, `${count(messageBytes)} B · base64 ${message.slice(0, MESSAGE_SHOWN_MAX)}`),
    ]);
  } catch (error) {
    failed(error);
  }
}

/**
 * @param {import("../page.js").Page} page
 * @param {string[]} positions
 */
async function redrive(page, positions) {
  const done = await ask({
    title: t("letters.redrive.title", { count: positions.length }),
    says: [t("letters.redrive.says"), el("p", { class: "mono small" }, positions.join(", "))],
    verb: t("letters.redrive"),
    danger: true,
    act: async () => {
      const answer = await admin("RedriveDeadLetters", { positions });
      said(settled(answer.redrivenCount, answer.refused));
    },
  });
  if (done) page.reload();
}

/**
 * @param {import("../page.js").Page} page
 * @param {string[]} positions
 */
async function drop(page, positions) {
  const done = await ask({
    title: t("letters.drop.title", { count: positions.length }),
    says: [t("letters.drop.says"), el("p", { class: "mono small" }, positions.join(", "))],
    fields: [field(t("letters.why"), "note", { required: true, maxlength: 500 })],
    verb: t("letters.drop"),
    danger: true,
    act: async ({ note }) => {
      const answer = await admin("DropDeadLetters", { positions, note });
      said(settled(answer.droppedCount, answer.refused));
    },
  });
  if (done) page.reload();
}

// Who is allowed and who is denied at the gate.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { ask, field, mark, values } from "../dialogs.js";
import { fromInput, time, zone } from "../format.js";
import { problem, said } from "../notices.js";
import { button, chip, fill, heading, section, word } from "../parts.js";
import { gate } from "../rpc.js";
import { Pages, table } from "../tables.js";

const LIST = "GATE_LIST_";
const KIND = "GATE_ENTRY_KIND_";
const KINDS = ["USER", "NETWORK", "USER_AGENT"];
const LISTS = ["DENY", "ALLOW"];

/** @param {import("../page.js").Page} page */
export async function listsView(page) {
  const pages = new Pages();
  const list = el("div", { "aria-live": "polite" });
  fill(
    page.root,
    heading(t("lists.title"), { note: t("lists.note") }),
    section(t("lists.add"), addForm(page)),
    section(t("lists.inForce"), list),
  );
  await show();

  async function show() {
    try {
      const found = await gate("ListEntries", { pageSize: 100, pageToken: pages.token }, page.signal);
      fill(
        list,
        table(t("lists.inForce"), columns(page), found.entries, { empty: t("lists.empty") }),
        pages.bar(found.nextPageToken, show, t("lists.shown", { count: found.entries.length, place: pages.tokens.length })),
      );
    } catch (error) {
      if (!page.signal.aborted) fill(list, problem(error));
    }
  }
}

/**
 * @param {import("../page.js").Page} page
 * @returns {import("../tables.js").Column<any>[]}
 */
function columns(page) {
  return [
    { label: t("lists.list"), cell: (entry) => chip(entry.list, LIST) },
    { label: t("lists.kind"), cell: (entry) => word(entry.kind, KIND) },
    { label: t("lists.value"), head: true, mono: true, cell: (entry) => entry.value },
    { label: t("lists.reason"), wide: true, cell: (entry) => entry.reason },
    { label: t("lists.until"), cell: (entry) => (entry.expireTime ? time(entry.expireTime) : t("lists.forever")) },
    { label: t("log.operator"), cell: (entry) => entry.operator },
    { label: t("log.time"), cell: (entry) => time(entry.createTime) },
    { label: "", cell: (entry) => button(t("lists.remove"), () => remove(page, entry), { class: "button small" }) },
  ];
}

/** @param {import("../page.js").Page} page */
function addForm(page) {
  const trouble = el("div");
  const form = /** @type {HTMLFormElement} */ (
    el(
      "form",
      { class: "card stack", submit: add },
      el(
        "div",
        { class: "pair" },
        field(t("lists.list"), "list", { options: LISTS.map((list) => [list, word(list, "")]) }),
        field(t("lists.kind"), "kind", { options: KINDS.map((kind) => [kind, word(kind, "")]) }),
        field(t("lists.value"), "value", { required: true, value: page.query.get("user") ?? "", hint: t("lists.value.hint"), spellcheck: "false" }),
        field(t("lists.until"), "until", { field: "expire_time", type: "datetime-local", hint: t("lists.until.hint", { zone: zone() }) }),
      ),
      field(t("lists.reason"), "reason", { required: true, maxlength: 500 }),
      trouble,
      el("div", { class: "choices" }, el("button", { class: "button primary" }, t("lists.add"))),
    )
  );
  return form;

  /** @param {SubmitEvent} event */
  async function add(event) {
    event.preventDefault();
    const { list, kind, value, until, reason } = values(form);
    fill(trouble);
    const entry = { list: `${LIST}${list}`, kind: `${KIND}${kind}`, value, reason, expireTime: fromInput(until) };
    try {
      const done = await ask({
        title: t(list === "DENY" ? "lists.deny.title" : "lists.allow.title", { value }),
        says: [t(list === "DENY" ? "lists.deny.says" : "lists.allow.says", { kind: word(kind, "") }), until ? t("lists.ends", { until }) : t("lists.endsNever")],
        verb: t("lists.add"),
        danger: list === "DENY",
        act: () => gate("AddListEntry", entry),
      });
      if (!done) return;
      said(t("lists.added", { value }));
      page.reload();
    } catch (error) {
      fill(trouble, problem(error));
      mark(form, error);
    }
  }
}

/**
 * @param {import("../page.js").Page} page
 * @param {any} entry
 */
async function remove(page, entry) {
  const { kind, value, list, reason } = entry;
  const done = await ask({
    title: t("lists.remove.title", { value }),
    says: [t("lists.remove.says", { list: word(list, LIST), kind: word(kind, KIND), reason })],
    verb: t("lists.remove"),
    danger: true,
    act: () => gate("RemoveListEntry", { kind, value }),
  });
  if (done) {
    said(t("lists.removed", { value }));
    page.reload();
  }
}

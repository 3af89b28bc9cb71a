// The gateways' limits: what operators have set in the place of their settings.

import { t } from "../../shared/i18n.js";
import { ask, field } from "../dialogs.js";
import { count, time } from "../format.js";
import { said } from "../notices.js";
import { button, fill, heading } from "../parts.js";
import { gate } from "../rpc.js";
import { table } from "../tables.js";

/** @param {import("../page.js").Page} page */
export async function limitsView(page) {
  const { limits, revision } = await gate("GetLimits", {}, page.signal);
  /** @type {import("../tables.js").Column<any>[]} */
  const columns = [
    { label: t("limits.name"), head: true, mono: true, cell: (limit) => limit.name },
    { label: t("limits.value"), figures: true, cell: (limit) => (isSet(limit) ? count(limit.value) : t("limits.setting")) },
    { label: t("limits.least"), figures: true, cell: (limit) => count(limit.least) },
    { label: t("limits.most"), figures: true, cell: (limit) => count(limit.most) },
    { label: t("log.operator"), cell: (limit) => limit.operator || "–" },
    { label: t("log.time"), cell: (limit) => time(limit.changeTime) },
    { label: "", cell: (limit) => button(t("limits.set"), () => set(page, limit), { class: "button small", "aria-label": t("limits.setOne", { name: limit.name }) }) },
  ];
  const changed = limits.filter(isSet);
  fill(
    page.root,
    heading(t("limits.title"), {
      note: t("limits.note", { revision: Number(revision) }),
      actions: [changed.length > 0 && button(t("limits.reset"), () => reset(page, changed), { class: "button danger-quiet" })],
    }),
    table(t("limits.title"), columns, limits),
  );
}

/** @param {any} limit */
function isSet(limit) {
  return limit.value !== undefined && limit.value !== null;
}

/**
 * @param {import("../page.js").Page} page
 * @param {any} limit
 */
async function set(page, limit) {
  const { name, least, most, whole } = limit;
  const now = isSet(limit) ? count(limit.value) : t("limits.setting");
  const done = await ask({
    title: t("limits.set.title", { name }),
    says: [t("limits.set.says", { now })],
    fields: [
      field(t("limits.value"), "value", {
        type: "number",
        field: "limits",
        min: least,
        max: most,
        step: whole ? 1 : "any",
        value: isSet(limit) ? String(limit.value) : "",
        required: true,
        hint: t("limits.range", { least: count(least), most: count(most) }),
      }),
    ],
    verb: t("limits.set"),
    danger: true,
    act: ({ value }) => gate("SetLimits", { limits: [{ name, value: Number(value) }] }),
  });
  if (done) {
    said(t("limits.set.done", { name }));
    page.reload();
  }
}

/**
 * @param {import("../page.js").Page} page
 * @param {any[]} changed
 */
async function reset(page, changed) {
  const names = changed.map(({ name }) => name);
  const done = await ask({
    title: t("limits.reset.title"),
    says: [t("limits.reset.says", { count: names.length, names: names.join(", ") })],
    verb: t("limits.reset"),
    danger: true,
    act: () => gate("ResetLimits", { names }),
  });
  if (done) {
    said(t("limits.reset.done"));
    page.reload();
  }
}

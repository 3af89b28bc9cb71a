// What sales ask of their buyers beside identity and limits.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { ask, field, tick, values } from "../dialogs.js";
import { count } from "../format.js";
import { problem, said } from "../notices.js";
import { button, fill, heading, link, section } from "../parts.js";
import { to } from "../addresses.js";
import { all, gate } from "../rpc.js";
import { table } from "../tables.js";

/** @param {import("../page.js").Page} page */
export async function policiesView(page) {
  const policies = await all(gate, "ListSalePolicies", { pageSize: 1_000 }, "policies", page.signal);
  const orNever = (/** @type {number} */ value) => (value ? count(value) : t("policies.never"));
  /** @type {import("../tables.js").Column<any>[]} */
  const columns = [
    { label: t("sale.sku"), head: true, cell: (policy) => link(to("sales", policy.sku), policy.sku) },
    { label: t("policies.challenge"), figures: true, cell: (policy) => orNever(policy.challengeAt) },
    { label: t("policies.refuse"), figures: true, cell: (policy) => orNever(policy.refuseAt) },
    { label: t("policies.clean"), cell: (policy) => (policy.requireCleanHistory ? t("yes") : t("no")) },
    { label: t("policies.multiple"), figures: true, cell: (policy) => (policy.admissionMultiple ? `${count(policy.admissionMultiple)} ×` : t("limits.setting")) },
    { label: "", cell: (policy) => button(t("policies.set"), () => set(page, policy.sku), { class: "button small", "aria-label": t("policies.setOne", { sku: policy.sku }) }) },
  ];
  const trouble = el("div");
  fill(
    page.root,
    heading(t("policies.title"), { note: t("policies.note") }),
    el(
      "form",
      {
        class: "search",
        submit: async (/** @type {SubmitEvent} */ event) => {
          event.preventDefault();
          fill(trouble);
          const { sku } = values(/** @type {HTMLFormElement} */ (event.currentTarget));
          try {
            await set(page, sku);
          } catch (error) {
            fill(trouble, problem(error));
          }
        },
      },
      field(t("sale.sku"), "sku", { value: page.query.get("sku") ?? "", required: true, spellcheck: "false" }),
      el("button", { class: "button" }, t("policies.set")),
    ),
    trouble,
    section(t("policies.inForce"), table(t("policies.inForce"), columns, policies, { empty: t("policies.empty") })),
  );
}

/**
 * @param {import("../page.js").Page} page
 * @param {string} sku
 */
async function set(page, sku) {
  const { policy } = await gate("GetSalePolicy", { sku }, page.signal);
  const score = { type: "number", min: 0, max: 100, step: 1 };
  const done = await ask({
    title: t("policies.set.title", { sku }),
    says: [t("policies.set.says")],
    fields: [
      field(t("policies.challenge"), "challenge", { ...score, field: "challenge_at", value: String(policy.challengeAt), hint: t("policies.score.hint") }),
      field(t("policies.refuse"), "refuse", { ...score, field: "refuse_at", value: String(policy.refuseAt), hint: t("policies.score.hint") }),
      field(t("policies.multiple"), "multiple", {
        type: "number",
        min: 0,
        max: 1_000,
        step: "any",
        field: "admission_multiple",
        value: String(policy.admissionMultiple),
        hint: t("policies.multiple.hint"),
      }),
      tick(t("policies.clean"), "clean", policy.requireCleanHistory),
    ],
    verb: t("policies.set"),
    danger: true,
    act: (given) =>
      gate("SetSalePolicy", {
        policy: {
          sku,
          challengeAt: Number(given.challenge),
          refuseAt: Number(given.refuse),
          admissionMultiple: Number(given.multiple),
          requireCleanHistory: given.clean === "yes",
        },
      }),
  });
  if (done) {
    said(t("policies.set.done", { sku }));
    page.reload();
  }
}

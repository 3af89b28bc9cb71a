// Webhooks: who is told of order events, and the deliveries that were given up.

import { el } from "../../shared/dom.js";
import { t } from "../../shared/i18n.js";
import { ask, field, tell } from "../dialogs.js";
import { count, span, time } from "../format.js";
import { failed, problem, said } from "../notices.js";
import { button, chip, fill, heading, link, section, word } from "../parts.js";
import { to, toQuery } from "../addresses.js";
import { admin } from "../rpc.js";
import { Selection, settled } from "../selection.js";
import { Pages, table } from "../tables.js";

const STATE = "WEBHOOK_DELIVERY_STATE_";
const EVENT = "ORDER_EVENT_TYPE_";

/** @param {import("../page.js").Page} page */
export async function webhooksView(page) {
  const everything = page.query.get("all") === "yes";
  const endpoint = page.query.get("endpoint") ?? "";
  const { endpoints } = await admin("ListWebhookEndpoints", {}, page.signal);
  const pages = new Pages();
  const list = el("div", { "aria-live": "polite" });
  fill(
    page.root,
    heading(t("webhooks.title"), { note: t("webhooks.note") }),
    section(t("webhooks.endpoints"), table(t("webhooks.endpoints"), endpointColumns(page), endpoints, { empty: t("webhooks.none") })),
    section(
      endpoint ? t("webhooks.deliveriesTo", { endpoint }) : t("webhooks.deliveries"),
      el("p", { class: "links small" }, link(toQuery("webhooks", { endpoint, all: everything ? "" : "yes" }), everything ? t("webhooks.onlyDead") : t("webhooks.all"))),
      list,
    ),
  );
  await show();

  async function show() {
    try {
      const request = { endpoint, onlyDead: !everything, pageSize: 100, pageToken: pages.token };
      const found = await admin("ListWebhookDeliveries", request, page.signal);
      const chosen = /** @type {Selection<string>} */ (new Selection());
      fill(
        list,
        table(t("webhooks.deliveries"), deliveryColumns(chosen), found.deliveries, { empty: t("webhooks.empty") }),
        found.deliveries.length
          ? el(
              "div",
              { class: "choices" },
              chosen.button(t("letters.redrive"), (ids) => redrive(page, ids), "button primary"),
              chosen.button(t("letters.drop"), (ids) => drop(page, ids), "button danger-quiet"),
            )
          : null,
        pages.bar(found.nextPageToken, show, t("letters.shown", { count: found.deliveries.length, place: pages.tokens.length })),
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
function endpointColumns(page) {
  return [
    { label: t("webhooks.endpoint"), head: true, cell: (endpoint) => link(toQuery("webhooks", { endpoint: endpoint.name }), endpoint.name) },
    { label: t("order.state"), cell: (endpoint) => chip(endpoint.goneTime ? "gone" : endpoint.configured ? "told" : "not_configured") },
    { label: t("webhooks.waiting"), figures: true, cell: (endpoint) => count(endpoint.waitingCount) },
    { label: t("webhooks.oldest"), figures: true, cell: (endpoint) => span(endpoint.oldestAge) },
    { label: t("webhooks.dead"), figures: true, cell: (endpoint) => count(endpoint.deadCount) },
    { label: t("webhooks.events"), wide: true, cell: (endpoint) => endpoint.eventTypes.map((/** @type {string} */ type) => word(type, EVENT)).join(", ") },
    { label: "", cell: (endpoint) => Boolean(endpoint.goneTime) && button(t("webhooks.resume"), () => resume(page, endpoint.name), { class: "button small" }) },
  ];
}

/**
 * @param {Selection<string>} chosen
 * @returns {import("../tables.js").Column<any>[]}
 */
function deliveryColumns(chosen) {
  const isDead = (/** @type {any} */ delivery) => delivery.state === `${STATE}DEAD`;
  return [
    chosen.column((delivery) => delivery.id, isDead, (delivery) => delivery.id),
    { label: t("webhooks.id"), head: true, figures: true, cell: (delivery) => button(String(delivery.id), () => look(delivery.id), { class: "plain" }) },
    { label: t("webhooks.endpoint"), cell: (delivery) => delivery.endpoint },
    { label: t("webhooks.event"), cell: (delivery) => word(delivery.eventType, EVENT) },
    { label: t("order.number"), mono: true, cell: (delivery) => link(to("orders", delivery.orderNo), delivery.orderNo) },
    { label: t("order.state"), cell: (delivery) => chip(delivery.state, STATE) },
    { label: t("webhooks.attempts"), figures: true, cell: (delivery) => count(delivery.attempts) },
    { label: t("webhooks.due"), cell: (delivery) => time(delivery.dueTime) },
    { label: t("letters.error"), wide: true, cell: (delivery) => [delivery.answer ? `HTTP ${delivery.answer}` : "", delivery.error, delivery.dropNote].filter(Boolean).join(" · ") || "–" },
  ];
}

/** @param {string} id */
async function look(id) {
  try {
    const { delivery, eventJson } = await admin("GetWebhookDelivery", { id });
    const event = JSON.stringify(JSON.parse(eventJson), null, 2);
    tell(t("webhooks.detail", { id: String(id) }), [
      delivery.error || null,
      el("pre", { class: "mono small", tabindex: "0", role: "region", "aria-label": t("webhooks.event") }, event),
    ]);
  } catch (error) {
    failed(error);
  }
}

/**
 * @param {import("../page.js").Page} page
 * @param {string[]} ids
 */
async function redrive(page, ids) {
  const done = await ask({
    title: t("webhooks.redrive.title", { count: ids.length }),
    says: [t("webhooks.redrive.says")],
    verb: t("letters.redrive"),
    danger: true,
    act: async () => {
      const answer = await admin("RedriveWebhookDeliveries", { ids });
      said(settled(answer.redrivenCount, answer.refused));
    },
  });
  if (done) page.reload();
}

/**
 * @param {import("../page.js").Page} page
 * @param {string[]} ids
 */
async function drop(page, ids) {
  const done = await ask({
    title: t("webhooks.drop.title", { count: ids.length }),
    says: [t("webhooks.drop.says")],
    fields: [field(t("letters.why"), "note", { required: true, maxlength: 500 })],
    verb: t("letters.drop"),
    danger: true,
    act: async ({ note }) => {
      const answer = await admin("DropWebhookDeliveries", { ids, note });
      said(settled(answer.droppedCount, answer.refused));
    },
  });
  if (done) page.reload();
}

/**
 * @param {import("../page.js").Page} page
 * @param {string} endpoint
 */
async function resume(page, endpoint) {
  const done = await ask({
    title: t("webhooks.resume.title", { endpoint }),
    says: [t("webhooks.resume.says")],
    verb: t("webhooks.resume"),
    danger: true,
    act: () => admin("ResumeWebhookEndpoint", { endpoint }),
  });
  if (done) {
    said(t("webhooks.resume.done", { endpoint }));
    page.reload();
  }
}

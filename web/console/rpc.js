// Calls to the services behind the operators' listener, as JSON.

import { call, CallFailed } from "../shared/api.js";
import { token } from "./session.js";

// As long as the listener waits: an audit of a large sale takes minutes.
const CALL_MS = 300_000;

/** @typedef {(method: string, request?: object, signal?: AbortSignal) => Promise<any>} Service */

/**
 * @param {string} service
 * @returns {Service}
 */
function of(service) {
  return (method, request = {}, signal) =>
    call("POST", `/seckill.v1.${service}/${method}`, {
      body: request,
      identity: token(),
      signal,
      timeoutMs: CALL_MS,
    });
}

export const inventory = of("InventoryService");
export const orders = of("OrderService");
export const admin = of("OrderAdminService");
export const gate = of("GateRulesService");
export const reviews = of("SaleReviewService");
export const rollback = of("RollbackService");
export const gatewayAdmin = of("GatewayAdminService");
export const actions = of("OperatorLogService");

/**
 * Return all pages of a list.
 * @param {Service} service
 * @param {string} method
 * @param {object} request
 * @param {string} field the list's name in the response
 * @param {AbortSignal} [signal]
 * @returns {Promise<any[]>}
 */
export async function all(service, method, request, field, signal) {
  const found = [];
  let pageToken = "";
  do {
    const page = await service(method, { ...request, pageToken }, signal);
    found.push(...page[field]);
    pageToken = page.nextPageToken;
  } while (pageToken);
  return found;
}

/**
 * Return the metrics of one process, as Prometheus reads them.
 * @param {string} source
 * @param {AbortSignal} [signal]
 */
export async function metricsText(source, signal) {
  const response = await fetch(`/metrics/${source}`, {
    headers: { authorization: `Bearer ${token()}` },
    credentials: "omit",
    signal,
  });
  if (!response.ok) throw new CallFailed({ status: response.status });
  return response.text();
}

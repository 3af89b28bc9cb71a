// Calls of the gateway: JSON on the same origin, and what its errors say.

const TYPE = "type.googleapis.com/";
const CALL_MS = 10_000;

/**
 * A call that was refused, or that had no answer.
 */
export class CallFailed extends Error {
  /**
   * @param {object} facts
   * @param {number} facts.status HTTP status; 0 if there was no answer
   * @param {string} [facts.reason] an ErrorReason without its prefix; "" if there is none
   * @param {string} [facts.message] the mesh's own words, for logs
   * @param {Record<string, string>} [facts.metadata] of ErrorInfo
   * @param {number | null} [facts.retryAfterMs] what RetryInfo, or the header retry-after, asks for
   * @param {{field: string, description: string}[]} [facts.violations] of BadRequest
   * @param {Record<string, any> | null} [facts.challenge]
   */
  constructor({ status, reason = "", message = "", metadata = {}, retryAfterMs = null, violations = [], challenge = null }) {
    super(message || reason || `status ${status}`);
    this.status = status;
    this.reason = reason;
    this.metadata = metadata;
    this.retryAfterMs = retryAfterMs;
    this.violations = violations;
    this.challenge = challenge;
  }

  /** Whether the same call may be answered later. */
  get isTransient() {
    return this.status === 0 || this.status >= 500 && this.status !== 501 || this.retryAfterMs !== null;
  }
}

/**
 * Make one call and return its answer.
 * @param {string} method
 * @param {string} path
 * @param {object} [options]
 * @param {unknown} [options.body] what becomes JSON
 * @param {string} [options.identity] a JWT
 * @param {AbortSignal} [options.signal]
 * @param {number} [options.timeoutMs]
 * @param {Record<string, string>} [options.headers]
 * @returns {Promise<any>}
 * @throws {CallFailed}
 */
export async function call(method, path, { body, identity, signal, timeoutMs = CALL_MS, headers = {} } = {}) {
  const response = await ask(method, path, { body, identity, signal, timeoutMs, headers });
  try {
    return await response.json();
  } catch (error) {
    throw unanswered(error, signal);
  }
}

/**
 * Yield each JSON object of an answer that has one a line, until it ends.
 * @param {string} path
 * @param {{identity?: string, signal?: AbortSignal}} [options]
 * @returns {AsyncGenerator<any, void, void>}
 * @throws {CallFailed} also if the last line says why it ended
 */
export async function* lines(path, { identity, signal } = {}) {
  const response = await ask("GET", path, { identity, signal, headers: {} });
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      const parts = text.split("\n");
      text = /** @type {string} */ (parts.pop());
      for (const part of parts.filter(Boolean)) {
        const message = JSON.parse(part);
        if (Array.isArray(message.details)) throw failure(503, null, message);
        yield message;
      }
    }
  } catch (error) {
    throw error instanceof CallFailed ? error : unanswered(error, signal);
  } finally {
    reader.cancel().catch(() => {});
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {{body?: unknown, identity?: string, signal?: AbortSignal, timeoutMs?: number, headers: Record<string, string>}} options
 */
async function ask(method, path, { body, identity, signal, timeoutMs, headers }) {
  const controller = new AbortController();
  const timer = timeoutMs ? setTimeout(() => controller.abort(), timeoutMs) : 0;
  const leave = () => controller.abort();
  signal?.addEventListener("abort", leave);
  let response;
  try {
    if (signal?.aborted) throw new DOMException("left", "AbortError");
    response = await fetch(path, {
      method,
      headers: {
        ...(identity ? { authorization: `Bearer ${identity}` } : {}),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal: controller.signal,
    });
  } catch (error) {
    throw unanswered(error, signal);
  } finally {
    clearTimeout(timer);
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw failure(response.status, response.headers.get("retry-after"), told);
  }
  return response;
}

/**
 * @param {unknown} error
 * @param {AbortSignal} [signal]
 */
function unanswered(error, signal) {
  // Whoever left does not want to hear of it as a failure.
  if (signal?.aborted) return signal.reason ?? error;
  return new CallFailed({ status: 0, message: String(error) });
}

/**
 * @param {number} status
 * @param {string | null} retryAfter
 * @param {any} told google.rpc.Status
 */
function failure(status, retryAfter, told) {
  const details = Array.isArray(told.details) ? told.details : [];
  const detail = (/** @type {string} */ name) => details.find((one) => one["@type"] === TYPE + name) ?? {};
  const info = detail("google.rpc.ErrorInfo");
  const delay = detail("google.rpc.RetryInfo").retryDelay;
  const seconds = delay ? Number.parseFloat(delay) : retryAfter ? Number(retryAfter) : Number.NaN;
  const challenge = detail("seckill.v1.Challenge");
  return new CallFailed({
    status,
    reason: info.reason ?? "",
    message: told.message,
    metadata: info.metadata,
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : null,
    violations: detail("google.rpc.BadRequest").fieldViolations,
    challenge: challenge.challenge ? challenge : null,
  });
}

/**
 * Wait, or end early once the signal is aborted or the browser is online again.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal?.removeEventListener("abort", end);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    addEventListener("online", end);
    signal?.addEventListener("abort", end);
    if (signal?.aborted) end();
  });
}

/**
 * Return the pause before a call is repeated: what the answer asks for, else doubling, with jitter.
 * @param {CallFailed} failed
 * @param {number} failures how many there were, this one included
 */
export function backoffMs(failed, failures) {
  const least = Math.min(8_000, 250 * 2 ** Math.min(failures - 1, 10));
  return (failed.retryAfterMs ?? least) * (1 + 0.25 * Math.random());
}

// Numbers of the whole mesh, added up over the processes that the configuration names.

import { metricsText } from "./rpc.js";

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** @typedef {{labels: Record<string, string>, value: number}} Sample */

/** What all processes said at one moment. */
export class Metrics {
  /** @param {Map<string, Sample[]>} samples by metric @param {string[]} silent sources */
  constructor(samples, silent) {
    this.samples = samples;
    this.silent = silent;
  }

  /**
   * @param {string[]} sources
   * @param {AbortSignal} [signal]
   */
  static async read(sources, signal) {
    const texts = await Promise.allSettled(sources.map((each) => metricsText(each, signal)));
    /** @type {Map<string, Sample[]>} */
    const samples = new Map();
    const silent = [];
    texts.forEach((text, place) => {
      if (text.status === "fulfilled") parse(text.value, samples);
      else silent.push(sources[place]);
    });
    return new Metrics(samples, silent);
  }

  /** @param {string} metric @returns {number | null} the sum; null if nobody has it */
  sum(metric) {
    const found = this.samples.get(metric);
    return found ? found.reduce((total, each) => total + each.value, 0) : null;
  }

  /** @param {string} metric @returns {number | null} the largest; null if nobody has it */
  max(metric) {
    const found = this.samples.get(metric);
    return found ? Math.max(...found.map((each) => each.value)) : null;
  }

  /** @param {string} metric @param {string} label @returns {Map<string, number>} sums */
  by(metric, label) {
    const sums = new Map();
    for (const { labels, value } of this.samples.get(metric) ?? []) {
      sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
    }
    return sums;
  }
}

/** @param {string} text @param {Map<string, Sample[]>} samples */
function parse(text, samples) {
  for (const line of text.split("\n")) {
    const found = line.startsWith("seckill_") ? LINE.exec(line) : null;
    if (!found) continue;
    const labels = Object.fromEntries(
      [...(found[2] ?? "").matchAll(LABEL)].map((each) => [each[1], each[2]]),
    );
    const known = samples.get(found[1]) ?? [];
    known.push({ labels, value: Number(found[3]) });
    samples.set(found[1], known);
  }
}

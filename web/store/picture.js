// A picture for a sale that has none: tiles of a few shapes, the same ones for a sku each time.

import { svg } from "../shared/dom.js";

const COLUMNS = 4;
const ROWS = 3;
const SIZE = 60;
// Ground, and three colours on it.
const PALETTES = [
  ["#f3d9c4", "#b3311a", "#1f3a4d", "#f0a868"],
  ["#d9e2d6", "#2f5d50", "#d96c3f", "#f2c14e"],
  ["#dcdff0", "#2b3a8c", "#e2725b", "#8fa6e8"],
  ["#f2dfe2", "#7a1f3d", "#2c5f6e", "#e8a0a8"],
  ["#efe6c8", "#8a4b12", "#3c5a3a", "#d9a441"],
];

/**
 * Return numbers from 0 to 1 that a text decides (mulberry32 of its FNV-1a hash).
 * @param {string} text
 */
function numbersOf(text) {
  let state = 0x811c9dc5;
  for (const letter of text) state = Math.imul(state ^ letter.charCodeAt(0), 0x01000193);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * @param {string} sku
 * @returns {SVGElement}
 */
export function picture(sku) {
  const next = numbersOf(sku);
  const pick = (/** @type {any[]} */ from) => from[Math.floor(next() * from.length)];
  const [ground, ...colours] = pick(PALETTES);
  const tiles = [];
  for (let place = 0; place < COLUMNS * ROWS; place += 1) {
    const x = (place % COLUMNS) * SIZE;
    const y = Math.floor(place / COLUMNS) * SIZE;
    const turn = `translate(${x} ${y}) rotate(${pick([0, 90, 180, 270])} ${SIZE / 2} ${SIZE / 2})`;
    const colour = pick(colours);
    // The stroke closes the seams between tiles.
    tiles.push(svg("path", { d: pick(SHAPES), fill: colour, stroke: colour, "stroke-width": 0.4, transform: turn }));
  }
  return svg(
    "svg",
    { viewBox: `0 0 ${COLUMNS * SIZE} ${ROWS * SIZE}`, "aria-hidden": "true", class: "picture", preserveAspectRatio: "xMidYMid slice" },
    svg("rect", { width: COLUMNS * SIZE, height: ROWS * SIZE, fill: ground }),
    ...tiles,
  );
}

// A quarter of a disc, half of one, a whole one, a triangle, a square, an arch, nothing.
const SHAPES = [
  "M0 0h60a60 60 0 0 1-60 60z",
  "M0 0h60a60 60 0 0 1-60 60z",
  "M0 0a30 30 0 0 0 60 0z",
  "M30 6a24 24 0 1 0 .01 0z",
  "M0 0h60L0 60z",
  "M0 0h60v60H0z",
  "M0 60V30a30 30 0 0 1 60 0v30H42V30a12 12 0 0 0-24 0v30z",
  "",
];

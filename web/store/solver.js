// A worker that solves the gate's challenge: ALTCHA's proof of work (v1), the number whose SHA-256
// with the salt is the challenge. crypto.subtle takes 10 µs a hash, most of it for the way there and
// back; this takes about one.

const K = new Int32Array([
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
]);
const START = new Int32Array([
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
]);
const BLOCK = 64;
const words = new Int32Array(BLOCK);

/**
 * Work a block of 64 bytes into a state.
 * @param {Int32Array} state
 * @param {Uint8Array} bytes
 * @param {number} at where the block starts
 */
function compress(state, bytes, at) {
  for (let i = 0; i < 16; i += 1) {
    const j = at + i * 4;
    words[i] = (bytes[j] << 24) | (bytes[j + 1] << 16) | (bytes[j + 2] << 8) | bytes[j + 3];
  }
  for (let i = 16; i < BLOCK; i += 1) {
    const x = words[i - 15];
    const y = words[i - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    words[i] = (words[i - 16] + s0 + words[i - 7] + s1) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < BLOCK; i += 1) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[i] + words[i]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, index) => {
    state[index] = (state[index] + value) | 0;
  });
}

/**
 * Find the number; null if there is none.
 * @param {string} salt
 * @param {string} challenge hexadecimal
 * @param {number} maxNumber
 */
function find(salt, challenge, maxNumber) {
  const wanted = new Int32Array(8).map((_, index) => Number.parseInt(challenge.slice(index * 8, index * 8 + 8), 16) | 0);
  const encoder = new TextEncoder();
  const salted = encoder.encode(salt);
  // What all numbers have in common is worked in once.
  const common = Int32Array.from(START);
  const whole = salted.length - (salted.length % BLOCK);
  for (let at = 0; at < whole; at += BLOCK) compress(common, salted, at);
  const rest = salted.subarray(whole);
  const state = new Int32Array(8);
  for (let number = 0; number <= maxNumber; number += 1) {
    const text = String(number);
    const used = rest.length + text.length;
    const bytes = new Uint8Array(used + 9 > BLOCK ? 2 * BLOCK : BLOCK);
    bytes.set(rest);
    for (let i = 0; i < text.length; i += 1) bytes[rest.length + i] = text.charCodeAt(i);
    bytes[used] = 0x80;
    new DataView(bytes.buffer).setUint32(bytes.length - 4, (whole + used) * 8);
    state.set(common);
    for (let at = 0; at < bytes.length; at += BLOCK) compress(state, bytes, at);
    if (state.every((word, index) => word === wanted[index])) return number;
  }
  return null;
}

addEventListener("message", ({ data: { algorithm, challenge, salt, signature, maxNumber } }) => {
  const number = algorithm === "SHA-256" ? find(salt, challenge, maxNumber) : null;
  const solution = number === null ? "" : btoa(JSON.stringify({ algorithm, challenge, number, salt, signature }));
  postMessage(solution);
});

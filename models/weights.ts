/**
 * Seeded weights: deterministic numbers of realistic size, made when they are asked for.
 *
 * A tensor's numbers depend only on the seed and its name, so neither the order of writing nor the other tensors matter.
 * The generator is xorshift128 (Marsaglia 2003) seeded by splitmix-style mixing of a hash of the name; a normal-like value
 * is the sum of four 16-bit halves (Irwin-Hall, tails end at 3.46 sigma). Only 32-bit integer operations and one exact
 * scaling are used, so every host makes the same bytes. Files are little-endian, as every host of Node is.
 */

import type { Initializer } from "./onnx-writer.js";

const { fround, imul, min, sqrt } = Math;

/** Values in one chunk: 256 KiB of floats. */
const CHUNK = 65536;

/** A float32 tensor of normal-like values with the given mean and standard deviation. */
export function normalTensor(name: string, dims: readonly number[], seed: number, std: number, mean = 0): Initializer {
  const total = dims.reduce((product, extent) => product * extent, 1);
  function* chunks(): Generator<Uint8Array> {
    const state = seededState(name, seed);
    for (let done = 0; done < total; done += CHUNK) {
      const values = new Float32Array(min(CHUNK, total - done));
      fillNormal(values, state, std, mean);
      yield bytesOf(values);
    }
  }
  return { name, type: "float32", dims, chunks, weight: true };
}

export function floatTensor(name: string, dims: readonly number[], values: ArrayLike<number>): Initializer {
  return { name, type: "float32", dims, chunks: () => [bytesOf(Float32Array.from(values))] };
}

export function int64Tensor(name: string, dims: readonly number[], values: readonly (number | bigint)[]): Initializer {
  return { name, type: "int64", dims, chunks: () => [bytesOf(BigInt64Array.from(values, (value) => BigInt(value)))] };
}

export function boolTensor(name: string, dims: readonly number[], values: readonly boolean[]): Initializer {
  return { name, type: "bool", dims, chunks: () => [Uint8Array.from(values, Number)] };
}

/** Integers in [0, bound), for inputs of tests and benches. */
export function seededIntegers(name: string, seed: number, count: number, bound: number): number[] {
  const state = seededState(name, seed);
  return Array.from({ length: count }, () => (nextWord(state) >>> 0) % bound);
}

/** Normal-like float32 values, for inputs of tests and benches. */
export function seededNormals(name: string, seed: number, count: number, std = 1): Float32Array {
  const values = new Float32Array(count);
  fillNormal(values, seededState(name, seed), std, 0);
  return values;
}

const bytesOf = (array: Float32Array | BigInt64Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

/** Four words, never all zero. */
function seededState(name: string, seed: number): Uint32Array {
  // FNV-1a over the name, then the finalizer of murmur3 on counters: neighbouring names give unrelated states.
  let hash = 2166136261 ^ seed;
  for (let i = 0; i < name.length; i++) hash = imul(hash ^ name.charCodeAt(i), 16777619);
  return Uint32Array.from([1, 2, 3, 4], (counter) => {
    let word = hash + imul(counter, 0x9e3779b9);
    word = imul(word ^ (word >>> 16), 0x85ebca6b);
    word = imul(word ^ (word >>> 13), 0xc2b2ae35);
    return (word ^ (word >>> 16)) | 1;
  });
}

function nextWord(state: Uint32Array): number {
  const [x = 0, y = 0, z = 0, w = 0] = state;
  const t = x ^ (x << 11);
  const next = w ^ (w >>> 19) ^ t ^ (t >>> 8);
  state.set([y, z, w, next]);
  return next;
}

/** The same sequence as `nextWord`, with the state in locals: this loop makes 100 million weights for a BERT. */
function fillNormal(values: Float32Array, state: Uint32Array, std: number, mean: number): void {
  let [x = 0, y = 0, z = 0, w = 0] = state;
  const scale = fround(std / sqrt((65536 * 65536 - 1) / 3));
  for (let i = 0; i < values.length; i++) {
    let t = x ^ (x << 11);
    const first = w ^ (w >>> 19) ^ t ^ (t >>> 8);
    t = y ^ (y << 11);
    const second = first ^ (first >>> 19) ^ t ^ (t >>> 8);
    x = z;
    y = w;
    z = first;
    w = second;
    const sum = (first & 0xffff) + (first >>> 16) + (second & 0xffff) + (second >>> 16) - 131070;
    values[i] = mean + sum * scale;
  }
  state.set([x, y, z, w]);
}

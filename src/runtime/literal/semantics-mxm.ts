/**
 * The MXM's instructions: weight buffers, arrays, products and accumulators, as the definition.
 *
 * In fp16 the two planes of a hemisphere are one pair, driven by plane 0's queues: buffer and array of halfLanes x lanes,
 * planes x accumulatorRows rows of sums. In int8 each plane works by itself on lanes x lanes. A product of a pair is one
 * float64 chain from +0 in ascending k over all halfLanes, zeros too, rounded once to fp32; an ACC adds in fp32. int8 is
 * exact in int32 (modulo 2^32). An LW belongs to the buffer at its dispatch and an ABC to the weights installed then, so
 * loading, installing and multiplying overlap without meeting.
 */

import { at, sure } from "../../diagnostics.js";
import { DTYPES } from "../../ir/dtype.js";
import {
  ARRAYS,
  type ArrayKind,
  arrayDepth,
  arrayOf,
  isStreamType,
  type MxmMode,
  modeOf,
  mxmModeOf,
  STREAM_TYPES,
} from "../../ir/isa.js";
import { widenFloat } from "../../ir/numerics.js";
import { readLanes, writeLanes } from "../lanes.js";
import { numberField, type Vector } from "../program.js";
import {
  broken,
  changed,
  createWeights,
  type Execution,
  type Handler,
  hemisphereIndex,
  type LoadedWeights,
  type Plane,
} from "./state.js";

export const mxmSemantics: { readonly [M in "lw" | "iw" | "iwStream" | "abc" | "acc"]: Handler } = {
  lw: (x) => {
    const kind = kindOf(x);
    const planes = planesOf(x, kind);
    if (planes.some(({ buffer }) => buffer !== planes[0]?.buffer || (buffer !== undefined && buffer.kind !== kind))) {
      broken(x, "LPU4010", "the buffer holds weights of another kind");
    }
    const buffer = planes[0]?.buffer ?? createWeights(x.target, kind);
    for (const plane of planes) plane.buffer = buffer;
    buffer.lastLoad = x.cycle;
    return () => {
      load(x, buffer);
      changed(x.state, Math.max(x.machine.now + 1, x.cycle + x.target.timing.mxmLoad));
    };
  },

  iw: (x) => {
    const { mxmLoad, mxmInstall } = x.target.timing;
    const buffer = planeOf(x).buffer;
    if (buffer === undefined) return broken(x, "LPU4010", "the buffer is empty");
    const ready = buffer.lastLoad + mxmLoad;
    if (x.cycle < ready) broken(x, "LPU4010", `the buffer may be installed at cycle ${ready}`);
    for (const plane of planesOf(x, buffer.kind)) {
      stillArriving(x, plane, x.cycle + mxmInstall);
      plane.buffer = undefined;
      install(x, plane, x.cycle + mxmInstall, buffer);
    }
    return undefined;
  },

  iwStream: (x) => {
    const kind = kindOf(x);
    const planes = planesOf(x, kind);
    const base = x.index === 0 ? startStreaming(x, planes, kind) : undefined;
    const weights = planes[0]?.installs.at(-1)?.weights;
    if (weights === undefined) return broken(x, "LPU4011");
    return () => {
      if (base !== undefined) weights.values.set(base.values);
      load(x, weights);
    };
  },

  abc: (x) => {
    const kind = kindOf(x);
    const planes = planesOf(x, kind);
    const met = planes.map((plane) => {
      const change = plane.changes.find(({ from, until }) => x.cycle >= from && x.cycle < until);
      if (change !== undefined) broken(x, "LPU4011", `the array is being changed until cycle ${change.until}`);
      while ((plane.installs[1]?.from ?? Number.POSITIVE_INFINITY) <= x.cycle) plane.installs.shift();
      const [first] = plane.installs;
      return first !== undefined && first.from <= x.cycle ? first.weights : undefined;
    });
    const weights = met[0];
    if (weights === undefined || weights.kind !== kind || met.some((other) => other !== weights))
      return broken(x, "LPU4011");
    return () => {
      const sums = MULTIPLY[kind](weights, activations(x));
      x.state.counters.macs += weights.values.length;
      const cycle = x.cycle + x.target.timing.mxmMultiply;
      planeOf(x).products.push({ cycle, kind, sums, execution: x });
      changed(x.state, cycle);
    };
  },

  acc: (x) => () => {
    const plane = planeOf(x);
    const [product] = plane.products;
    if (product === undefined || product.cycle !== x.cycle)
      return broken(x, "LPU4012", "no product arrives in this cycle");
    plane.products.shift();
    const { accumulatorRows } = x.target;
    const row = numberField(x, "row");
    const rows = accumulatorRows * planesOf(x, product.kind).length;
    if (row >= rows) broken(x, "LPU4008", `expected an accumulator row below ${rows}, got ${row}`);
    const holder = ARRAYS[product.kind].joined ? pairOf(x)[Math.floor(row / accumulatorRows)] : plane;
    const place = row % accumulatorRows;
    if (modeOf(x.instruction) === "add") {
      const old = holder?.accumulators[place];
      if (old === undefined || old.kind !== product.kind)
        return broken(x, "LPU4013", `row ${row} holds no sums of this kind`);
      const round = ROUND_SUM[ARRAYS[product.kind].sums];
      product.sums.forEach((sum, lane) => {
        product.sums[lane] = round(sum + at(old.sums, lane, "lane"));
      });
    }
    if (holder !== undefined) holder.accumulators[place] = { kind: product.kind, sums: product.sums };
    giveSums(x, product.kind, product.sums);
  },
};

const pairOf = (x: Execution): readonly Plane[] => at(x.state.planes, hemisphereIndex(x.place), "hemisphere");
const planeOf = (x: Execution): Plane => pairOf(x)[x.place.index] ?? broken(x, "LPU4008", "no such plane");
const kindOf = (x: Execution): ArrayKind => arrayOf(x.instruction);

/** The planes that an instruction of this kind works on; fp16 is for the queues of plane 0 alone. */
function planesOf(x: Execution, kind: ArrayKind): readonly Plane[] {
  if (!ARRAYS[kind].joined) return [planeOf(x)];
  if (x.place.index !== 0) broken(x, "LPU4008", "fp16 belongs to the queues of plane 0");
  return pairOf(x);
}

const taken = (x: Execution): readonly Vector[] => sure(x.operands.get("stream"), "operand");

/** No weights may be on their way past the buffer from a cycle on; those of one kind may follow each other. */
function stillArriving(x: Execution, { changes }: Plane, from: number, kind?: ArrayKind): void {
  if (changes.some((change) => change.until > from && change.weights.kind !== kind))
    broken(x, "LPU4010", "weights past the buffer are still arriving");
}

const install = ({ state }: Execution, plane: Plane, from: number, weights: LoadedWeights): void => {
  plane.installs.push({ from, weights });
  changed(state, from);
};

/**
 * A burst past the buffer changes a copy of the array, which becomes the array when the burst has arrived; until then no ABC
 * may meet the array. A burst that follows before the one before it is usable goes on with the same copy. Returns what is to
 * be copied once the first vector has arrived.
 */
function startStreaming(x: Execution, planes: readonly Plane[], kind: ArrayKind): LoadedWeights | undefined {
  const { mxmWeightSkew, mxmInstall } = x.target.timing;
  const from = x.cycle + mxmWeightSkew;
  const until = from + (x.instruction.count - 1) * x.instruction.interval + mxmInstall;
  const latest = planes[0]?.installs.at(-1)?.weights;
  for (const plane of planes) {
    plane.changes = plane.changes.filter((change) => change.until > x.cycle);
    stillArriving(x, plane, from, kind);
  }
  const goesOn = planes.every(({ changes }) => changes.some((c) => c.until > from && c.weights === latest));
  const weights = goesOn && latest !== undefined ? latest : createWeights(x.target, kind);
  for (const plane of planes) {
    if (goesOn) plane.installs.pop();
    plane.changes.push({ weights, from, until });
    install(x, plane, until, weights);
  }
  return !goesOn && latest?.kind === kind ? latest : undefined;
}

/** Puts the vectors that were taken into weight columns. */
function load(x: Execution, weights: LoadedWeights): void {
  const mode = mxmModeOf(x.instruction);
  const vectors = taken(x);
  if (mode === undefined) return;
  if (numberField(x, "clear") === 1 && x.index === 0) weights.values.fill(0);
  const column = numberField(x, "column");
  const { bytes } = DTYPES[mode.type];
  for (let way = 0; bytes * way < vectors.length; way++) {
    const elements = elementsOf(mode, vectors.slice(bytes * way, bytes * (way + 1)));
    mode.parts.forEach((part, index) => {
      const start = startOf(part, weights.depth);
      fill(x, weights, column + way * mode.parts.length + index, (lane) => at(elements, start + lane, "lane"));
    });
  }
}

/** Fills one column, keeping lanes first .. first + lanes - 1 of the operand and zero elsewhere. */
function fill(x: Execution, weights: LoadedWeights, column: number, value: (lane: number) => number): void {
  if (column >= x.target.lanes) broken(x, "LPU4008", `expected a column below ${x.target.lanes}, got ${column}`);
  const first = numberField(x, "first");
  const end = first + numberField(x, "lanes");
  for (let k = 0; k < weights.depth; k++)
    weights.values[column * weights.depth + k] = k >= first && k < end ? value(k) : 0;
}

/** The numbers of a vector, as the array multiplies them. */
const elementsOf = ({ type }: MxmMode, streams: readonly Vector[]): Float64Array =>
  isStreamType(type)
    ? readLanes(type, streams, STREAM_TYPES[type].lane === "int")
    : Float64Array.from(at(streams, 0, "stream"), (bits) => widenFloat(type, bits));

/** First lane of a part of a vector. */
const startOf = (part: MxmMode["parts"][number], depth: number): number => (part === "all" ? 0 : part * depth);

/** The part of the activation vector that meets the array. */
function activations(x: Execution): Float64Array {
  const mode = mxmModeOf(x.instruction);
  if (mode === undefined) return broken(x, "LPU4008", "no such mode");
  const depth = arrayDepth(x.target, mode.array);
  const start = startOf(at(mode.parts, 0, "part"), depth);
  return elementsOf(mode, taken(x)).subarray(start, start + depth);
}

function multiplyF16({ depth, values }: LoadedWeights, activations: Float64Array): Float64Array {
  const sums = new Float64Array(values.length / depth);
  for (let column = 0; column < sums.length; column++) {
    let sum = 0;
    for (let k = 0; k < depth; k++) sum += (activations[k] as number) * (values[column * depth + k] as number);
    sums[column] = Math.fround(sum);
  }
  return sums;
}

function multiplyI8({ depth, values }: LoadedWeights, activations: Float64Array): Float64Array {
  const sums = new Float64Array(values.length / depth);
  for (let column = 0; column < sums.length; column++) {
    let sum = 0;
    for (let k = 0; k < depth; k++) sum += (activations[k] as number) * (values[column * depth + k] as number);
    sums[column] = sum | 0;
  }
  return sums;
}

const MULTIPLY: Readonly<Record<ArrayKind, (weights: LoadedWeights, activations: Float64Array) => Float64Array>> = {
  f16: multiplyF16,
  i8: multiplyI8,
};
const ROUND_SUM = { f32: Math.fround, i32: (sum: number): number => sum | 0 } as const;

function giveSums(x: Execution, kind: ArrayKind, sums: Float64Array): void {
  const stream = numberField(x, "give");
  if (stream < 0) return;
  const type = ARRAYS[kind].sums;
  const outward = x.place.hemisphere === "W" ? stream >= x.target.streams : stream < x.target.streams;
  if (outward) broken(x, "LPU4008", "sums are given inward only");
  x.machine.give(
    x,
    "give",
    writeLanes(type, { int: STREAM_TYPES[type].lane === "int", values: sums }, at(x.state.lengths, x.queue, "queue")),
  );
}

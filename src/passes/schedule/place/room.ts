/**
 * Whether SRAM suffices, and what to say if it does not.
 *
 * What must lie in SRAM from the first cycle on (weight tiles, rows of constants that are read, what the host writes and
 * reads) is known before anything is scheduled. It is a lower bound: where constants are in both hemispheres, rows of
 * intermediate results and what is lost at the ends of banks come on top. If already that is too much, no strategy helps.
 */

import { at, fail } from "../../../diagnostics.js";
import type { Plan, Storage, StorageId } from "../../../ir/plan.js";
import { sramBytes, type Target } from "../../../ir/target.js";
import { heldIn } from "../chip/memory.js";
import { sliceRowsOf } from "../figures.js";
import { chunksOf, type Scheduler } from "../state.js";
import { rowsOfCopy } from "./chunk.js";
import { residentBytes, residentIn, resultsIn, rowsOf } from "./resident.js";

const LARGEST = 3;
/** Share of SRAM that constants and edges can fill when results are to find room too. */
const FILLED = 0.9;

export const checkRoom = (plan: Plan, target: Target): void => {
  const parts = residentBytes(plan, target);
  const needed = sumOf(parts.values());
  const available = sramBytes(target);
  if (needed <= available) return;
  const largest = [...parts].sort(([, a], [, b]) => b - a).slice(0, LARGEST);
  fail("LPU2001", {
    message: `constants, inputs and outputs need ${sizeText(needed)} of SRAM, target '${target.name}' has ${sizeText(available)}: ${sizeText(needed - available)} too much`,
    notes: [
      ...largest.map(([name, bytes]) => `'${name}' takes ${sizeText(bytes)}`),
      `${(available / 2e6).toFixed(1)} million fp16 values fit at most`,
    ],
    hint: `let it have ${Math.ceil(needed / (FILLED * available))} times as many chips (--chips), or use fewer layers or a smaller vocabulary`,
  });
};

/** Bytes of whole rows that a plan needs. */
export interface SramNeed {
  /** Weights of products, and rows of other constants that are read. */
  readonly constants: number;
  /** What stays from run to run. */
  readonly states: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Intermediate results at the fullest moment, if tasks ran in the order of the plan: an estimate. */
  readonly results: number;
  /** All of these. */
  readonly peak: number;
  readonly capacity: number;
}

/** What a plan needs of SRAM, before anything is scheduled. */
export const sramNeed = (plan: Plan, target: Target): SramNeed => {
  const bytesOf = (storage: Storage, rows: number): number => sliceRowsOf(storage, rows) * target.lanes;
  const wholes = (storages: readonly Storage[]): number =>
    storages.reduce((sum, storage) => sum + bytesOf(storage, rowsOf(storage)), 0);
  const resident = residentIn(plan, target);
  const inputs = wholes(plan.storages.filter(({ kind }) => kind === "input"));
  const states = wholes(plan.storages.filter(({ kind }) => kind === "state"));
  const isNext = new Set(plan.states.map(({ next }) => next));
  const outputs = wholes(plan.storages.filter(({ id, kind, output }) => output && kind !== "input" && !isNext.has(id)));
  const results = resultsIn(plan, target);
  const constants = resident - states - inputs - outputs;
  return { constants, states, inputs, outputs, results, peak: resident + results, capacity: sramBytes(target) };
};

/**
 * When something finds no room among what was placed before it: what SRAM holds at that moment, and which results that are
 * still to be read are the largest. `sliceRows`: rows of slices that it would take.
 */
export const noRoom = (s: Scheduler, name: string, sliceRows: number): never => {
  const { plan, target, resident } = s;
  const vector = 2 * target.lanes;
  const results = [...resultRows(s)].map(([id, rows]) => ({
    name: at(plan.storages, id, "storage").name,
    bytes: rows * vector,
  }));
  const held = sumOf(results.map(({ bytes }) => bytes));
  const taken = sumOf(s.halves.flatMap(({ pairs }) => pairs.map(({ memory }) => heldIn(memory))));
  const capacity = sramBytes(target);
  const largest = results.sort((a, b) => b.bytes - a.bytes).slice(0, LARGEST);
  const isForWeights = resident > capacity / 2;
  return fail("LPU2001", {
    message: `no room in SRAM for ${sizeText(sliceRows * target.lanes)} of '${name}' on target '${target.name}'`,
    notes: [
      `of ${sizeText(capacity)} constants, inputs and outputs take ${sizeText(Math.max(vector * taken - held, resident))}, results that are still to be read ${sizeText(held)}; what is left lies in pieces that are too small`,
      ...largest.map((result) => `'${result.name}' takes ${sizeText(result.bytes)} at that moment`),
    ],
    hint: isForWeights
      ? "let it have more chips (--chips), use fewer layers or a smaller model, or a shorter sequence or a smaller batch where its sizes can be bound"
      : "bind a shorter sequence or a smaller batch, or use a smaller model",
  });
};

/** Rows of slice pairs, by storage, in which results lie that readers without a place still want. */
const resultRows = (s: Scheduler): Map<StorageId, number> => {
  const found = new Map<StorageId, number>();
  for (const [index, { outputs, rows }] of s.plan.tasks.entries()) {
    if (at(s.readersLeft, index, "task") <= 0) continue;
    for (const { storage, panel, row } of outputs) {
      if (s.plan.storages[storage]?.output === true) continue;
      const chunks = chunksOf(s, { storage, panel }).filter((one) => one.row >= row && one.row < row + rows);
      const held = sumOf(chunks.flatMap((chunk) => chunk.copies.map((copy) => rowsOfCopy(copy, chunk.rows))));
      found.set(storage, (found.get(storage) ?? 0) + held);
    }
  }
  return found;
};

const sumOf = (numbers: Iterable<number>): number => {
  let sum = 0;
  for (const number of numbers) sum += number;
  return sum;
};

/** In MiB, or in KiB what would be less than a tenth of one. */
const sizeText = (bytes: number): string =>
  bytes >= 2 ** 20 / 10 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 10).toFixed(1)} KiB`;

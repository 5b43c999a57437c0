/**
 * Space-time scheduling: gives every burst of a Plan its units, streams, rows and cycle. Plan -> Program.
 *
 * List scheduling in order of decreasing height (cycles to the end of the program), ties by task number, so the result
 * depends on the plan and the target alone. A task is a rigid figure that slides along time to the first place where all it
 * needs is free: it may fall into a hole that earlier decisions left. Weights of a pass are loaded as late as they may be,
 * while the array still computes the pass before. Legality is not argued here: check-schedule.ts derives it anew.
 */

import { CompileError, fail, invariant } from "../diagnostics.js";
import type {
  AluOp,
  Argument,
  Leaf,
  Pass,
  PackedTile,
  Plan,
  PlanBinding,
  Run,
  Storage,
  Task,
  TaskOutput,
  WeightLoad,
} from "../ir/plan.js";
import type { AluFunction, Source } from "../ir/isa.js";
import { ALU_FUNCTIONS, completionCycles } from "../ir/isa.js";
import {
  type Binding,
  memQueue,
  mxmQueue,
  type PanelPlace,
  type Placement,
  type Program,
  queueCount,
  sxmQueue,
  type TimedInstruction,
  vxmQueue,
} from "../ir/program.js";
import { halfLanes, type Hemisphere, type Target } from "../ir/target.js";
import { type ConstantBlocks, constantBlocks } from "./constant-blocks.js";
import { findRows, holdRows, type PairMemory, pairMemory, releaseRows } from "./memory.js";
import { endOf, Figure, fitBefore, lastEndBefore, type Timeline, timeline } from "./resources.js";

const HEMISPHERES: readonly Hemisphere[] = ["W", "E"];
type Side = 0 | 1;
/** Weight vectors that a constant tile loads in one cycle: 4 of 2 bytes are 8 streams. */
const TILE_WAYS = 4;
/** Cycles for which an array may wait for a task with a longer way to go. */
const READY_SLACK = 16;
/** Columns of computed weights that load in one cycle. */
const LOAD_WAYS = 4;
/** Accumulator rows are handed out in blocks of this many. */
const ACCUMULATOR_BLOCK = 32;
/** Instruction counts and row counts are 16-bit; constants are placed in pieces, so that their reads spread over slices. */
const CONSTANT_ROWS = 256;

/** A constant of at most so many rows may have so many copies in a hemisphere. */
const SPARE_COPY_ROWS = 8;
const SPARE_COPIES = 6;

/**
 * Where rows of a storage lie in one hemisphere: the same address in one pair of slices (f16) or two (f32). What is loaded
 * as weights is interleaved: row i of the block in pair i % ways at row floor(i / ways), so that several columns load at once.
 */
interface Copy {
  readonly side: Side;
  readonly pairs: readonly number[];
  readonly ways: number;
  readonly address: number;
  lastRead: number;
}

interface Chunk {
  readonly row: number;
  readonly rows: number;
  /** First cycle in which a Read of `row` may be dispatched; row + i is ready i cycles later. */
  readonly ready: number;
  readonly copies: Copy[];
}

interface TilePlace {
  readonly pairs: readonly number[];
  readonly addresses: readonly number[];
}

interface Pair {
  readonly position: number;
  readonly read: Timeline;
  readonly write: Timeline;
  readonly readBank: readonly [Timeline, Timeline];
  readonly writeBank: readonly [Timeline, Timeline];
  readonly issue: Timeline;
  readonly memory: PairMemory;
}

interface Half {
  readonly pairs: readonly Pair[];
  /** Where an fp16 panel may lie, and where an fp32 one may: in two pairs of one position. */
  readonly singles: readonly (readonly number[])[];
  readonly couples: readonly (readonly number[])[];
  /** Streams, two and two: inward (towards the VXM) and outward. */
  readonly inward: readonly Timeline[];
  readonly outward: readonly Timeline[];
  /** The VXM's own stream registers, by direction: inward streams of this hemisphere end in them, outward ones of the other start. */
  readonly crossing: readonly Timeline[];
  readonly array: Timeline;
  readonly buffer: Timeline;
  readonly accumulators: number[];
  readonly sxm: readonly Timeline[];
}

interface Scheduler {
  readonly plan: Plan;
  readonly target: Target;
  readonly halves: readonly [Half, Half];
  readonly alus: readonly Timeline[];
  readonly chunks: Chunk[][][];
  readonly readers: Int32Array;
  /** Panels that some task reads in the same burst: in one pair of slices they could never be read together. */
  readonly rivals: ReadonlyMap<string, ReadonlySet<string>>;
  /** Temporaries whose rows are activations or weights of some pass: two copies in each hemisphere. */
  readonly feeders: ReadonlySet<number>;
  /** Storages whose rows are weights of some pass. */
  readonly interleaved: ReadonlySet<number>;
  readonly tiles: readonly [Map<string, TilePlace>, Map<string, TilePlace>];
  readonly chains: Map<readonly AluOp[], TimedChain>;
  readonly queues: TimedInstruction[][];
  readonly constants: ConstantBlocks;
  readonly figure: Figure;
  /** What to do if the figure is booked, and what to undo if it is not. */
  readonly onCommit: (() => void)[];
  readonly onAbort: (() => void)[];
  cursor: number;
  /** Rows of slice pairs that second copies of weight tiles may still take. */
  spareRows: number;
}

/**
 * Ways to weigh the choices of the scheduler. None is best for every plan, and the result of each is exact before anything
 * runs, so all are tried and the shortest program is kept.
 */
interface Strategy {
  /** How far, in cycles of the way to the end, the last block of rows may stay behind the first. */
  readonly stagger: number;
  /** What leads to weights within so many cycles does not stay behind. */
  readonly nearWeights: number;
  /** Share of SRAM that constants may fill by being in both hemispheres; the rest is for what is computed. */
  readonly duplicates: number;
}

const STRATEGIES: readonly Strategy[] = [
  { stagger: 2000, nearWeights: 3000, duplicates: 0.88 },
  { stagger: 0, nearWeights: 0, duplicates: 0.88 },
  { stagger: 1000, nearWeights: 2000, duplicates: 0.86 },
];
/** Long programs are scheduled fewer times: about so many tasks are placed in all. */
const TASKS_IN_ALL = 8_000;
/** When nothing else fits: no constant is in both hemispheres. */
const FRUGAL: Strategy = { stagger: 0, nearWeights: 0, duplicates: 0 };

export const schedule = (plan: Plan, target: Target): Program => {
  let best: Program | undefined;
  let refused: CompileError | undefined;
  const affordable = Math.max(1, Math.min(STRATEGIES.length, Math.floor(TASKS_IN_ALL / plan.tasks.length)));
  for (const strategy of STRATEGIES.slice(0, affordable)) {
    const result = attempt(plan, target, strategy);
    if (result instanceof CompileError) refused = result;
    else if (best === undefined || cyclesOf(result) < cyclesOf(best)) best = result;
  }
  if (best !== undefined) return best;
  const last = attempt(plan, target, FRUGAL);
  if (last instanceof CompileError) throw refused ?? last;
  return last;
};

const cyclesOf = (program: Program): number => program.entries[0]?.cycles[0] ?? 0;

/** One schedule, or why there is none by this strategy. */
const attempt = (plan: Plan, target: Target, strategy: Strategy): Program | CompileError => {
  try {
    return scheduleBy(plan, target, strategy);
  } catch (error) {
    if (error instanceof CompileError) return error;
    throw error;
  }
};

const scheduleBy = (plan: Plan, target: Target, strategy: Strategy): Program => {
  const s = newScheduler(plan, target, strategy);
  for (const storage of plan.storages) if (storage.output || storage.kind === "input") placeEdge(s, storage);
  const { heights, consumers, waiting } = dependencies(plan, target, strategy);
  // Tasks whose producers are placed: those without an MXM pass go to their place at once, the others compete for the arrays.
  const chains: number[] = [];
  const passes: Waiting[] = [];
  const ready = (index: number): void => {
    const task = plan.tasks[index] as Task;
    if (task.passes.length === 0) chains.push(index);
    else passes.push({ index, task, height: heights[index] as number, ready: readyCycle(s, task) });
  };
  for (const [index, count] of waiting.entries()) if (count === 0) ready(index);
  let placed = 0;
  for (;;) {
    const index = chains.length > 0 ? takeHighest(chains, heights) : passes.length > 0 ? takeEarliest(s, passes) : -1;
    if (index < 0) break;
    const task = plan.tasks[index] as Task;
    place(s, task);
    release(s, task);
    placed++;
    for (const next of consumers[index] ?? []) {
      waiting[next] = (waiting[next] as number) - 1;
      if (waiting[next] === 0) ready(next);
    }
  }
  invariant(placed === plan.tasks.length, "tasks form no cycle");
  return finish(s);
};

interface Waiting {
  readonly index: number;
  readonly task: Task;
  readonly height: number;
  /** First cycle in which its first pass could start, by its operands. */
  readonly ready: number;
}

const takeHighest = (chains: number[], heights: Float64Array): number => {
  let best = 0;
  for (let i = 1; i < chains.length; i++) {
    const a = chains[i] as number;
    const b = chains[best] as number;
    if ((heights[a] as number) > (heights[b] as number) || (heights[a] === heights[b] && a < b)) best = i;
  }
  return chains.splice(best, 1)[0] as number;
};

/**
 * The task to give to an array next: among those that could start about as early as any (an array must not idle for the sake
 * of one that is not ready), the one with the longest way to the end of the program.
 */
const takeEarliest = (s: Scheduler, passes: Waiting[]): number => {
  const free = Math.min(endOf(s.halves[0].array), endOf(s.halves[1].array));
  let first = NEVER;
  for (const { ready } of passes) first = Math.min(first, Math.max(ready, free));
  let best = -1;
  for (const [i, waiting] of passes.entries()) {
    if (Math.max(waiting.ready, free) > first + READY_SLACK) continue;
    const other = passes[best];
    if (other === undefined || waiting.height > other.height || (waiting.height === other.height && waiting.index < other.index)) best = i;
  }
  return (passes.splice(best, 1)[0] as Waiting).index;
};

/** First cycle in which the first pass of a task could start: its activations, computed weights and chain operands are there. */
const readyCycle = (s: Scheduler, task: Task): number => {
  const { timing, mxm } = s.target;
  const arrives = timing.mxmMultiply + timing.mxmAccumulate + mxm;
  let cycle = timing.barrier;
  const need = (storage: number, panel: number, runs: readonly Run[], lead: number): void => {
    for (const { chunk, offset, row, count, step } of piecesOf(s, storage, panel, runs))
      if (chunk.ready > 0) cycle = Math.max(cycle, chunk.ready + (row - chunk.row) + Math.max(0, (count - 1) * (step - 1)) - offset + lead);
  };
  for (const [index, pass] of task.passes.entries()) {
    const lead = mxm - timing.mxmActivationSkew - index * task.rows;
    need(pass.storage, pass.panel, pass.runs, lead);
    if (isTile(pass.weights)) continue;
    let loaded = 0;
    for (const load of [...pass.weights].reverse()) {
      loaded += load.run.count / LOAD_WAYS;
      need(load.storage, load.panel, [load.run], mxm - timing.mxmWeightSkew + timing.mxmInstall + loaded - index * task.rows);
    }
  }
  for (const leaf of task.leaves) need(leaf.storage, leaf.panel, leaf.runs, -arrives - (task.passes.length - 1) * task.rows);
  return cycle;
};

/** What the host writes or reads lies in one piece, at rows that nothing else ever takes. */
const placeEdge = (s: Scheduler, storage: Storage): void => {
  for (const chunks of s.chunks[storage.id] ?? []) {
    s.cursor++;
    const copies = homesOf(storage).map((side) => spareCopy(s, storage, side));
    if (storage.output) chunks.push({ row: -1, rows: 0, ready: 0, copies });
    else chunks[0]?.copies.push(...copies);
  }
};

/** Hemispheres in which a storage lies. What only the VXM reads has one, the same for all its rows: a burst may read across blocks. */
const homesOf = (storage: Storage): readonly Side[] =>
  storage.bothHemispheres ? [0, 1] : [storage.id % 2 === 0 ? 0 : 1];

const newScheduler = (plan: Plan, target: Target, strategy: Strategy): Scheduler => {
  const lines = (n: number): Timeline[] => Array.from({ length: n }, timeline);
  const pairCount = Math.floor(target.slices / 2);
  const positionOf = (pair: number): number => 1 + Math.floor((2 * pair) / target.slicesPerHop);
  const singles = Array.from({ length: pairCount }, (_, pair) => [pair]);
  const couples = singles
    .map(([pair = 0]) => [pair, pair + 1] as const)
    .filter(([a, b]) => a % 2 === 0 && b < pairCount && positionOf(a) === positionOf(b));
  const half = (): Half => ({
    singles,
    couples,
    pairs: Array.from({ length: pairCount }, (_, pair) => ({
      position: positionOf(pair),
      read: timeline(),
      write: timeline(),
      readBank: [timeline(), timeline()],
      writeBank: [timeline(), timeline()],
      issue: timeline(),
      memory: pairMemory(target),
    })),
    inward: lines(target.streams / 2),
    outward: lines(target.streams / 2),
    crossing: lines(target.streams / 2),
    array: timeline(),
    buffer: timeline(),
    accumulators: Array.from(
      { length: Math.floor((target.planes * target.accumulatorRows) / ACCUMULATOR_BLOCK) },
      () => 0,
    ),
    sxm: lines(target.sxmQueues),
  });
  const readers = new Int32Array(plan.storages.length);
  for (const task of plan.tasks) for (const id of readsOf(task)) readers[id] = (readers[id] ?? 0) + 1;
  const chunks = plan.storages.map((storage): Chunk[][] =>
    Array.from({ length: storage.panels }, () => (storage.kind === "temp" ? [] : wholeChunks(storage))),
  );
  return {
    plan,
    target,
    halves: [half(), half()],
    alus: lines(target.alus),
    chunks,
    readers,
    rivals: rivalsOf(plan),
    feeders: feedersOf(plan),
    interleaved: interleavedIn(plan),
    tiles: [new Map(), new Map()],
    chains: new Map(),
    queues: Array.from({ length: queueCount(target) }, () => []),
    constants: constantBlocks(target),
    figure: new Figure(),
    onCommit: [],
    onAbort: [],
    cursor: 0,
    spareRows: strategy.duplicates * 4 * Math.floor(target.slices / 2) * target.rowsPerBank - tileRows(plan),
  };
};

/** Storages whose rows some pass loads as weights. */
const interleavedIn = (plan: Plan): Set<number> =>
  new Set(
    plan.tasks.flatMap(({ passes }) =>
      passes.flatMap(({ weights }) => (isTile(weights) ? [] : weights.map((load) => load.storage))),
    ).filter((id) => plan.storages[id]?.dtype === "f16" && !plan.storages[id]?.output),
  );

const feedersOf = (plan: Plan): Set<number> => {
  const feeders = new Set(plan.tasks.flatMap((task) => task.passes.map((pass) => pass.storage)));
  for (const { passes } of plan.tasks)
    for (const { weights } of passes) if (!isTile(weights)) for (const load of weights) feeders.add(load.storage);
  for (const storage of plan.storages) if (storage.kind !== "temp" || storage.output) feeders.delete(storage.id);
  return feeders;
};

/** Rows of slice pairs that the distinct weight tiles of a plan take. */
const tileRows = (plan: Plan): number => {
  const rows = new Map<string, number>();
  for (const task of plan.tasks)
    for (const { weights } of task.passes)
      if (isTile(weights)) rows.set(weights.key, executionsOf(weights) * TILE_WAYS);
  return [...rows.values()].reduce((sum, n) => sum + n, 0);
};

const executionsOf = (tile: PackedTile): number => Math.ceil(Math.ceil(tile.columns / 2) / TILE_WAYS);

/** Rows that are there before cycle 0. What the host reads or writes lies in one piece. */
const wholeChunks = (storage: Storage): Chunk[] => {
  const size = storage.kind === "input" ? storage.rows : CONSTANT_ROWS;
  const chunks: Chunk[] = [];
  for (let row = 0; row < storage.rows; row += size)
    chunks.push({ row, rows: Math.min(size, storage.rows - row), ready: 0, copies: [] });
  return chunks;
};

const readsOf = (task: Task): Set<number> => {
  const ids = new Set<number>();
  for (const leaf of task.leaves) ids.add(leaf.storage);
  for (const pass of task.passes) {
    ids.add(pass.storage);
    if (!isTile(pass.weights)) for (const load of pass.weights) ids.add(load.storage);
  }
  return ids;
};

const panelKey = (storage: number, panel: number): string => `${storage}/${panel}`;

const rivalsOf = (plan: Plan): Map<string, Set<string>> => {
  const rivals = new Map<string, Set<string>>();
  for (const task of plan.tasks) {
    const last = task.passes[task.passes.length - 1];
    const keys = task.leaves.map((leaf) => panelKey(leaf.storage, leaf.panel));
    if (last !== undefined) keys.push(panelKey(last.storage, last.panel));
    // What has its place from the start is written while the operands are still read.
    for (const output of task.outputs)
      if (plan.storages[output.storage]?.output) keys.push(panelKey(output.storage, output.panel));
    for (const a of keys)
      for (const b of keys) {
        if (a === b) continue;
        const known = rivals.get(a);
        if (known === undefined) rivals.set(a, new Set([b]));
        else known.add(b);
      }
  }
  return rivals;
};

/** Pairs of slices of one hemisphere that hold a rival of a panel. */
const rivalPairs = (s: Scheduler, storage: number, panel: number, side: Side): Set<number> => {
  const pairs = new Set<number>();
  for (const key of s.rivals.get(panelKey(storage, panel)) ?? []) {
    const [id, index] = key.split("/").map(Number);
    for (const chunk of s.chunks[id as number]?.[index as number] ?? [])
      for (const copy of chunk.copies) if (copy.side === side) for (const pair of copy.pairs) pairs.add(pair);
  }
  return pairs;
};

const isTile = (weights: Pass["weights"]): weights is PackedTile => "key" in weights;

/* ---------- order ---------- */

/** Who waits for whom, and how many cycles lie, at the least, between the start of each task and the end of the program. */
const dependencies = (plan: Plan, target: Target, strategy: Strategy): { heights: Float64Array; consumers: number[][]; waiting: number[] } => {
  const { tasks } = plan;
  const producers: { row: number; end: number; task: number }[][][] = plan.storages.map((storage) =>
    Array.from({ length: storage.panels }, () => []),
  );
  for (const [index, task] of tasks.entries())
    for (const output of task.outputs)
      producers[output.storage]?.[output.panel]?.push({ row: output.row, end: output.row + task.rows, task: index });
  const producersOf = tasks.map((task) => {
    const found = new Set<number>();
    const need = (storage: number, panel: number, runs: readonly Run[]): void => {
      for (const run of runs) {
        const low = Math.min(run.row, run.row + run.step * (run.count - 1));
        const high = Math.max(run.row, run.row + run.step * (run.count - 1));
        for (const producer of producers[storage]?.[panel] ?? [])
          if (producer.row <= high && producer.end > low) found.add(producer.task);
      }
    };
    for (const leaf of task.leaves) need(leaf.storage, leaf.panel, leaf.runs);
    for (const pass of task.passes) {
      need(pass.storage, pass.panel, pass.runs);
      if (!isTile(pass.weights)) for (const load of pass.weights) need(load.storage, load.panel, [load.run]);
    }
    return [...found];
  });
  const heights = new Float64Array(tasks.length);
  const consumers: number[][] = tasks.map(() => []);
  for (const [index, list] of producersOf.entries()) for (const from of list) consumers[from]?.push(index);
  const latency = 2 * target.mxm + target.timing.mxmMultiply + target.timing.mxmAccumulate + 8 * target.timing.vxmAlu;
  for (let index = tasks.length - 1; index >= 0; index--) {
    const task = tasks[index] as Task;
    const length = task.passes.length === 0 ? latency / 2 + task.rows / 2 : latency + task.passes.length * task.rows;
    let height = 0;
    for (const next of consumers[index] ?? []) height = Math.max(height, heights[next] as number);
    heights[index] = height + length;
  }
  // Later blocks of rows stay behind on purpose, so that their work fills the latencies of the blocks before them; but not
  // what all blocks will soon wait for: rows that become weights.
  const loaded = interleavedIn(plan);
  const toWeights = new Float64Array(tasks.length).fill(NEVER);
  for (let index = tasks.length - 1; index >= 0; index--) {
    const task = tasks[index] as Task;
    let distance = task.outputs.some((output) => loaded.has(output.storage)) ? 0 : NEVER;
    for (const next of consumers[index] ?? [])
      distance = Math.min(distance, (toWeights[next] as number) + (heights[index] as number) - (heights[next] as number));
    toWeights[index] = distance;
  }
  for (const [index, task] of tasks.entries()) {
    const output = task.outputs[0];
    const rows = output === undefined ? 1 : (plan.storages[output.storage]?.rows ?? 1);
    if ((toWeights[index] as number) > strategy.nearWeights) heights[index] = (heights[index] as number) - (strategy.stagger * (output?.row ?? 0)) / rows;
  }
  return { heights, consumers, waiting: producersOf.map((list) => list.length) };
};

/* ---------- trials ---------- */

/** Repeats a trial, later and later, until it fits. A trial returns 0, or by how many cycles to move at least. */
const slide = (s: Scheduler, from: number, trial: (at: number) => number): number => {
  let at = from;
  for (let tries = 0; ; tries++) {
    const delta = trial(at);
    if (delta === 0) {
      s.figure.commit();
      for (const action of s.onCommit) action();
      s.onCommit.length = 0;
      s.onAbort.length = 0;
      return at;
    }
    for (let i = s.onAbort.length - 1; i >= 0; i--) s.onAbort[i]?.();
    s.onAbort.length = 0;
    s.onCommit.length = 0;
    s.figure.clear();
    if (tries > 20_000)
      fail("LPU2001", {
        message: "no place in time for a task: SRAM rows or ports are exhausted",
        hint: "bind smaller dimensions, or choose a larger target",
      });
    at += delta;
  }
};

const NEVER = 1 << 28;

const instruction = (
  s: Scheduler,
  queue: number,
  cycle: number,
  op: TimedInstruction["op"],
  fields: TimedInstruction["fields"],
  origin: number,
  count = 1,
  step = 0,
  interval = 1,
  tap = 0,
): void => {
  const burst = count === 1 ? { interval: 1, step: 0 } : { interval, step };
  s.queues[queue]?.push({ cycle, op, fields, count, ...burst, tap, origin });
};

/** Stream numbers: eastward first. Inward is eastward in the west. */
const streamNumber = (target: Target, side: Side, inward: boolean, pair: number): number =>
  2 * pair + (inward === (side === 0) ? 0 : target.streams);

/**
 * Lowest free group of `width` stream pairs, or minus the delay until one is free. The top of the outward streams belongs to
 * weights alone: chains that all become ready at once would otherwise fill the streams and starve the arrays.
 */
type StreamUse = "inward" | "outward" | "weights";

const pickStreams = (
  s: Scheduler,
  lines: readonly Timeline[],
  width: number,
  diagonal: number,
  length: number,
  use: StreamUse,
  crossing?: readonly Timeline[],
): number => {
  let best = NEVER;
  const first = use === "weights" ? (lines.length - TILE_WAYS) / width : 0;
  const groups = Math.floor((use === "outward" ? lines.length - TILE_WAYS : lines.length) / width);
  for (let g = first; g < groups; g++) {
    const base = g * width;
    let at = diagonal;
    for (let i = 0; i < width && at === diagonal; i++) {
      at = s.figure.fit(lines[base + i] as Timeline, diagonal, length);
      if (crossing !== undefined && at === diagonal)
        at = s.figure.fit(crossing[base + i] as Timeline, diagonal, length);
    }
    if (at === diagonal) {
      for (let i = 0; i < width; i++) {
        s.figure.add(lines[base + i] as Timeline, diagonal, length);
        if (crossing !== undefined) s.figure.add(crossing[base + i] as Timeline, diagonal, length);
      }
      return base;
    }
    best = Math.min(best, at - diagonal);
  }
  return -best;
};

/* ---------- reading ---------- */

interface Piece {
  readonly chunk: Chunk;
  /** Vectors of the burst before this piece. */
  readonly offset: number;
  readonly row: number;
  readonly step: number;
  readonly count: number;
}

/** Cuts runs at the chunks that hold their rows. */
const piecesOf = (s: Scheduler, storage: number, panel: number, runs: readonly Run[]): Piece[] => {
  const chunks = s.chunks[storage]?.[panel] ?? [];
  const pieces: Piece[] = [];
  let offset = 0;
  for (const run of runs)
    for (let i = 0; i < run.count; ) {
      const row = run.row + i * run.step;
      const chunk = chunks.find((c) => c.row <= row && row < c.row + c.rows);
      invariant(chunk !== undefined, `row ${row} of ${s.plan.storages[storage]?.name} has been written`);
      let count = 1;
      if (run.step === 0) count = run.count - i;
      else
        while (i + count < run.count) {
          const next = row + count * run.step;
          if (next < chunk.row || next >= chunk.row + chunk.rows) break;
          count++;
        }
      pieces.push({ chunk, offset, row, step: count === 1 ? 0 : run.step, count });
      offset += count;
      i += count;
    }
  return pieces;
};

/** Delay that the readiness of the rows asks for, if the first vector is dispatched at `cycle` from a slice at position 0. */
const shortfall = (pieces: readonly Piece[], diagonal: number, memRead: number): number => {
  let worst = 0;
  for (const { chunk, offset, row, step, count } of pieces) {
    if (chunk.ready === 0) continue;
    // Copies lie at position 1 or further out, so this is on the safe side for inward and outward bursts alike.
    const first = chunk.ready + (row - chunk.row) - (diagonal + offset - memRead);
    const last = first + (count - 1) * (step - 1);
    worst = Math.max(worst, first, last);
  }
  return worst;
};

/**
 * Tries to read pieces so that vector i passes the VXM's position (really, or as if it flew on) at diagonal + i. Inward
 * dispatch is earlier by the slice's position, outward later. Returns 0 or a delay.
 */
const tryRead = (
  s: Scheduler,
  storage: Storage,
  panel: number,
  pieces: readonly Piece[],
  side: Side,
  inward: boolean,
  diagonal: number,
  stream: number,
  origin: number,
): number => {
  for (const piece of pieces) {
    const delta = tryReadPiece(s, storage, panel, piece, side, inward, diagonal + piece.offset, stream, origin);
    if (delta !== 0) return delta;
  }
  return 0;
};

const dispatchOf = (s: Scheduler, pair: Pair, inward: boolean, diagonal: number): number =>
  diagonal - s.target.timing.memRead + (inward ? -pair.position : pair.position);

const tryReadPiece = (
  s: Scheduler,
  storage: Storage,
  panel: number,
  piece: Piece,
  side: Side,
  inward: boolean,
  diagonal: number,
  stream: number,
  origin: number,
): number => {
  const half = s.halves[side];
  let best = NEVER;
  for (const copy of piece.chunk.copies) {
    if (copy.side !== side) continue;
    const bursts = burstsOf(copy, piece);
    const delta = tryPorts(s, half, bursts, piece, inward, diagonal);
    if (delta === 0) {
      bookRead(s, half, side, copy, bursts, inward, diagonal, stream, origin);
      return 0;
    }
    best = Math.min(best, delta);
  }
  if (storage.kind === "temp") return best;
  // A short constant may have several copies, so that bursts that read the same slices can still run together.
  const copies = piece.chunk.copies.filter((copy) => copy.side === side).length;
  if (copies > 0 && (storage.kind === "input" || storage.rows > SPARE_COPY_ROWS || copies >= SPARE_COPIES)) return best;
  return tryNewCopy(s, storage, panel, piece, side, inward, diagonal, stream, origin);
};

/** One burst of one slice pair: `delay` cycles after the first vector, every `interval` cycles. */
interface PairBurst {
  readonly pair: number;
  readonly address: number;
  readonly delay: number;
  readonly count: number;
  readonly interval: number;
  readonly step: number;
  /** Stream pairs above the first. */
  readonly stream: number;
}

type Place = Pick<Copy, "pairs" | "ways" | "address">;

/** The bursts that read a piece vector after vector. */
const burstsOf = ({ pairs, ways, address }: Place, piece: Piece): PairBurst[] => {
  const first = piece.row - piece.chunk.row;
  const { count, step } = piece;
  if (ways === 1) return pairs.map((pair, stream) => ({ pair, address: address + first, delay: 0, count, interval: 1, step, stream }));
  const at = (i: number): Pick<PairBurst, "pair" | "address"> => ({ pair: pairs[i % ways] as number, address: address + Math.floor(i / ways) });
  if (step % ways === 0) return [{ ...at(first), delay: 0, count, interval: 1, step: step / ways, stream: 0 }];
  if (step === 1)
    return Array.from({ length: Math.min(ways, count) }, (_, j) => ({ ...at(first + j), delay: j, count: Math.ceil((count - j) / ways), interval: ways, step: 1, stream: 0 }));
  return Array.from({ length: count }, (_, j) => ({ ...at(first + j * step), delay: j, count: 1, interval: 1, step: 0, stream: 0 }));
};

const spanOf = (burst: PairBurst): number => (burst.count - 1) * burst.interval + 1;

/** Whether the read ports are free for bursts whose first vector is on `diagonal`; 0 or a delay. */
const tryPorts = (s: Scheduler, half: Half, bursts: readonly PairBurst[], piece: Piece, inward: boolean, diagonal: number): number => {
  for (const burst of bursts) {
    const pair = half.pairs[burst.pair] as Pair;
    const bank = burst.address < s.target.rowsPerBank ? 0 : 1;
    const cycle = dispatchOf(s, pair, inward, diagonal) + burst.delay;
    // Nothing is dispatched before the barrier.
    if (cycle < s.target.timing.barrier) return s.target.timing.barrier - cycle;
    const early = piece.chunk.ready + (piece.row - piece.chunk.row) + Math.max(0, (piece.count - 1) * (piece.step - 1)) - (cycle - burst.delay);
    if (piece.chunk.ready > 0 && early > 0) return early;
    const span = spanOf(burst);
    const port = s.figure.fit(pair.read, cycle, span) - cycle;
    if (port > 0) return port;
    const conflict = s.figure.fit(pair.writeBank[bank], cycle, span) - cycle;
    if (conflict > 0) return conflict;
    if (!s.figure.free(pair.issue, cycle, 1)) return 1;
  }
  return 0;
};

const bookRead = (s: Scheduler, half: Half, side: Side, copy: Copy, bursts: readonly PairBurst[], inward: boolean, diagonal: number, stream: number, origin: number): void => {
  for (const burst of bursts) {
    const pair = half.pairs[burst.pair] as Pair;
    const cycle = dispatchOf(s, pair, inward, diagonal) + burst.delay;
    const span = spanOf(burst);
    s.figure.add(pair.read, cycle, span);
    s.figure.add(pair.readBank[burst.address < s.target.rowsPerBank ? 0 : 1], cycle, span);
    s.figure.add(pair.issue, cycle, 1);
    s.onCommit.push(() => {
      copy.lastRead = Math.max(copy.lastRead, cycle + span);
      for (const plane of [0, 1])
        instruction(
          s,
          memQueue(s.target, HEMISPHERES[side] as Hemisphere, 2 * burst.pair + plane),
          cycle,
          "read",
          { address: burst.address, stream: stream + 2 * burst.stream + plane },
          origin,
          burst.count,
          burst.step,
          burst.interval,
        );
    });
  }
};

/** Constants and inputs get their place at their first use in a hemisphere: where the read ports are free just then. */
const tryNewCopy = (
  s: Scheduler,
  storage: Storage,
  panel: number,
  piece: Piece,
  side: Side,
  inward: boolean,
  diagonal: number,
  stream: number,
  origin: number,
): number => {
  const half = s.halves[side];
  let best = NEVER;
  let room = false;
  for (const pairs of pairChoices(s, half, storage, rivalPairs(s, storage.id, panel, side))) {
    const memories = pairs.map((index) => (half.pairs[index] as Pair).memory);
    const address = findRows(s.target, memories, piece.chunk.rows, 0, "top");
    if (address < 0) continue;
    room = true;
    const bursts = burstsOf({ pairs, ways: 1, address }, piece);
    const delta = tryPorts(s, half, bursts, piece, inward, diagonal);
    if (delta !== 0) {
      best = Math.min(best, delta);
      continue;
    }
    const copy: Copy = { side, pairs, ways: 1, address, lastRead: 0 };
    hold(s, memories, address, piece.chunk.rows);
    piece.chunk.copies.push(copy);
    s.onAbort.push(() => piece.chunk.copies.splice(piece.chunk.copies.indexOf(copy), 1));
    if (storage.kind === "constant") s.onCommit.push(() => s.constants.addRows(storage, panel, piece.chunk, HEMISPHERES[side] as Hemisphere, copy));
    bookRead(s, half, side, copy, bursts, inward, diagonal, stream, origin);
    return 0;
  }
  if (!room) outOfMemory(s, storage.name);
  return best;
};

/** Pairs (f16) or couples of pairs (f32), in rotation so that work spreads over the slices; those that hold a rival last. */
const pairChoices = (s: Scheduler, half: Half, storage: Storage, rivals: ReadonlySet<number>): (readonly number[])[] => {
  const places = storage.dtype === "f16" ? half.singles : half.couples;
  const n = places.length;
  s.cursor = (s.cursor + 1) % half.pairs.length;
  const choices: (readonly number[])[] = [];
  const last: (readonly number[])[] = [];
  for (let i = 0; i < n; i++) {
    const place = places[(s.cursor + i * 5) % n] as readonly number[];
    // With many constants in one burst there may be no others left.
    if (rivals.size > 0 && place.some((pair) => rivals.has(pair))) last.push(place);
    else choices.push(place);
  }
  return last.length === 0 ? choices : [...choices, ...last];
};

/** Pairs of one hemisphere in which rows of a panel lie. */
const pairsOf = (s: Scheduler, storage: number, panel: number, side: Side): number[] =>
  (s.chunks[storage]?.[panel] ?? []).flatMap((chunk) => chunk.copies.flatMap((copy) => (copy.side === side ? copy.pairs : [])));

const hold = (s: Scheduler, memories: readonly PairMemory[], address: number, rows: number): void => {
  const saved = memories.map((memory) => memory.freeAt.slice(address, address + rows));
  const touched = memories.map((memory) => memory.touched);
  holdRows(memories, address, rows);
  s.onAbort.push(() => {
    for (const [i, memory] of memories.entries()) {
      memory.freeAt.set(saved[i] as Int32Array, address);
      memory.touched = touched[i] as number;
    }
  });
};

const outOfMemory = (s: Scheduler, name: string): never => {
  const used =
    s.halves.reduce((sum, half) => sum + half.pairs.reduce((rows, pair) => rows + pair.memory.touched, 0), 0) *
    2 *
    s.target.lanes;
  const total = 2 * s.target.slices * 2 * s.target.rowsPerBank * s.target.lanes;
  return fail("LPU2001", {
    message: `model needs more SRAM than target '${s.target.name}' has: ${mib(used)} of ${mib(total)} MiB are taken when '${name}' is placed`,
    hint: "bind a shorter sequence or a smaller batch, or use a smaller model",
  });
};

const mib = (bytes: number): string => (bytes / 1024 / 1024).toFixed(1);

/* ---------- weights ---------- */

/** A pass and the one that, most likely, computes while its weights load: neither's activations should lie with the weights. */
const neighbours = (task: Task, pass: Pass): Pass[] => {
  const index = task.passes.indexOf(pass);
  const before = task.passes[index === 0 ? task.passes.length - 1 : index - 1];
  return before === undefined ? [pass] : [pass, before];
};

/** Loads the weights of a pass as late as possible before the IW at `install`. Returns 0 or a delay. */
const tryWeights = (s: Scheduler, task: Task, pass: Pass, side: Side, install: number, origin: number): number => {
  const half = s.halves[side];
  const covered = s.figure.fit(half.buffer, install, 1) - install;
  if (covered > 0) return covered;
  const earliest = Math.max(lastEndBefore(half.buffer, install), s.target.timing.barrier);
  const { weights } = pass;
  return isTile(weights)
    ? tryTile(s, weights, neighbours(task, pass), side, earliest, install, origin)
    : tryLoads(s, weights, side, earliest, install, origin);
};

const tryTile = (
  s: Scheduler,
  tile: PackedTile,
  panels: readonly Pass[],
  side: Side,
  earliest: number,
  install: number,
  origin: number,
): number => {
  const { timing, mxm } = s.target;
  const half = s.halves[side];
  const executions = executionsOf(tile);
  const latest = install - timing.mxmLoad - executions + 1;
  if (latest < earliest) return earliest - latest;
  const known = s.tiles[side].get(tile.key);
  for (let start = latest, tries = 0; start >= earliest && tries < 40; tries++) {
    const diagonal = start + timing.mxmWeightSkew - mxm;
    const mark = s.figure.size;
    const streams = pickStreams(s, half.outward, TILE_WAYS, diagonal, executions, "weights");
    const place = streams < 0 ? undefined : (known ?? newTilePlace(s, tile, panels, side, executions, diagonal));
    if (place !== undefined) {
      let worst = 0;
      for (const [way, index] of place.pairs.entries()) {
        const pair = half.pairs[index] as Pair;
        const cycle = dispatchOf(s, pair, false, diagonal);
        const bank = (place.addresses[way] as number) < s.target.rowsPerBank ? 0 : 1;
        const back = Math.max(
          cycle - fitBefore(pair.read, cycle, executions),
          cycle - fitBefore(pair.writeBank[bank], cycle, executions),
          cycle - fitBefore(pair.issue, cycle, 1),
          s.figure.free(pair.read, cycle, executions) && s.figure.free(pair.issue, cycle, 1) ? 0 : 1,
          cycle < timing.barrier ? NEVER : 0,
        );
        worst = Math.max(worst, back);
      }
      if (worst === 0) {
        bookTile(s, tile, side, place, known === undefined, executions, diagonal, start, install, 2 * streams, origin);
        return 0;
      }
      s.figure.truncate(mark);
      start -= known === undefined ? 1 : worst;
      continue;
    }
    s.figure.truncate(mark);
    start -= 2;
  }
  return 2;
};

/** Pairs for a tile that is used for the first time in this hemisphere: those whose ports are free, the emptiest ones. */
const newTilePlace = (
  s: Scheduler,
  tile: PackedTile,
  panels: readonly Pass[],
  side: Side,
  executions: number,
  diagonal: number,
): TilePlace | undefined => {
  const half = s.halves[side];
  const pairs: number[] = [];
  const addresses: number[] = [];
  let room = 0;
  const busy = new Set(panels.flatMap((pass) => pairsOf(s, pass.storage, pass.panel, side)));
  const order = half.pairs
    .map((_, index) => index)
    .sort(
      (a, b) =>
        Number(busy.has(a)) - Number(busy.has(b)) ||
        (half.pairs[a] as Pair).memory.touched - (half.pairs[b] as Pair).memory.touched ||
        b - a,
    );
  for (const index of order) {
    const pair = half.pairs[index] as Pair;
    const address = findRows(s.target, [pair.memory], executions, 0, "top");
    if (address < 0) continue;
    room++;
    const cycle = dispatchOf(s, pair, false, diagonal);
    const bank = address < s.target.rowsPerBank ? 0 : 1;
    if (
      !s.figure.free(pair.read, cycle, executions) ||
      !s.figure.free(pair.writeBank[bank], cycle, executions) ||
      !s.figure.free(pair.issue, cycle, 1)
    )
      continue;
    pairs.push(index);
    addresses.push(address);
    if (pairs.length === TILE_WAYS) return { pairs, addresses };
  }
  if (room < TILE_WAYS) outOfMemory(s, tile.key.slice(0, 60));
  return undefined;
};

const bookTile = (
  s: Scheduler,
  tile: PackedTile,
  side: Side,
  place: TilePlace,
  isNew: boolean,
  executions: number,
  diagonal: number,
  start: number,
  install: number,
  stream: number,
  origin: number,
): void => {
  const half = s.halves[side];
  const hemisphere = HEMISPHERES[side] as Hemisphere;
  const base = stream + (side === 0 ? s.target.streams : 0);
  if (isNew) {
    for (const [way, index] of place.pairs.entries())
      hold(s, [(half.pairs[index] as Pair).memory], place.addresses[way] as number, executions);
    s.onCommit.push(() => {
      if (s.tiles[side === 0 ? 1 : 0].has(tile.key)) s.spareRows -= executions * TILE_WAYS;
      s.tiles[side].set(tile.key, place);
      s.constants.addTile(tile, hemisphere, place, executions, TILE_WAYS);
    });
  }
  for (const [way, index] of place.pairs.entries()) {
    const pair = half.pairs[index] as Pair;
    const cycle = dispatchOf(s, pair, false, diagonal);
    const address = place.addresses[way] as number;
    s.figure.add(pair.read, cycle, executions);
    s.figure.add(pair.readBank[address < s.target.rowsPerBank ? 0 : 1], cycle, executions);
    s.figure.add(pair.issue, cycle, 1);
    s.onCommit.push(() => {
      for (const plane of [0, 1])
        instruction(
          s,
          memQueue(s.target, hemisphere, 2 * index + plane),
          cycle,
          "read",
          { address, stream: base + 2 * way + plane },
          origin,
          executions,
          1,
        );
    });
  }
  s.figure.add(half.buffer, start, install + 1 - start);
  const queue = mxmQueue(s.target, hemisphere, 0, 0);
  s.onCommit.push(() => {
    instruction(
      s,
      queue,
      start,
      "lw",
      { stream: base, mode: 0, ways: TILE_WAYS, column: 0, first: 0, lanes: halfLanes(s.target), clear: 1 },
      origin,
      executions,
    );
    instruction(s, queue, install, "iw", {}, origin);
  });
};

/** Weights that are rows of storages, one burst after another: one column a cycle, or as many as the rows are interleaved. */
const tryLoads = (s: Scheduler, loads: Exclude<Pass["weights"], PackedTile>, side: Side, earliest: number, install: number, origin: number): number => {
  const { timing, mxm } = s.target;
  const half = s.halves[side];
  const bursts = loadBursts(s, loads, side);
  const total = bursts.reduce((sum, burst) => sum + burst.executions, 0);
  const width = Math.max(...bursts.map((burst) => burst.ways));
  let first = earliest;
  for (const burst of bursts) {
    const diagonal = earliest + burst.offset + timing.mxmWeightSkew - mxm;
    const late = burst.piece.chunk.ready + (burst.piece.row - burst.piece.chunk.row) + (burst.piece.count - burst.executions) - (diagonal - timing.memRead);
    if (burst.piece.chunk.ready > 0) first = Math.max(first, earliest + late);
  }
  const latest = install - timing.mxmLoad - total + 1;
  if (latest < first) return first - latest;
  for (let start = latest, tries = 0; start >= first && tries < 24; start -= 4, tries++) {
    const mark = s.figure.size;
    const commits = s.onCommit.length;
    const diagonal = start + timing.mxmWeightSkew - mxm;
    const streams = pickStreams(s, half.outward, width, diagonal, total, "weights");
    const base = streamNumber(s.target, side, false, streams);
    let delta = streams < 0 ? 1 : 0;
    for (const burst of bursts) if (delta === 0) delta = tryLoadRead(s, burst, side, diagonal + burst.offset, base, origin);
    if (delta === 0) {
      s.figure.add(half.buffer, start, install + 1 - start);
      const queue = mxmQueue(s.target, HEMISPHERES[side] as Hemisphere, 0, 0);
      s.onCommit.push(() => {
        for (const [i, { load, offset, ways, executions, column }] of bursts.entries())
          instruction(s, queue, start + offset, "lw", { stream: base, mode: 1 + load.half, ways, column, first: load.first, lanes: load.lanes, clear: i === 0 ? 1 : 0 }, origin, executions);
        instruction(s, queue, install, "iw", {}, origin);
      });
      return 0;
    }
    s.figure.truncate(mark);
    s.onCommit.length = commits;
  }
  return 4;
};

interface LoadBurst {
  readonly load: WeightLoad;
  readonly piece: Piece;
  readonly column: number;
  readonly ways: number;
  readonly executions: number;
  /** Cycles after the first load. */
  readonly offset: number;
}

const loadBursts = (s: Scheduler, loads: readonly WeightLoad[], side: Side): LoadBurst[] => {
  const bursts: LoadBurst[] = [];
  let offset = 0;
  for (const load of loads)
    for (const piece of piecesOf(s, load.storage, load.panel, [load.run])) {
      const { ways = 1 } = piece.chunk.copies.find((copy) => copy.side === side) ?? {};
      // Whole turns of the interleaving load together, what is left over one by one.
      const wide = piece.step === 1 && ways > 1 && (piece.row - piece.chunk.row) % ways === 0 ? piece.count - (piece.count % ways) : 0;
      const parts = [
        { skip: 0, count: wide, together: ways },
        { skip: wide, count: piece.count - wide, together: 1 },
      ];
      for (const { skip, count, together } of parts) {
        if (count === 0) continue;
        const executions = count / together;
        const part = { ...piece, row: piece.row + skip * piece.step, step: count === 1 ? 0 : piece.step, count };
        bursts.push({ load, piece: part, column: load.column + piece.offset + skip, ways: together, executions, offset });
        offset += executions;
      }
    }
  return bursts;
};

const tryLoadRead = (s: Scheduler, { load, piece, ways, executions }: LoadBurst, side: Side, diagonal: number, stream: number, origin: number): number => {
  const storage = s.plan.storages[load.storage] as Storage;
  if (ways === 1) return tryReadPiece(s, storage, load.panel, piece, side, false, diagonal, stream, origin);
  const half = s.halves[side];
  let best = NEVER;
  for (const copy of piece.chunk.copies) {
    if (copy.side !== side) continue;
    const address = copy.address + (piece.row - piece.chunk.row) / ways;
    const bursts = copy.pairs.map((pair, way): PairBurst => ({ pair, address, delay: 0, count: executions, interval: 1, step: 1, stream: way }));
    // Four rows a cycle are read while one a cycle was written: the last row is the one to wait for.
    const waited = { ...piece, step: 0, row: piece.row + piece.count - executions };
    const delta = tryPorts(s, half, bursts, waited, false, diagonal);
    if (delta === 0) {
      bookRead(s, half, side, copy, bursts, false, diagonal, stream, origin);
      return 0;
    }
    best = Math.min(best, delta);
  }
  return best;
};

/* ---------- passes ---------- */

const tryPass = (
  s: Scheduler,
  task: Task,
  pass: Pass,
  pieces: readonly Piece[],
  side: Side,
  at: number,
  accumulator: number,
  mode: 0 | 1,
  give: number,
): number => {
  const { timing, mxm } = s.target;
  const half = s.halves[side];
  const busy = s.figure.fit(half.array, at, task.rows) - at;
  if (busy > 0) return busy;
  const diagonal = at + timing.mxmActivationSkew - mxm;
  const late = shortfall(pieces, diagonal + 1, timing.memRead);
  if (late > 0) return late;
  s.figure.add(half.array, at, task.rows);
  const streams = pickStreams(s, half.outward, 1, diagonal, task.rows, "outward");
  if (streams < 0) return -streams;
  const stream = 2 * streams + (side === 0 ? s.target.streams : 0);
  const read = tryRead(
    s,
    s.plan.storages[pass.storage] as Storage,
    pass.panel,
    pieces,
    side,
    false,
    diagonal,
    stream,
    task.origin,
  );
  if (read !== 0) return read;
  const weights = tryWeights(s, task, pass, side, at - timing.mxmInstall, task.origin);
  if (weights !== 0) return weights;
  const hemisphere = HEMISPHERES[side] as Hemisphere;
  s.onCommit.push(() => {
    instruction(
      s,
      mxmQueue(s.target, hemisphere, 0, 1),
      at,
      "abc",
      { stream, mode: pass.half },
      task.origin,
      task.rows,
    );
    instruction(
      s,
      mxmQueue(s.target, hemisphere, 0, 2),
      at + timing.mxmMultiply,
      "acc",
      { row: accumulator, mode, give },
      task.origin,
      task.rows,
    );
  });
  return 0;
};

/* ---------- chains ---------- */

/** ALU operations with their cycles: dispatch is at S + offset, when the MXM result (or the chain's time zero) passes the VXM at S. */
interface TimedChain {
  readonly ops: readonly {
    readonly fn: AluFunction;
    readonly args: readonly Argument[];
    readonly offset: number;
    readonly chained: boolean;
  }[];
  /** Operation that takes each leaf. */
  readonly takes: readonly { readonly leaf: number; readonly op: number; readonly argument: number }[];
  /** Index of each of the task's operations among `ops`. */
  readonly index: readonly number[];
}

const timeChain = (s: Scheduler, task: Task): TimedChain => {
  const known = s.chains.get(task.ops);
  if (known !== undefined) return known;
  const { timing } = s.target;
  // A stream passes the VXM once: what is used twice enters through a copy.
  const uses = new Map<string, number>();
  const keyOf = (argument: Argument): string | undefined =>
    "leaf" in argument ? `leaf${argument.leaf}` : "mxm" in argument ? "mxm" : undefined;
  for (const op of task.ops)
    for (const argument of op.args) {
      const key = keyOf(argument);
      if (key !== undefined) uses.set(key, (uses.get(key) ?? 0) + 1);
    }
  const ops: { fn: AluFunction; args: Argument[] }[] = [];
  const copies = new Map<string, number>();
  for (const op of task.ops)
    for (const argument of op.args) {
      const key = keyOf(argument);
      if (key === undefined || (uses.get(key) ?? 0) < 2 || copies.has(key)) continue;
      copies.set(key, ops.length);
      ops.push({ fn: "copy", args: [argument] });
    }
  const shift = ops.length;
  for (const op of task.ops)
    ops.push({
      fn: op.fn,
      args: op.args.map((argument): Argument => {
        const copied = copies.get(keyOf(argument) ?? "");
        if (copied !== undefined) return { op: copied };
        return "op" in argument ? { op: argument.op + shift } : argument;
      }),
    });
  if (ops.length > s.target.alus)
    fail("LPU2001", {
      message: `a chain of ${ops.length} operations, target '${s.target.name}' has ${s.target.alus} ALUs`,
    });
  // What follows the MXM result is as soon as possible; what only feeds it is as late as possible.
  const depends = ops.map(() => false);
  for (const [i, op] of ops.entries())
    depends[i] = op.args.some((argument) => "mxm" in argument || ("op" in argument && depends[argument.op] === true));
  const free = !depends.includes(true);
  const offsets = ops.map(() => timing.vxmEntry);
  for (const [i, op] of ops.entries())
    if (free || depends[i])
      for (const argument of op.args)
        if ("op" in argument && (free || depends[argument.op]))
          offsets[i] = Math.max(offsets[i] as number, (offsets[argument.op] as number) + timing.vxmAlu);
  if (!free)
    for (let i = ops.length - 1; i >= 0; i--) {
      if (depends[i]) continue;
      let latest = NEVER;
      for (const [j, op] of ops.entries())
        if (op.args.some((argument) => "op" in argument && argument.op === i))
          latest = Math.min(latest, (offsets[j] as number) - timing.vxmAlu);
      offsets[i] = latest;
    }
  const used = new Set(ops.flatMap((op) => op.args.flatMap((argument) => ("op" in argument ? [argument.op] : []))));
  const takes = ops.flatMap((op, index) =>
    op.args.flatMap((argument, position) =>
      "leaf" in argument ? [{ leaf: argument.leaf, op: index, argument: position }] : [],
    ),
  );
  const chain: TimedChain = {
    ops: ops.map((op, index) => ({ ...op, offset: offsets[index] as number, chained: used.has(index) })),
    takes,
    index: task.ops.map((_, index) => index + shift),
  };
  s.chains.set(task.ops, chain);
  return chain;
};

/** Tries a chain whose time zero is S, and its reads and writes. `mxm` is the stream of the MXM result, or -1. */
const tryChain = (s: Scheduler, task: Task, at: number, mxm: number): number => {
  const { timing } = s.target;
  const chain = timeChain(s, task);
  const alus: number[] = [];
  for (const op of chain.ops) {
    const cycle = at + op.offset;
    if (cycle < timing.barrier) return timing.barrier - cycle;
    let best = NEVER;
    let chosen = -1;
    for (const [alu, line] of s.alus.entries()) {
      if (alus.includes(alu)) continue;
      const start = s.figure.fit(line, cycle, task.rows);
      if (start === cycle) {
        chosen = alu;
        break;
      }
      best = Math.min(best, start - cycle);
    }
    if (chosen < 0) return best;
    alus.push(chosen);
    s.figure.add(s.alus[chosen] as Timeline, cycle, task.rows);
  }
  const sources = new Map<string, { stream: number; type: string }>();
  for (const take of chain.takes) {
    const leaf = task.leaves[take.leaf] as Leaf;
    const arrival = at + (chain.ops[take.op]?.offset ?? 0) - timing.vxmEntry;
    const stream = tryLeaf(s, task, leaf, arrival);
    if (stream < 0) return -stream;
    sources.set(`${take.op}/${take.argument}`, { stream, type: s.plan.storages[leaf.storage]?.dtype ?? "f16" });
  }
  const gives = new Map<number, { streams: number[]; type: string }>();
  for (const output of task.outputs) {
    const op = chain.index[output.op] as number;
    const result = tryWrite(s, task, output, at + (chain.ops[op]?.offset ?? 0) + timing.vxmAlu);
    if (typeof result === "number") return result;
    invariant(!gives.has(op), "one operation feeds one output");
    gives.set(op, { streams: result, type: s.plan.storages[output.storage]?.dtype ?? "f16" });
  }
  s.onCommit.push(() => {
    for (const [index, op] of chain.ops.entries()) {
      const cycle = at + op.offset;
      const names = ["a", "b", "c"];
      const fields: Record<string, string | number | Source> = { function: op.fn };
      for (const [position, argument] of op.args.entries()) {
        const name = names[position] as string;
        const typeName = op.args.length === 1 ? "type" : `type${name.toUpperCase()}`;
        const taken = sources.get(`${index}/${position}`);
        fields[typeName] = taken?.type ?? "f32";
        if ("op" in argument) {
          const from = chain.ops[argument.op];
          invariant(from !== undefined, "operands come before");
          fields[name] = { alu: alus[argument.op] as number, age: op.offset - from.offset - timing.vxmAlu };
        } else if ("constant" in argument) fields[name] = { constant: argument.constant };
        else fields[name] = { stream: taken?.stream ?? mxm, tap: false };
      }
      const given = gives.get(index);
      fields["give"] = given?.streams[0] ?? -1;
      fields["give2"] = given?.streams[1] ?? -1;
      fields["as"] = given?.type ?? "f32";
      const kind = ALU_FUNCTIONS[op.fn].operands;
      instruction(
        s,
        vxmQueue(s.target, alus[index] as number),
        cycle,
        kind === 1 ? "unary" : kind === 2 ? "binary" : "ternary",
        fields,
        task.origin,
        task.rows,
      );
    }
  });
  return 0;
};

/** Brings a leaf's rows to the VXM at `arrival`. Returns its stream, or minus a delay. */
const tryLeaf = (s: Scheduler, task: Task, leaf: Leaf, arrival: number): number => {
  const { timing, sxm } = s.target;
  const storage = s.plan.storages[leaf.storage] as Storage;
  const width = storage.dtype === "f16" ? 1 : 2;
  const pieces = piecesOf(s, leaf.storage, leaf.panel, leaf.runs);
  const turn = leaf.map === undefined ? 0 : 2 * sxm + timing.sxmPermute;
  const diagonal = arrival - turn;
  const inward = leaf.map === undefined;
  let best = NEVER;
  const sides = sidesWith(s, storage, pieces);
  for (const side of sides) {
    const half = s.halves[side];
    const mark = s.figure.size;
    const commits = s.onCommit.length;
    const aborts = s.onAbort.length;
    const streams = pickStreams(s, half.inward, width, arrival, task.rows, "inward", half.crossing);
    if (streams < 0) {
      best = Math.min(best, -streams);
      continue;
    }
    const stream = streamNumber(s.target, side, true, streams);
    if (inward) {
      const delta = tryRead(s, storage, leaf.panel, pieces, side, true, diagonal, stream, task.origin);
      if (delta === 0) return stream;
      best = Math.min(best, delta);
    } else {
      const delta = tryTurn(s, task, leaf, storage, pieces, side, diagonal, width, stream);
      if (delta === 0) return stream;
      best = Math.min(best, delta);
    }
    for (let i = s.onAbort.length - 1; i >= aborts; i--) s.onAbort[i]?.();
    s.onAbort.length = aborts;
    s.figure.truncate(mark);
    s.onCommit.length = commits;
  }
  return -best;
};

/** Hemispheres from which all pieces can be read; where a constant has no copy yet, the less used one first. */
const sidesWith = (s: Scheduler, storage: Storage, pieces: readonly Piece[]): Side[] => {
  const has = ([0, 1] as const).filter((side) =>
    pieces.every((piece) => piece.chunk.copies.some((copy) => copy.side === side)),
  );
  if (has.length > 0 || storage.kind === "temp") return has;
  return s.cursor % 2 === 0 ? [0, 1] : [1, 0];
};

/** Out to the SXM, through a permutation, and back in. */
const tryTurn = (
  s: Scheduler,
  task: Task,
  leaf: Leaf,
  storage: Storage,
  pieces: readonly Piece[],
  side: Side,
  diagonal: number,
  width: number,
  give: number,
): number => {
  const { target } = s;
  const half = s.halves[side];
  const dispatch = diagonal + target.sxm;
  if (dispatch < target.timing.barrier) return target.timing.barrier - dispatch;
  let unit = -1;
  let best = NEVER;
  for (const [index, line] of half.sxm.entries()) {
    const start = s.figure.fit(line, dispatch, task.rows);
    if (start === dispatch) {
      unit = index;
      break;
    }
    best = Math.min(best, start - dispatch);
  }
  if (unit < 0) return best;
  s.figure.add(half.sxm[unit] as Timeline, dispatch, task.rows);
  const streams = pickStreams(s, half.outward, width, diagonal, task.rows, "outward");
  if (streams < 0) return -streams;
  const source = streamNumber(target, side, false, streams);
  const delta = tryRead(s, storage, leaf.panel, pieces, side, false, diagonal, source, task.origin);
  if (delta !== 0) return delta;
  s.onCommit.push(() =>
    instruction(
      s,
      sxmQueue(target, HEMISPHERES[side] as Hemisphere, unit),
      dispatch,
      "permute",
      { source, map: leaf.map ?? 0, type: storage.dtype, give },
      task.origin,
      task.rows,
    ),
  );
  return 0;
};

/* ---------- writing ---------- */

/** Stores a result that leaves the VXM at `given`; one stream for each hemisphere that needs it, or a delay. */
const tryWrite = (s: Scheduler, task: Task, output: TaskOutput, given: number): number[] | number => {
  const storage = s.plan.storages[output.storage] as Storage;
  const width = storage.dtype === "f16" ? 1 : 2;
  const chunks = s.chunks[output.storage]?.[output.panel];
  invariant(chunks !== undefined, "an output's panel exists");
  const fixed = storage.output ? chunks[0] : undefined;
  const sides = homesOf(storage);
  const wanted = sides.length;
  const streams: number[] = [];
  const copies: Copy[] = [];
  let latest = 0;
  let best = NEVER;
  for (const side of sides) {
    if (streams.length === wanted) break;
    const half = s.halves[side];
    const mark = s.figure.size;
    const base = pickStreams(s, half.outward, width, given, task.rows, "outward", s.halves[side === 0 ? 1 : 0].crossing);
    if (base < 0) {
      best = Math.min(best, -base);
      continue;
    }
    const own = fixed?.copies.find((copy) => copy.side === side);
    const stream = streamNumber(s.target, side, false, base);
    const written = tryWritePorts(s, task, output, storage, side, given, stream, own, undefined);
    if (typeof written === "number") {
      best = Math.min(best, written);
      s.figure.truncate(mark);
      continue;
    }
    // The vector flies past all slices of the hemisphere: a second one may keep it too, so that passes have a choice.
    const second = s.feeders.has(storage.id) ? tryWritePorts(s, task, output, storage, side, given, stream, undefined, written) : 0;
    const both = typeof second === "number" ? [written] : [written, second];
    for (const { copy, flight } of both) {
      // Each vector flies on behind a slice if the other copy's slice for it lies further out.
      for (const [way, position] of flight.positions.entries())
        flight.taps[way] = both.some((other) => (other.flight.positions[way] ?? 0) > position) ? 1 : 0;
      copies.push(copy);
    }
    const outermost = Math.max(...both.flatMap(({ flight }) => flight.positions));
    streams.push(stream);
    latest = Math.max(latest, given + outermost);
  }
  if (streams.length < wanted) return best;
  const ready = latest + s.target.timing.memWrite;
  s.onCommit.push(() => {
    // Rows of one piece (outputs) have as many chunks as blocks of rows were written, all in one place.
    const shifted = copies.map((copy) => (storage.output ? { ...copy, address: copy.address + output.row } : copy));
    chunks.push({ row: output.row, rows: task.rows, ready, copies: shifted });
  });
  return streams;
};

/** A copy that is being written: for each of its slice pairs the position, and whether vectors fly on behind it. */
interface Written {
  readonly copy: Copy;
  readonly flight: { readonly positions: readonly number[]; readonly taps: number[] };
}

/** `own`: the place that the storage has already. `other`: a copy of the same rows in this hemisphere, to be avoided. */
const tryWritePorts = (
  s: Scheduler,
  task: Task,
  output: TaskOutput,
  storage: Storage,
  side: Side,
  given: number,
  stream: number,
  own: Copy | undefined,
  other: Written | undefined,
): Written | number => {
  const half = s.halves[side];
  let best = NEVER;
  let room = false;
  const ways = s.interleaved.has(storage.id) && task.rows >= LOAD_WAYS ? LOAD_WAYS : 1;
  const rivals = own === undefined ? rivalPairs(s, storage.id, output.panel, side) : new Set<number>();
  const choices = own === undefined ? pairChoices(s, half, storage, rivals) : [own.pairs];
  const rows = Math.ceil(task.rows / ways);
  // All blocks of rows of a panel go to one pair, in turn to its two banks: one is written while another is read.
  const earlier = own === undefined && ways === 1 ? s.chunks[storage.id]?.[output.panel] ?? [] : [];
  const last = earlier[earlier.length - 1]?.copies.filter((copy) => copy.side === side && copy.ways === ways)[
    other === undefined ? 0 : 1
  ]?.pairs;
  const before = last?.some((pair) => rivals.has(pair)) ? undefined : last;
  const regions = earlier.length % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const);
  const groups = ways === 1 ? (before === undefined ? choices : [before, ...choices]) : waysOf(half, choices, ways);
  for (let choice = 0; choice < 2 * groups.length; choice++) {
    const pairs = groups[choice >> 1] as readonly number[];
    const region = regions[choice & 1] as 0 | 1;
    if (other?.copy.pairs.some((pair) => pairs.includes(pair))) continue;
    const memories = pairs.map((index) => (half.pairs[index] as Pair).memory);
    // Rows must be free from the first cycle in which any of the slices is written.
    const cycle = given + Math.min(...pairs.map((index) => (half.pairs[index] as Pair).position));
    const address = own?.address ?? findRows(s.target, memories, rows, cycle, region);
    if (address < 0) continue;
    room = true;
    const start = storage.output ? address + output.row : address;
    const piece: Piece = { chunk: { row: 0, rows: task.rows, ready: 0, copies: [] }, offset: 0, row: 0, step: 1, count: task.rows };
    const bursts = burstsOf({ pairs, ways, address: start }, piece);
    const bank = start < s.target.rowsPerBank ? 0 : 1;
    let delta = 0;
    for (const burst of bursts) {
      const pair = half.pairs[burst.pair] as Pair;
      const at = given + pair.position + burst.delay;
      const span = spanOf(burst);
      delta = Math.max(delta, s.figure.fit(pair.write, at, span) - at, s.figure.fit(pair.readBank[bank], at, span) - at, s.figure.free(pair.issue, at, 1) ? 0 : 1);
    }
    if (delta > 0) {
      best = Math.min(best, delta);
      continue;
    }
    if (own === undefined) hold(s, memories, address, rows);
    const flight = { positions: pairs.map((index) => (half.pairs[index] as Pair).position), taps: pairs.map(() => 0) };
    for (const burst of bursts) {
      const pair = half.pairs[burst.pair] as Pair;
      const at = given + pair.position + burst.delay;
      const span = spanOf(burst);
      s.figure.add(pair.write, at, span);
      s.figure.add(pair.writeBank[bank], at, span);
      s.figure.add(pair.issue, at, 1);
      s.onCommit.push(() => {
        for (const plane of [0, 1])
          instruction(
            s,
            memQueue(s.target, HEMISPHERES[side] as Hemisphere, 2 * burst.pair + plane),
            at,
            "write",
            { address: burst.address, stream: stream + 2 * burst.stream + plane },
            task.origin,
            burst.count,
            1,
            burst.interval,
            flight.taps[pairs.indexOf(burst.pair)],
          );
      });
    }
    return { copy: { side, pairs, ways, address, lastRead: given + Math.max(...flight.positions) + task.rows }, flight };
  }
  if (!room) return 64;
  return best;
};

/** Groups of `ways` different pairs, in the order of the choices. */
const waysOf = (half: Half, choices: readonly (readonly number[])[], ways: number): number[][] => {
  const flat = choices.flat();
  const groups: number[][] = [];
  for (let i = 0; i < flat.length; i += 2) groups.push(Array.from({ length: ways }, (_, way) => flat[(i + way) % flat.length] as number));
  return half.pairs.length < ways ? [] : groups;
};

/* ---------- tasks ---------- */

const place = (s: Scheduler, task: Task): void => {
  s.cursor++;
  if (task.passes.length === 0) {
    slide(s, s.target.timing.barrier, (at) => tryChain(s, task, at, -1));
    return;
  }
  const { timing, mxm } = s.target;
  const side = chooseSide(s, task);
  const half = s.halves[side];
  const blocks = Math.ceil(task.rows / ACCUMULATOR_BLOCK);
  let base = 0;
  let from = NEVER * 4;
  for (let i = 0; i + blocks <= half.accumulators.length; i++) {
    const free = Math.max(...half.accumulators.slice(i, i + blocks));
    if (free < from) {
      from = free;
      base = i;
    }
  }
  const row = base * ACCUMULATOR_BLOCK;
  let at = Math.max(s.target.timing.barrier + timing.mxmInstall, from - timing.mxmMultiply);
  const arrives = timing.mxmMultiply + timing.mxmAccumulate + mxm;
  for (const [index, pass] of task.passes.entries()) {
    const pieces = piecesOf(s, pass.storage, pass.panel, pass.runs);
    const last = index === task.passes.length - 1;
    const mode = index === 0 ? 0 : 1;
    at = slide(s, at, (start) => {
      if (!last) return tryPass(s, task, pass, pieces, side, start, row, mode, -1);
      const streams = pickStreams(s, half.inward, 2, start + arrives, task.rows, "inward", half.crossing);
      if (streams < 0) return -streams;
      const give = streamNumber(s.target, side, true, streams);
      const delta = tryPass(s, task, pass, pieces, side, start, row, mode, give);
      return delta !== 0 ? delta : tryChain(s, task, start + arrives, give);
    });
    at += task.rows;
  }
  for (let i = base; i < base + blocks; i++) half.accumulators[i] = at + timing.mxmMultiply;
};

/** The hemisphere whose array is free first, weighed against loading weights into a second one, for which there must be room. */
const chooseSide = (s: Scheduler, task: Task): Side => {
  const cost = ([0, 1] as const).map((side) => {
    const missing = task.passes.flatMap(({ weights }) =>
      isTile(weights) && !s.tiles[side].has(weights.key) && s.tiles[side === 0 ? 1 : 0].has(weights.key)
        ? [executionsOf(weights) * TILE_WAYS]
        : [],
    );
    const rows = missing.reduce((sum, n) => sum + n, 0);
    if (rows > 0 && rows > s.spareRows) return NEVER;
    return endOf(s.halves[side].array) + (missing.length * task.rows) / 2;
  });
  return (cost[1] as number) < (cost[0] as number) ? 1 : 0;
};

/** Rows that no later task reads are free after their last read. */
const release = (s: Scheduler, task: Task): void => {
  for (const id of readsOf(task)) {
    s.readers[id] = (s.readers[id] as number) - 1;
    const storage = s.plan.storages[id] as Storage;
    if (s.readers[id] !== 0 || storage.kind !== "temp" || storage.output) continue;
    for (const panel of s.chunks[id] ?? [])
      for (const chunk of panel)
        for (const copy of chunk.copies)
          releaseRows(
            copy.pairs.map((index) => (s.halves[copy.side].pairs[index] as Pair).memory),
            copy.address,
            Math.ceil(chunk.rows / copy.ways),
            copy.lastRead + s.target.timing.memWrite,
          );
  }
};

/* ---------- the program ---------- */

const finish = (s: Scheduler): Program => {
  const { plan, target } = s;
  const inputs = plan.inputs.map((binding) => bind(s, binding));
  const outputs = plan.outputs.map((binding) => bind(s, binding));
  let cycles = target.timing.barrier;
  const queues = s.queues.map((queue) => {
    const sorted = [...queue].sort((a, b) => a.cycle - b.cycle);
    for (const { cycle, op, count, interval } of sorted)
      cycles = Math.max(cycles, cycle + (count - 1) * interval + completionCycles(target, op));
    return sorted;
  });
  return {
    target,
    name: plan.name,
    chips: [{ queues, constants: s.constants.finish(), maps: plan.maps }],
    links: [],
    entries: [{ name: "main", inputs, outputs, cycles: [cycles] }],
    origins: plan.origins,
    macs: plan.macs,
  };
};

const bind = (s: Scheduler, binding: PlanBinding): Binding => {
  const { storage: id, factors, firstRow, ...rest } = binding;
  if (id < 0) return { ...rest, placements: [] };
  const storage = s.plan.storages[id] as Storage;
  const panels = s.chunks[id] ?? [];
  const used = ([0, 1] as const).filter((side) =>
    panels.some((chunks) => chunks[0]?.copies.some((copy) => copy.side === side)),
  );
  const sides = used.length > 0 ? used : ([0] as const);
  const placements = sides.map(
    (side): Placement => ({
      dtype: storage.dtype,
      factors,
      rows: storage.rows,
      columns: storage.panels * s.target.lanes,
      ways: 1,
      panels: panels.map((chunks): PanelPlace => {
        const copy = chunks[0]?.copies.find((c) => c.side === side) ?? spareCopy(s, storage, side);
        return {
          planes: copy.pairs.flatMap((pair) =>
            [0, 1].map((plane) => ({
              chip: 0,
              hemisphere: HEMISPHERES[side] as Hemisphere,
              slice: 2 * pair + plane,
              row: copy.address + firstRow,
            })),
          ),
        };
      }),
    }),
  );
  return { ...rest, placements };
};

/** A place for a panel of an input that nothing reads in this hemisphere. */
const spareCopy = (s: Scheduler, storage: Storage, side: Side): Copy => {
  const half = s.halves[side];
  for (const pairs of pairChoices(s, half, storage, new Set())) {
    const memories = pairs.map((index) => (half.pairs[index] as Pair).memory);
    const address = findRows(s.target, memories, storage.rows, 0, "top");
    if (address < 0) continue;
    holdRows(memories, address, storage.rows);
    return { side, pairs, ways: 1, address, lastRead: 0 };
  }
  return outOfMemory(s, storage.name);
};

/**
 * A proof that a Program is its Plan: what every burst takes and makes is what a task of the plan does.
 *
 * The plan's values have numbers (plan.ts). The program is followed from what lies in SRAM before cycle 0, write by
 * write: a write takes what an ALU gave, the ALU took what reads, arrays (arrays.ts) and permutations gave, a read found
 * what earlier writes left (rows.ts), all by the bursts alone. A burst whose computation has no number in the plan
 * takes a wrong row, one that was overwritten too early, another slice, panel or half, other weights, or does something else
 * with them. In the end the rows of every output hold the plan's values. Bursts are followed as a whole.
 */

import { at, fail, invariant } from "../../diagnostics.js";
import { isAluFunction, isStreamType, type Mnemonic, modeOf, mxmModeOf, type StreamType } from "../../ir/isa.js";
import { isAlikeInSuperlanes, type Plan, type PlanBinding, type Run, type Task } from "../../ir/plan.js";
import type { Queues, StateBinding } from "../../ir/program.js";
import { type Accumulations, accumulationsOf, type Installed } from "./arrays.js";
import { type Burst, type CheckedChip, raise } from "./burst.js";
import { boundOn, byteRows, planesIn, type RowsBefore, rowsBefore } from "./edges.js";
import { layersOf, type Repeated, repeatedWrites } from "./layers.js";
import { linkUses, type PlannedVector, plannedVectors } from "./links.js";
import { appendColumns, type PlanValues, planValues } from "./plan.js";
import type { Shortened } from "./repeat.js";
import { type Found, findRows, type RowsFound } from "./rows.js";
import { beginnings } from "./since.js";
import { type Flow, flowOf, type TakenPiece, piecesOf, type Taken } from "./streams.js";
import { append, type Columns, consecutive, joined, partOf, PLANES, UNKNOWN, type Values, ZEROS } from "./values.js";

/** A chip whose program is followed, and what is known of it by now. */
interface FollowedChip {
  /** Planes of writes that are not followed, since the program repeats itself. */
  readonly repeated: Repeated[];
  readonly chip: CheckedChip;
  readonly values: Values;
  readonly taken: Taken;
  readonly found: RowsFound;
  readonly before: RowsBefore;
  /** Bursts of each ALU by their first cycle. */
  readonly alus: readonly ReadonlyMap<number, Burst>[];
  readonly accumulations: Accumulations;
  readonly weights: Map<Installed, number>;
  /** By number of a burst that receives: planes that come in. */
  readonly received: ReadonlyMap<number, readonly Run[]>;
  /** By number of a burst: what it computes; UNKNOWN while that is being found out. */
  readonly computations: (number | undefined)[];
  /** By number of a memory burst: planes that it reads or writes. */
  readonly planes: (readonly Run[] | undefined)[];
}

/** Each chip is its plan; that what one plan sends is what another receives is proved in links.ts. */
export const checkMeaning = (plans: readonly Plan[], chips: readonly CheckedChip[], flows: readonly Taken[]): void => {
  invariant(plans.length === chips.length, "each chip has its plan");
  for (const [index, chip] of chips.entries()) {
    const plan = at(plans, index, "plan");
    const learned = planValues(plan, chip.target);
    const f = followedFrom(plan, learned, chip, at(flows, index, "chip"));
    for (const write of writesOf(chip)) writtenBy(f, write);
    checkSent(plan, learned, f);
    checkOutputs(plan, learned, f);
  }
};

/** The same of a program without some of its periods; false if it cannot be proved of it. */
export const meansRepeatedly = (
  plan: Plan,
  chip: CheckedChip,
  taken: Taken,
  short: Shortened,
  whole: Queues,
): boolean => {
  const layers = layersOf(plan);
  if (layers === undefined) return false;
  const learned = planValues(plan, chip.target, hasBurstsIn(chip));
  const f = followedFrom(plan, learned, chip, taken);
  const writes = writesOf(chip);
  let next = 0;
  const followTo = (end: number): void => {
    for (; next < writes.length && at(writes, next, "write").instruction.cycle < end; next++)
      writtenBy(f, at(writes, next, "write"));
  };
  const written = (write: Burst): readonly Run[] => writtenBy(f, write);
  const since = beginnings(f);
  for (const cut of short.cuts) {
    followTo(cut.cycle - cut.earlier);
    const repeated = repeatedWrites({ layers, learned, before: f.before, chip, cut, whole, writes, written, since });
    if (repeated === undefined) return false;
    f.repeated.push(repeated);
    while (next < writes.length && at(writes, next, "write").instruction.cycle < repeated.end) next++;
  }
  followTo(Number.POSITIVE_INFINITY);
  checkOutputs(plan, learned, f);
  return true;
};

/** Whether a task most likely has bursts in a program: some have its origins. Of one that has, but not by these, nothing is proved. */
const hasBurstsIn = ({ queues }: CheckedChip): ((task: Task) => boolean) => {
  const origins = new Set(queues.flatMap((queue) => queue.map(({ instruction: { origin } }) => origin)));
  return ({ origin, passOrigin = origin, ops }) =>
    origins.has(origin) || origins.has(passOrigin) || ops.some((op) => origins.has(op.origin ?? origin));
};

/** In order of cycles, so that what a write depends on has been followed before, and the way back is short. */
const writesOf = ({ queues }: CheckedChip): Burst[] =>
  queues
    .flat()
    .filter(({ instruction }) => instruction.op === "write")
    .sort((a, b) => a.instruction.cycle - b.instruction.cycle);

const followedFrom = (plan: Plan, learned: PlanValues, chip: CheckedChip, taken: Taken): FollowedChip => {
  const { target, queues } = chip;
  const followed: FollowedChip = {
    repeated: [],
    chip,
    values: learned.values,
    taken,
    found: findRows(chip),
    before: rowsBefore(plan, learned, chip),
    alus: queues
      .slice(2 * target.slices, 2 * target.slices + target.alus)
      .map((queue) => new Map(queue.map((burst) => [burst.instruction.cycle, burst]))),
    accumulations: accumulationsOf(chip),
    weights: new Map(),
    received: receivedBy(plan, learned, chip),
    computations: new Array(chip.bursts),
    planes: new Array(chip.bursts),
  };
  checkMaps(plan, chip);
  return followed;
};

/** Maps of later entries stand behind those that the plan knows. */
const checkMaps = ({ maps }: Plan, { chip }: CheckedChip): void => {
  const same = maps.every((map, index) => map.join() === chip.maps[index]?.join());
  if (!same) fail("LPU2224", { message: "expected the lane maps of the plan, found others" });
};

/* ---------- memory ---------- */

/** Planes that a burst writes. */
const writtenBy = (f: FollowedChip, burst: Burst): readonly Run[] => {
  const planes = f.planes[burst.number] ?? repeatedBy(f, burst) ?? planesTaken(f, operandFlow(f, burst, "stream"), 0);
  f.planes[burst.number] = planes;
  return planes;
};

const repeatedBy = ({ repeated }: FollowedChip, burst: Burst): readonly Run[] | undefined => {
  for (const { written } of repeated) {
    const planes = written(burst);
    if (planes !== undefined) return planes;
  }
  return undefined;
};

/** Planes that a burst reads. */
const readBy = (f: FollowedChip, burst: Burst): readonly Run[] => {
  const planes = f.planes[burst.number] ?? planesFound(f, burst.queue, f.found.read(burst));
  f.planes[burst.number] = planes;
  return planes;
};

const planesFound = (f: FollowedChip, queue: number, pieces: readonly Found[]): readonly Run[] => {
  const first = queue * 2 * f.chip.target.rowsPerBank;
  return joined(
    pieces.map(({ write, from, step, count }) =>
      write === undefined
        ? planesIn(f.before, first + from, step, count)
        : partOf(writtenBy(f, write), from, step, count),
    ),
  );
};

/* ---------- streams ---------- */

const operandFlow = (f: FollowedChip, burst: Burst, field: string): Flow =>
  flowOf(f.taken, burst, field) ?? refuse(f, burst, `expected operand '${field}' from a stream`);

/** Planes that an operand takes from one of its streams. */
const planesTaken = (f: FollowedChip, flow: Flow, index: number): readonly Run[] => {
  const pieces = piecesOf(f.taken, flow, index);
  const [only] = pieces;
  const stream = flow.stream + index;
  if (pieces.length === 1 && only !== undefined) return planesGiven(f, only, stream);
  return joined(pieces.map((piece) => planesGiven(f, piece, stream)));
};

const planesGiven = (f: FollowedChip, { giver, from, step, count }: TakenPiece, stream: number): readonly Run[] => {
  if (giver.burst.instruction.op === "read") return partOf(readBy(f, giver.burst), from, step, count);
  if (giver.burst.instruction.op === "receive") return partOf(arrivedBy(f, giver.burst), from, step, count);
  const row = givenBy(f, giver.burst) + PLANES * from + stream - giver.stream;
  return [{ row, step: count === 1 ? 0 : PLANES * step, count }];
};

/** Vectors that an operand takes from `bytes` of its streams, from the first of them on. */
const vectorsTaken = (f: FollowedChip, flow: Flow, first: number, bytes: number): readonly Run[] => {
  const vectors = planesTaken(f, flow, first);
  for (const { row, step } of vectors)
    if (row % PLANES !== 0 || step % PLANES !== 0)
      refuse(f, flow.burst, `operand '${flow.field}': expected vectors from their first byte on, found other bytes`);
  for (let byte = 1; byte < bytes; byte++)
    if (!isByte(planesTaken(f, flow, first + byte), vectors, byte))
      refuse(f, flow.burst, `operand '${flow.field}': expected the bytes of one vector on its streams, found others`);
  return vectors;
};

const isByte = (planes: readonly Run[], vectors: readonly Run[], byte: number): boolean =>
  planes.length === vectors.length &&
  planes.every(({ row, step, count }, at) => {
    const run = vectors[at];
    return run !== undefined && row === run.row + byte && step === run.step && count === run.count;
  });

/* ---------- computations ---------- */

/** First of the vectors that a burst gives. */
const givenBy = (f: FollowedChip, burst: Burst): number => {
  const { op, fields, count } = burst.instruction;
  const type = op === "acc" ? "f32" : typeIn(f, burst, op === "permute" || op === "distribute" ? "type" : "as");
  const first = f.values.results(computedBy(f, burst), type, count);
  if (first === UNKNOWN)
    refuse(f, burst, `expected a result that some task stores or permutes, found one given as ${fields["as"] ?? type}`);
  return first;
};

const computedBy = (f: FollowedChip, burst: Burst): number => {
  const { computations } = f;
  const known = computations[burst.number];
  if (known === UNKNOWN)
    refuse(f, burst, "expected operands that are there before the result, found ones that follow from it");
  if (known !== undefined) return known;
  computations[burst.number] = UNKNOWN;
  const { op } = burst.instruction;
  const compute = COMPUTED[op] ?? refuse(f, burst, "expected an instruction that tasks are made of");
  const computation = compute(f, burst);
  computations[burst.number] = computation;
  return computation;
};

const OPERANDS = {
  unary: [["a", "type"]],
  binary: [
    ["a", "typeA"],
    ["b", "typeB"],
  ],
  ternary: [
    ["a", "typeA"],
    ["b", "typeB"],
    ["c", "typeC"],
  ],
} as const;

const applied = (f: FollowedChip, burst: Burst): number => {
  const { op, fields } = burst.instruction;
  const fn = fields["function"];
  if ((op !== "unary" && op !== "binary" && op !== "ternary") || typeof fn !== "string" || !isAluFunction(fn))
    return refuse(f, burst, "expected an ALU function");
  const args = OPERANDS[op].map(([name, type]) => operand(f, burst, name, type));
  const result = f.values.applied(fn, args);
  return result === UNKNOWN
    ? refuse(f, burst, `expected operands to which a task applies '${fn}', found others`)
    : result;
};

const operand = (f: FollowedChip, burst: Burst, name: string, typeName: string): number => {
  const source = burst.instruction.fields[name];
  if (typeof source !== "object") return refuse(f, burst, `expected an operand '${name}'`);
  if ("constant" in source) return f.values.constant(source.constant);
  if ("alu" in source) {
    const { cycle, count, interval } = burst.instruction;
    const giver = f.alus[source.alu]?.get(cycle - f.chip.target.timing.vxmAlu - source.age);
    if (giver?.instruction.count !== count || giver.instruction.interval !== interval)
      return refuse(f, burst, `operand '${name}': expected the results of one whole burst`);
    return computedBy(f, giver);
  }
  const flow = operandFlow(f, burst, name);
  const type = typeIn(f, burst, typeName);
  const vectors = vectorsTaken(f, flow, 0, flow.width);
  const number = f.values.taken(type, vectors);
  return number === UNKNOWN ? mistaken(f, burst, name, vectors, `that some task takes as ${type}`) : number;
};

const permuted = (f: FollowedChip, burst: Burst): number => {
  const flow = operandFlow(f, burst, "source");
  const vectors = vectorsTaken(f, flow, 0, flow.width);
  const number = f.values.permuted(Number(burst.instruction.fields["map"]), typeIn(f, burst, "type"), vectors);
  return number === UNKNOWN ? mistaken(f, burst, "source", vectors, "that some task permutes so") : number;
};

/** What a map of all lanes does, if it does the same in each superlane. */
const distributed = (f: FollowedChip, burst: Burst): number => {
  const map = Number(burst.instruction.fields["map"]);
  const { chip, target } = f.chip;
  return isAlikeInSuperlanes(at(chip.maps, map, "map"), target.superlane)
    ? permuted(f, burst)
    : refuse(f, burst, `expected a map that does the same in each superlane, found lane map ${map}`);
};

const summed = (f: FollowedChip, burst: Burst): number => {
  const { before, product, weights } =
    f.accumulations[burst.number] ?? refuse(f, burst, "expected the products of one whole burst and its own sums");
  const flow = operandFlow(f, product, "stream");
  const vectors = vectorsTaken(f, flow, 0, flow.width);
  const number = f.values.product(installed(f, weights), Number(product.instruction.fields["mode"]), vectors);
  if (number === UNKNOWN)
    mistaken(
      f,
      product,
      "stream",
      vectors,
      `that some pass multiplies by these weights, ${modeOf(product.instruction)} half`,
    );
  const sum = f.values.sum(before === undefined ? undefined : computedBy(f, before), number);
  return sum === UNKNOWN
    ? refuse(f, burst, "expected products that some task adds up in this order, found others")
    : sum;
};

const COMPUTED: Readonly<Partial<Record<Mnemonic, (f: FollowedChip, burst: Burst) => number>>> = {
  unary: applied,
  binary: applied,
  ternary: applied,
  permute: permuted,
  distribute: distributed,
  acc: summed,
};

const installed = (f: FollowedChip, weights: Installed): number => {
  const known = f.weights.get(weights);
  if (known !== undefined) return known;
  const columns: Columns[] = [];
  for (const load of weights.loads) loadColumns(f, load, columns);
  const number = f.values.weights(columns);
  const [load] = weights.loads;
  if (number === UNKNOWN && load !== undefined) {
    const all = columns.flatMap(({ vectors }) => vectors);
    mistaken(f, load, "stream", all, "that some pass has as its weights");
  }
  f.weights.set(weights, number);
  return number;
};

/** Columns that a burst loads; what is zero was cleared before. */
const loadColumns = (f: FollowedChip, burst: Burst, columns: Columns[]): void => {
  const { fields, count } = burst.instruction;
  const [ways, column, first, lanes] = ["ways", "column", "first", "lanes"].map((name) => Number(fields[name])) as [
    number,
    number,
    number,
    number,
  ];
  const mode = mxmModeOf(burst.instruction) ?? refuse(f, burst, "expected a mode of weights");
  if (mode.array !== "f16" || (Number(fields["clear"]) === 1) !== (columns.length === 0))
    refuse(f, burst, "expected fp16 weights of a buffer that is cleared once");
  const { type } = mode;
  const half = mode.parts.length > 1 ? "both" : mode.parts[0] === 1 ? 1 : 0;
  const flow = operandFlow(f, burst, "stream");
  const bytes = flow.width / ways;
  const byWay = Array.from({ length: ways }, (_, way) => vectorsTaken(f, flow, way * bytes, bytes));
  const [start] = at(byWay, 0, "way");
  const turns =
    start !== undefined &&
    byWay.every(
      ([run], way) =>
        run?.count === count &&
        run.row === start.row + PLANES * way &&
        run.step === (count === 1 ? 0 : PLANES * ways) &&
        run.row > ZEROS,
    );
  if (turns) {
    const vectors = consecutive(start.row, count * ways);
    appendColumns(columns, { type, column, half, first, lanes, vectors });
    return;
  }
  for (let execution = 0; execution < count; execution++)
    for (const [way, runs] of byWay.entries()) {
      const vectors = partOf(runs, execution, 0, 1);
      const at = column + (execution * ways + way) * (half === "both" ? 2 : 1);
      if (vectors[0]?.row !== ZEROS) appendColumns(columns, { type, column: at, half, first, lanes, vectors });
    }
};

/* ---------- links ---------- */

const arrivedBy = (f: FollowedChip, burst: Burst): readonly Run[] =>
  f.received.get(burst.number) ?? refuse(f, burst, "expected to receive what the plan receives, found more");

/** The number of a plane that a plan brings to a link, or takes from one. */
const planeOf = ({ rows }: PlanValues, { storage, panel, row, byte }: PlannedVector): number =>
  (rows[storage]?.[panel]?.[row] ?? UNKNOWN) + byte;

/** By number of a burst: planes that it receives, by the plan, if it receives no more than the plan does. */
const receivedBy = (plan: Plan, learned: PlanValues, chip: CheckedChip): ReadonlyMap<number, readonly Run[]> => {
  const planned = plannedVectors(plan, chip.target, "receive");
  const received = new Map<number, Run[]>();
  for (const [link, uses] of linkUses(chip, "receive"))
    for (const [at, { burst }] of uses.entries()) {
      const vector = planned.get(link)?.[at];
      if (vector === undefined) continue;
      const planes = received.get(burst.number) ?? [];
      received.set(burst.number, planes);
      append(planes, { row: planeOf(learned, vector), step: 0, count: 1 });
    }
  return received;
};

/** On every link goes out what the plan sends on it, in its order, and nothing else. */
const checkSent = (plan: Plan, learned: PlanValues, f: FollowedChip): void => {
  const planned = plannedVectors(plan, f.chip.target, "send");
  const uses = linkUses(f.chip, "send");
  for (const [link, vectors] of planned)
    if ((uses.get(link)?.length ?? 0) < vectors.length)
      fail("LPU2224", {
        message: `link ${link}: expected ${vectors.length} vectors, found ${uses.get(link)?.length ?? 0}`,
      });
  for (const [link, own] of uses)
    for (const [at, { burst, execution }] of own.entries()) {
      const vector = planned.get(link)?.[at] ?? refuse(f, burst, "expected to send what the plan sends, found more");
      const [plane] = partOf(planesTaken(f, operandFlow(f, burst, "stream"), 0), execution, 1, 1);
      if (plane?.row !== planeOf(learned, vector))
        refuse(
          f,
          burst,
          `expected to send byte ${vector.byte} of row ${vector.row} of '${vector.name}', found ${f.values.describe([plane ?? { row: UNKNOWN, step: 0, count: 1 }])}`,
        );
    }
};

/* ---------- outputs ---------- */

/** What the host finds, and what the next run finds of states, is what the plan says. */
const checkOutputs = (plan: Plan, values: PlanValues, f: FollowedChip): void => {
  const { entry, states } = f.chip.program;
  checkLeft(values, f, "output", boundOn(entry.outputs, f.chip), plan.outputs);
  checkLeft(
    values,
    f,
    "state",
    boundOn(states, f.chip),
    plan.states.map((state) => ({ ...state, storage: state.next })),
  );
};

const checkLeft = (
  { rows }: PlanValues,
  f: FollowedChip,
  kind: "output" | "state",
  found: readonly StateBinding[],
  bound: readonly Omit<PlanBinding, "lookup">[],
): void => {
  for (const [index, output] of found.entries()) {
    const { storage, firstRow = 0 } = at(bound, index, kind);
    const numbers = at(rows, storage, "storage");
    for (const { queue, panel, way, ways, byte, row, count } of byteRows(f.chip, output)) {
      const planes = planesFound(f, queue, f.found.atEnd(queue, row, count));
      for (let i = 0; i < count; i++) {
        const of = numbers[panel]?.[firstRow + way + i * ways] ?? UNKNOWN;
        if (of === UNKNOWN) continue;
        const [plane] = partOf(planes, i, 0, 1);
        if (plane?.row !== of + byte)
          fail("LPU2224", {
            message: `${kind} '${output.name}': expected ${f.values.describe([{ row: of, step: 0, count: 1 }])} in its row, found ${f.values.describe([{ row: plane?.row ?? UNKNOWN, step: 0, count: 1 }])}`,
          });
      }
    }
  }
};

/* ---------- reports ---------- */

const typeIn = (f: FollowedChip, burst: Burst, field: string): StreamType => {
  const type = burst.instruction.fields[field];
  return typeof type === "string" && isStreamType(type) ? type : refuse(f, burst, `expected a type in '${field}'`);
};

const mistaken = (f: FollowedChip, burst: Burst, field: string, vectors: readonly Run[], which: string): never =>
  refuse(f, burst, `operand '${field}': expected vectors ${which}, found ${f.values.describe(vectors)}`);

const refuse = (f: FollowedChip, burst: Burst, message: string): never =>
  raise(f.chip, "LPU2224", burst, burst.instruction.cycle, message);

/**
 * What fits in no cycle, divided: a plan whose tasks ask for less at once, and compute the same to the bit.
 *
 * A chain is cut at one of its operations, whose fp32 results are stored and read again, so that each part reads fewer
 * operands; where no cut helps, a block of rows becomes two. A divided plan is a plan like any other: it is scheduled anew, and
 * what is checked is that the program is this plan.
 */

import { at } from "../../diagnostics.js";
import { ALU_FUNCTIONS, ARRAYS, STREAM_TYPES } from "../../ir/isa.js";
import { LARGEST_F32 } from "../../ir/numerics.js";
import type { AluOp, Argument, Leaf, Pass, Plan, Run, Storage, StorageId, Task } from "../../ir/plan.js";
import { bounded } from "../../ir/ranges.js";
import { taskAt } from "./figures.js";

/** Bytes of an fp32 sum or result. */
const SUM_BYTES = STREAM_TYPES[ARRAYS.f16.sums].bytes;

/**
 * A plan in which a task reads fewer operands or has fewer rows, and so have all that ask for as many operands, or write the
 * same storage; undefined if the task cannot be divided.
 */
export const dividedPlan = (plan: Plan, index: number): Plan | undefined => {
  const task = taskAt(plan, index);
  const least = operandBytes(plan, task);
  const cuts = new Map(
    plan.tasks.flatMap((other) => {
      const cut = operandBytes(plan, other) < least ? undefined : cutOf(plan, other);
      return cut === undefined ? [] : [[other, cut] as const];
    }),
  );
  if (cuts.has(task)) return withCuts(plan, cuts);
  if (task.rows === 1) return undefined;
  const written = task.outputs[0]?.storage;
  const tasks = plan.tasks.flatMap((other) =>
    other.rows > 1 && other.outputs[0]?.storage === written ? halvesOf(other) : [other],
  );
  return { ...plan, tasks };
};

/** Bytes of a vector's elements that come to a task's chain at once, from SRAM and from the MXM. */
const operandBytes = (plan: Plan, task: Task): number => bytesOf(plan, task, task.ops);

const bytesOf = (plan: Plan, { leaves }: Task, ops: readonly AluOp[]): number => {
  const arguments_ = ops.flatMap(({ args }) => args);
  const read = new Set(arguments_.flatMap((argument) => ("leaf" in argument ? [argument.leaf] : [])));
  const sums = new Set(arguments_.flatMap((argument) => ("mxm" in argument ? [argument.map ?? -1] : [])));
  let bytes = sums.size * SUM_BYTES;
  for (const leaf of read)
    bytes += STREAM_TYPES[at(plan.storages, at(leaves, leaf, "leaf").storage, "storage").dtype].bytes;
  return bytes;
};

/* ---------- cuts ---------- */

/** A chain in two: operations by their numbers in the chain, each part in order; the last of the first is the one that is stored. */
interface Cut {
  readonly first: readonly number[];
  readonly second: readonly number[];
}

/** The cut after which the larger part asks for least; undefined if that is not less than now, or sums would be made twice. */
const cutOf = (plan: Plan, task: Task): Cut | undefined => {
  const { ops, outputs } = task;
  const last = outputs[0]?.op;
  if (outputs.length !== 1 || last === undefined) return undefined;
  let best: Cut | undefined;
  let least = operandBytes(plan, task);
  for (const [at, { fn }] of ops.entries()) {
    // The result of integers is no fp32 number.
    if (at === last || ALU_FUNCTIONS[fn].int) continue;
    const cut = { first: neededFor(ops, at, -1), second: neededFor(ops, last, at) };
    const parts = [cut.first, cut.second].map((part) => part.map((op) => ops[op] as AluOp));
    if (parts.every(takesSums)) continue;
    const [before = 0, after = 0] = parts.map((part) => bytesOf(plan, task, part));
    const more = Math.max(before, after + SUM_BYTES);
    if (more >= least) continue;
    least = more;
    best = cut;
  }
  return best;
};

const takesSums = (ops: readonly AluOp[]): boolean =>
  ops.some(({ args }) => args.some((argument) => "mxm" in argument));

/** Operations, in order, of which one is made, itself the last, if `given` is there already. */
const neededFor = (ops: readonly AluOp[], last: number, given: number): number[] => {
  const needed = new Set([last]);
  for (let op = last; op >= 0; op--)
    if (needed.has(op))
      for (const argument of at(ops, op, "operation").args)
        if ("op" in argument && argument.op !== given) needed.add(argument.op);
  return [...needed].sort((a, b) => a - b);
};

/** The plan with some tasks cut; each storage that a cut task writes gets one of fp32 before it, for what is stored between. */
const withCuts = (plan: Plan, cuts: ReadonlyMap<Task, Cut>): Plan => {
  const cutStorages = new Set([...cuts.keys()].flatMap(({ outputs }) => outputs.map(({ storage }) => storage)));
  const numbers = new Map<StorageId, StorageId>();
  const storages: Storage[] = [];
  for (const storage of plan.storages) {
    if (cutStorages.has(storage.id)) {
      const { name, rows, panels, lanes } = storage;
      const columns = lanes?.columns;
      const between = {
        name,
        dtype: "f32",
        rows,
        panels,
        kind: "temp",
        bothHemispheres: false,
        output: false,
        // Its elements are where those of the result are.
        ...(columns === undefined ? {} : { lanes: { values: bounded(-LARGEST_F32, LARGEST_F32), columns } }),
      } as const;
      storages.push({ ...between, id: storages.length });
    }
    numbers.set(storage.id, storages.length);
    storages.push({ ...storage, id: storages.length });
  }
  const renumber = (id: StorageId): StorageId => numbers.get(id) ?? id;
  // Tasks that share their operations go on sharing them.
  const chains = new Map<readonly AluOp[], CutChain>();
  const tasks = plan.tasks.flatMap((task) => {
    const moved = renumbered(task, renumber);
    const cut = cuts.get(task);
    if (cut === undefined) return [moved];
    const chain = chains.get(task.ops) ?? cutChain(task, cut);
    chains.set(task.ops, chain);
    return cutTask(moved, chain);
  });
  const bound = (bindings: Plan["inputs"]): Plan["inputs"] =>
    bindings.map((binding) => ({ ...binding, storage: renumber(binding.storage) }));
  const states = plan.states.map((state) => ({
    ...state,
    storage: renumber(state.storage),
    next: renumber(state.next),
  }));
  return { ...plan, storages, tasks, inputs: bound(plan.inputs), outputs: bound(plan.outputs), states };
};

const renumbered = (task: Task, renumber: (id: StorageId) => StorageId): Task => {
  const move = <T extends { readonly storage: StorageId }>(part: T): T => ({
    ...part,
    storage: renumber(part.storage),
  });
  return {
    ...task,
    passes: task.passes.map((pass): Pass => {
      const { weights } = move(pass);
      return { ...move(pass), weights: "key" in weights ? weights : weights.map(move) };
    }),
    leaves: task.leaves.map(move),
    outputs: task.outputs.map(move),
  };
};

/** The operations of both parts, and the leaves, by number, that each reads; the second also reads what is between as its last. */
interface CutChain {
  readonly first: ChainPart;
  readonly second: ChainPart;
}

interface ChainPart {
  readonly ops: readonly AluOp[];
  readonly leaves: readonly number[];
}

const cutChain = ({ ops }: Task, { first, second }: Cut): CutChain => ({
  first: partOf(ops, first, -1),
  second: partOf(ops, second, first.at(-1) ?? -1),
});

const partOf = (ops: readonly AluOp[], part: readonly number[], given: number): ChainPart => {
  const taken = part.flatMap((op) => at(ops, op, "operation").args);
  const leaves = [...new Set(taken.flatMap((argument) => ("leaf" in argument ? [argument.leaf] : [])))];
  const moved = (argument: Argument): Argument => {
    if ("leaf" in argument) return { ...argument, leaf: leaves.indexOf(argument.leaf) };
    if (!("op" in argument)) return argument;
    return argument.op === given ? { leaf: leaves.length } : { op: part.indexOf(argument.op) };
  };
  return {
    ops: part.map((op): AluOp => ({ ...(ops[op] as AluOp), args: (ops[op] as AluOp).args.map(moved) })),
    leaves,
  };
};

const cutTask = (task: Task, { first, second }: CutChain): Task[] => {
  const [output] = task.outputs;
  if (output === undefined) return [task];
  const { panel, row } = output;
  const between = output.storage - 1;
  const leavesOf = (part: ChainPart): Leaf[] => part.leaves.map((leaf) => at(task.leaves, leaf, "leaf"));
  const passesOf = (part: ChainPart): readonly Pass[] => (takesSums(part.ops) ? task.passes : []);
  const read: Leaf = { storage: between, panel, runs: [{ row, step: task.rows === 1 ? 0 : 1, count: task.rows }] };
  return [
    {
      ...task,
      passes: passesOf(first),
      ops: first.ops,
      leaves: leavesOf(first),
      outputs: [{ op: first.ops.length - 1, storage: between, panel, row }],
    },
    {
      ...task,
      passes: passesOf(second),
      ops: second.ops,
      leaves: [...leavesOf(second), read],
      outputs: [{ ...output, op: second.ops.length - 1 }],
    },
  ];
};

/* ---------- halves ---------- */

const halvesOf = (task: Task): Task[] => {
  const half = Math.ceil(task.rows / 2);
  return [
    { from: 0, rows: half },
    { from: half, rows: task.rows - half },
  ].map(({ from, rows }) => {
    const cut = <T extends { readonly runs: readonly Run[] }>(part: T): T => ({
      ...part,
      runs: runsBetween(part.runs, from, from + rows),
    });
    return {
      ...task,
      rows,
      passes: task.passes.map(cut),
      leaves: task.leaves.map(cut),
      outputs: task.outputs.map((output) => ({ ...output, row: output.row + from * (output.step ?? 1) })),
    };
  });
};

/** Vectors `from` up to `end` of some runs. */
const runsBetween = (runs: readonly Run[], from: number, end: number): Run[] => {
  let before = 0;
  return runs.flatMap(({ row, step, count }) => {
    const [low, high] = [Math.max(0, from - before), Math.min(count, end - before)];
    before += count;
    return high <= low ? [] : [{ row: row + low * step, step: high - low === 1 ? 0 : step, count: high - low }];
  });
};

/**
 * Pipelines: a Plan becomes one plan for each of several chips, which work one behind the other.
 *
 * Tasks are in topological order, so a cut between any two of them makes stages. What is written before a cut and read behind
 * it goes over the wires between the two chips, a stage at a time: a stage in between receives it and sends it on. Cuts
 * are chosen so that the longest stage, with what it sends, is as short as can be; where they are narrow that is at the seams
 * between layers, though nothing here knows about layers. Storages keep their numbers in all stages; inputs lie on each chip that reads
 * them, outputs on the one that writes them, states on the one that works on them.
 */

import { DTYPES } from "../../ir/dtype.js";
import { at, fail } from "../../diagnostics.js";
import { type Plan, readsOf, RECEIVED, type Storage, type StorageId, type Task } from "../../ir/plan.js";
import { dealingOf } from "../../ir/plan/wires.js";
import type { Target } from "../../ir/target.js";
import { isAgain, madeAgain, makersFor } from "./again.js";
import { type Cuts, cutsOf } from "./balance.js";

/** The links that lead from a chip to the next: what is number i at one end is number i at the other. */
export interface Hop {
  readonly from: readonly number[];
  readonly to: readonly number[];
}

/** Stages that are known, by name. */
interface Fixed {
  readonly homes?: ReadonlyMap<string, number> | undefined;
  readonly stageOf?: ReadonlyMap<string, number> | undefined;
}

/** Rows that go over a wire together. */
const BLOCK = 64;

/**
 * One plan for each stage; there is a hop between each and the next. `homes`: stages of states that an earlier entry of the program
 * has placed; `stageOf`: those of ONNX nodes that have one. LPU2006 if there are fewer places to cut than hops.
 */
export const cutPlan = (
  plan: Plan,
  target: Target,
  hops: readonly Hop[],
  { homes = new Map(), stageOf = new Map() }: Fixed = {},
): readonly Plan[] => {
  if (hops.length === 0) return [plan];
  const links = Math.min(...hops.map(({ from }) => from.length));
  const again = madeAgain(plan, target, links);
  const cuts = cutsOf(plan, target, { again, homes, stageOf, stages: hops.length + 1, links });
  if (cuts === undefined)
    fail("LPU2006", {
      message: `expected places to cut ${plan.tasks.length} tasks into ${hops.length + 1} stages, with each output and each state in one${stageOf.size > 0 ? ", and nodes where the model has them" : ""}, found fewer`,
    });
  const transfers = hops.map((_, hop) => transfersAt(plan, cuts, again, hop + 1));
  return Array.from({ length: hops.length + 1 }, (_, stage) => {
    const before = hops[stage - 1];
    const after = hops[stage];
    const coming = before === undefined ? [] : at(transfers, stage - 1, "hop");
    const received = before === undefined ? [] : wired(plan, target, "receive", before.to, coming);
    const sent = after === undefined ? [] : wired(plan, target, "send", after.from, at(transfers, stage, "hop"));
    const isOwn = (task: Task, index: number): boolean => cuts.stageOf[index] === stage && !isAgain(task, again);
    const makers = makersFor(plan, again, plan.tasks.filter(isOwn), new Set(coming.map(({ storage }) => storage)));
    const tasks = plan.tasks.filter((task, index) => isOwn(task, index) || makers.has(index));
    return stagePlan(plan, cuts, stage, [...received, ...tasks, ...sent]);
  });
};

/* ---------- what crosses a cut ---------- */

/** Rows of a panel that go from a stage to the next. */
interface Transfer {
  readonly storage: StorageId;
  readonly panel: number;
  readonly row: number;
  readonly rows: number;
  /** The task that writes the last of them. */
  readonly writer: number;
}

/** What is written in a stage before `stage`, not made again, and read in it or behind it, in the order in which it is written. */
const transfersAt = (plan: Plan, { stageOf }: Cuts, again: ReadonlySet<StorageId>, stage: number): Transfer[] => {
  const wanted = new Set<StorageId>();
  for (const [index, task] of plan.tasks.entries())
    if (at(stageOf, index, "task") >= stage) for (const id of readsOf(task)) if (!again.has(id)) wanted.add(id);
  const written = plan.tasks.flatMap((task, writer) =>
    at(stageOf, writer, "task") >= stage
      ? []
      : task.outputs
          .filter(({ storage }) => wanted.has(storage))
          .map(({ storage, panel, row }): Transfer => ({ storage, panel, row, rows: task.rows, writer })),
  );
  return joined(written).sort((a, b) => a.writer - b.writer);
};

/** Neighbouring rows of a panel together, as long as they are not more than a block. */
const joined = (transfers: readonly Transfer[]): Transfer[] => {
  const sorted = [...transfers].sort((a, b) => a.storage - b.storage || a.panel - b.panel || a.row - b.row);
  const blocks: Transfer[] = [];
  for (const next of sorted) {
    const last = blocks.at(-1);
    const isNeighbour =
      last?.storage === next.storage && last.panel === next.panel && last.row + last.rows === next.row;
    if (last !== undefined && isNeighbour && last.rows + next.rows <= BLOCK)
      blocks[blocks.length - 1] = {
        ...last,
        rows: last.rows + next.rows,
        writer: Math.max(last.writer, next.writer),
      };
    else blocks.push(next);
  }
  return blocks;
};

/** The tasks of one end of a hop. Rows go on with the link behind the last one, so that short panels take turns. */
const wired = (
  plan: Plan,
  target: Target,
  kind: "send" | "receive",
  links: readonly number[],
  transfers: readonly Transfer[],
): Task[] => {
  let sent = 0;
  return transfers.map(({ storage, panel, row, rows, writer }) => {
    const { dtype, name } = at(plan.storages, storage, "storage");
    const first = sent % dealingOf(target, links.length, DTYPES[dtype].bytes).size;
    sent += rows;
    const place = { storage, panel };
    return {
      rows,
      passes: [],
      ops: [],
      leaves: kind === "send" ? [{ ...place, runs: [{ row, step: 1, count: rows }] }] : [],
      outputs: kind === "send" ? [] : [{ ...place, op: RECEIVED, row }],
      wire: { kind, name: `${name} ${storage}/${panel}`, links, first },
      origin: at(plan.tasks, writer, "task").origin,
    };
  });
};

/* ---------- a stage ---------- */

const stagePlan = (plan: Plan, { stageOf }: Cuts, stage: number, tasks: readonly Task[]): Plan => {
  const home = homesOf(plan, stageOf);
  const read = new Set(tasks.flatMap((task) => [...readsOf(task)]));
  const isHere = ({ id, kind, output }: Storage): boolean =>
    output || kind === "state" ? home[id] === stage : kind !== "input" || read.has(id);
  const here = new Set(plan.storages.filter(isHere).map(({ id }) => id));
  const inputsRead = new Set(plan.tasks.flatMap((task) => [...readsOf(task)]));
  return {
    ...plan,
    tasks,
    storages: plan.storages.map((storage) => (here.has(storage.id) ? storage : elsewhere(storage, read))),
    inputs: plan.inputs.filter(({ storage }) => (inputsRead.has(storage) ? read.has(storage) : stage === 0)),
    outputs: plan.outputs.filter(({ storage }) => home[storage] === stage),
    states: plan.states.filter(({ storage }) => home[storage] === stage),
  };
};

/** What is bound on another chip: an input that is read here has rows here too, and all else is as what tasks write. */
const elsewhere = (storage: Storage, read: ReadonlySet<StorageId>): Storage => {
  const { recipe: _, blocks: __, dealt: ___, ...rest } = storage;
  return storage.kind === "input" && read.has(storage.id)
    ? { ...storage, output: false }
    : { ...rest, kind: "temp", output: false };
};

/** By storage: the stage that writes it, or reads it first where nothing does. A state is where what takes its rows is. */
const homesOf = ({ storages, tasks, states }: Plan, stageOf: ArrayLike<number>): number[] => {
  const homes = new Array<number>(storages.length).fill(0);
  const isWritten = new Set(tasks.flatMap(({ outputs }) => outputs.map(({ storage }) => storage)));
  for (const [index, task] of [...tasks.entries()].reverse())
    for (const id of readsOf(task)) if (!isWritten.has(id)) homes[id] = at(stageOf, index, "task");
  for (const [index, { outputs }] of tasks.entries())
    for (const { storage } of outputs)
      homes[storage] = Math.max(at(homes, storage, "storage"), at(stageOf, index, "task"));
  for (const { storage, next } of states) homes[storage] = at(homes, next, "storage");
  return homes;
};

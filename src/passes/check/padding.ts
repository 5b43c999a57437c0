/**
 * A proof that what a Plan leaves on unused lanes is finite wherever it meets an array or a reduction: 0 * inf is no number.
 *
 * Elements are what the plan says of them, and finite as far as the model is; all other lanes are followed through the tasks,
 * by what each ALU function makes of ranges (ALU_RANGES). The host fills them with zeros, constants have none but by their
 * recipes, columns without weights sum up to zero. Where a permutation or an array takes such a lane, no infinity and no NaN
 * may lie there. Nothing is asked of the rules that made the plan. A task that is like the one a layer before it, and finds panels
 * of which the same is known, leaves what that one left, and is not followed.
 */

import { at, fail, invariant } from "../../diagnostics.js";
import { LARGEST_F16, LARGEST_F32, roundToF16 } from "../../ir/numerics.js";
import {
  type Argument,
  type BitsType,
  isTile,
  type PackedTile,
  type Pass,
  type Plan,
  type PlanState,
  type Storage,
  type StorageType,
  type Task,
  type Wire,
} from "../../ir/plan.js";
import { panelsNamed, storagesNamed, tilesNamed } from "../../ir/plan/names.js";
import { ALU_RANGES, bounded, isSpecial, isZero, type Range, union, ZERO } from "../../ir/ranges.js";
import { halfLanes, type Target } from "../../ir/target.js";
import { allAlike, haveSameShape, isMap, layerLength } from "./alike.js";
import { isSameRecord } from "./repeat.js";

/** What is known of one panel of a storage; never changed. Panels of which the same is known have the same one. */
interface Panel {
  readonly type: StorageType;
  readonly isConstant: boolean;
  /** Whether the plan says which lanes elements use. */
  readonly isTold: boolean;
  /** By lane: 1 if elements use it. */
  readonly elements: Uint8Array;
  readonly values: Range;
  /** What lies on the other lanes, as far as tasks have written them; undefined if none has. */
  readonly padding: Range | undefined;
}

interface Checked {
  readonly plan: Plan;
  readonly target: Target;
  readonly panels: Panel[][];
  /** The panel of which this is known. */
  readonly same: (panel: Panel) => Panel;
}

/** What a task took and found where it writes, and what it left there. */
interface Proved {
  readonly found: readonly Panel[];
  readonly left: readonly Panel[];
}

const GREATEST: Readonly<Record<StorageType, number>> = { f16: LARGEST_F16, f32: LARGEST_F32, i32: 2 ** 31 };
const finite = (type: StorageType): Range => bounded(-GREATEST[type], GREATEST[type]);
const INTEGERS: Readonly<Record<BitsType, Range>> = { i16: bounded(-(2 ** 15), 2 ** 15), i32: finite("i32") };

/** Of each chip, in the order in which they work: what a chip sends lies on its lanes as it does at the other end. */
export const checkPadding = (plans: readonly Plan[], target: Target): void => {
  const sent = new Map<string, Panel>();
  for (const plan of plans) checkPlan(plan, target, sent);
};

const checkPlan = (plan: Plan, target: Target, sent: Map<string, Panel>): void => {
  const same = knownPanels();
  const panels = plan.storages.map((storage) =>
    Array.from({ length: storage.panels }, (_, panel): Panel => {
      const { dtype, kind, lanes } = storage;
      return same({
        ...{ type: dtype, isConstant: kind === "constant", isTold: lanes?.columns !== undefined },
        elements: elementsOf(storage, panel, target),
        values: lanes?.values ?? finite(dtype),
        padding: kind === "temp" ? undefined : ZERO,
      });
    }),
  );
  const checked = { plan, target, panels, same };
  const layer = layerLength(plan.tasks);
  const proved: Proved[] = [];
  for (const [index, task] of plan.tasks.entries()) {
    const found = foundBy(checked, task);
    const before = index - layer;
    if (task.wire?.kind === "send") noteSent(checked, task, task.wire, sent);
    else if (task.wire !== undefined) takeReceived(checked, task, task.wire, sent);
    else if (isProved(plan.tasks[before], task, proved[before], found))
      leave(checked, task, proved[before]?.left ?? []);
    else checkTask(checked, task);
    proved.push({ found, left: task.outputs.map(({ storage, panel }) => panelOf(checked, storage, panel)) });
  }
  for (const state of plan.states) checkState(checked, state);
};

const knownPanels = (): Checked["same"] => {
  const known = new Map<string, Panel>();
  const text = new TextDecoder();
  return (panel) => {
    const { type, isConstant, isTold, elements, values, padding } = panel;
    const ranges = [values, ...(padding === undefined ? [] : [padding])].map(rangeText).join();
    const key = `${type} ${isConstant} ${isTold} ${ranges} ${text.decode(elements)}`;
    const one = known.get(key) ?? panel;
    known.set(key, one);
    return one;
  };
};

const rangeText = ({ lo, hi, mayBeInfinite, mayBeNan }: Range): string => `${lo} ${hi} ${mayBeInfinite} ${mayBeNan}`;

/** What a task takes, and what is where it writes. */
const foundBy = (checked: Checked, task: Task): Panel[] =>
  panelsNamed(task).map(({ storage, panel }) => panelOf(checked, storage, panel));

/** Whether a task does what the one a layer before it did, to the like: what was proved of that holds of it. */
const isProved = (
  before: Task | undefined,
  task: Task,
  proved: Proved | undefined,
  found: readonly Panel[],
): boolean => {
  if (before === undefined || proved === undefined || !allAlike(proved.found, found, (a, b) => a === b)) return false;
  if (!haveSameShape(before, task) || !allAlike(tilesNamed(before), tilesNamed(task), haveSameBlocks)) return false;
  // What is one storage for the one is one for the other.
  const [one, other] = [storagesNamed(before), storagesNamed(task)];
  return isMap(one, other) && isMap(other, one);
};

/** Whether weights are of the same lanes and columns. */
const haveSameBlocks = ({ recipe: a }: PackedTile, { recipe: b }: PackedTile): boolean =>
  a.kind === "points"
    ? b.kind === "points" && allAlike(a.places, b.places, ([x, y], [vector, element]) => x === vector && y === element)
    : b.kind === "blocks" &&
      "ones" in a.matrix === "ones" in b.matrix &&
      allAlike(a.blocks, b.blocks, (x, y) => isSameRecord(x, y));

/** Notes what a task leaves where it writes. */
const leave = ({ panels }: Checked, { outputs }: Task, left: readonly Panel[]): void => {
  for (const [index, { storage, panel }] of outputs.entries())
    at(panels, storage, "storage")[panel] = at(left, index, "panel");
};

const noteSent = (checked: Checked, { leaves }: Task, { name }: Wire, sent: Map<string, Panel>): void => {
  for (const { storage, panel } of leaves) sent.set(name, panelOf(checked, storage, panel));
};

const takeReceived = (checked: Checked, { outputs }: Task, { name }: Wire, sent: Map<string, Panel>): void => {
  const from = sent.get(name);
  if (from === undefined) fail("LPU2226", { message: `expected a chip before that sends '${name}', found none` });
  for (const { storage, panel } of outputs) {
    const { elements, padding } = from;
    setPanel(checked, storage, panel, { ...panelOf(checked, storage, panel), elements, padding });
  }
};

/** A run finds zeros on the unused lanes of a state, so it leaves zeros there. */
const checkState = ({ panels }: Checked, { name, next }: PlanState): void => {
  for (const { elements, padding } of at(panels, next, "storage"))
    if (elements.includes(0) && padding !== undefined && !isZero(padding))
      fail("LPU2226", { message: `state '${name}': expected zeros on lanes that no element uses, found others` });
};

const panelOf = ({ panels }: Checked, storage: number, panel: number): Panel => {
  const known = panels[storage]?.[panel];
  invariant(known !== undefined, "a panel of a storage exists");
  return known;
};

const setPanel = ({ panels, same }: Checked, storage: number, panel: number, to: Panel): void => {
  at(panels, storage, "storage")[panel] = same(to);
};

/** Lanes of a panel that elements use. Of a constant: those that its recipe fills. */
const elementsOf = ({ lanes, recipe }: Storage, panel: number, target: Target): Uint8Array => {
  const elements = new Uint8Array(target.lanes);
  if (recipe?.kind === "points") {
    const first = panel * recipe.vectors;
    for (const [vector, element] of recipe.places)
      if (vector >= first && vector < first + recipe.vectors) elements[element] = 1;
    return elements;
  }
  const start = panel * target.lanes;
  for (const { row, step, count } of lanes?.columns ?? [])
    for (let i = 0, lane = row - start; i < count; i++, lane += step)
      if (lane >= 0 && lane < target.lanes) elements[lane] = 1;
  return elements;
};

const checkTask = (checked: Checked, task: Task): void => {
  const covered = coveredBy(task.passes, checked.target);
  for (const pass of task.passes) checkPass(checked, task, pass);
  for (const { op, storage, panel, as } of task.outputs) {
    const to = panelOf(checked, storage, panel);
    const elements = !to.isTold || isCopy(task) ? inferredElements(checked, task, covered, to.elements) : to.elements;
    checkPermuted(checked, task, elements);
    const copies = copiesOf(task, covered, elements);
    const others = lanesWhere(elements, 0).filter((lane) => copies[lane] !== 1);
    const made = others.length === 0 ? undefined : rangeOn(checked, task, covered, others, op);
    const written = [
      ...(to.padding === undefined ? [] : [to.padding]),
      ...(copies.includes(1) ? [to.values] : []),
      ...(made === undefined ? [] : [as === undefined ? stored(made, to.type) : asBits(made, to.type)]),
    ];
    const padding = written.length === 0 ? undefined : written.reduce(union);
    setPanel(checked, storage, panel, { ...to, elements, padding });
  }
};

/** What becomes of a number that is stored: beyond the type's numbers are infinities, and below its least ones zeros. */
const stored = (range: Range, dtype: StorageType): Range => {
  const { lo, hi } = finite(dtype);
  const overflows = dtype !== "i32" && (range.lo < lo || range.hi > hi);
  const rounded = (bound: number): number => (dtype === "f16" && Math.abs(bound) < 1 ? roundToF16(bound) : bound);
  return {
    lo: rounded(Math.max(range.lo, lo)),
    hi: rounded(Math.min(range.hi, hi)),
    mayBeInfinite: range.mayBeInfinite || overflows,
    mayBeNan: range.mayBeNan,
  };
};

/** Bits of a number that are an integer: of zero they are zero, of others any. */
const asBits = (range: Range, dtype: StorageType): Range => (isZero(range) ? ZERO : finite(dtype));

/** Columns of the array that have weights in some pass, by lane. */
const coveredBy = (passes: readonly Pass[], target: Target): Uint8Array => {
  const covered = new Uint8Array(target.lanes);
  for (const { weights } of passes)
    if (!isTile(weights)) for (const { column, run } of weights) covered.fill(1, column, column + run.count);
    else {
      const { recipe, column: from } = weights;
      if (recipe.kind === "points") for (const [column] of recipe.places) covered[from + column] = 1;
      else for (const { column, columns } of recipe.blocks) covered.fill(1, from + column, from + column + columns);
    }
  return covered;
};

/** By lane: 1 where the sums alone make a result, by the same weights as on a lane of an element: it is a copy of that. */
const copiesOf = ({ passes, leaves }: Task, covered: Uint8Array, elements: Uint8Array): Uint8Array => {
  const copies = new Uint8Array(elements.length);
  if (leaves.length > 0 || !covered.some((is, lane) => is === 1 && elements[lane] === 0)) return copies;
  const weightsOf = (lane: number): string => passes.map((pass) => columnText(pass, lane)).join(";");
  const known = new Set(lanesWhere(elements, 1).map(weightsOf));
  for (const lane of lanesWhere(elements, 0)) if (covered[lane] === 1 && known.has(weightsOf(lane))) copies[lane] = 1;
  return copies;
};

/** A text that is equal for columns of equal weights. */
const columnText = ({ weights }: Pass, lane: number): string => {
  if (!isTile(weights))
    return weights
      .filter(({ column, run }) => column <= lane && lane < column + run.count)
      .map(({ storage, panel, run, half, first, lanes, column }) =>
        [storage, panel, run.row + (lane - column) * run.step, half, first, lanes].join(),
      )
      .join();
  const { recipe } = weights;
  const at = lane - weights.column;
  if (recipe.kind === "points")
    return recipe.places
      .filter(([vector]) => vector === at)
      .map(([, element]) => element)
      .join();
  return recipe.blocks
    .filter(({ column, columns }) => column <= at && at < column + columns)
    .map(({ column, k, count, lane: first, n, offset }) =>
      "ones" in recipe.matrix ? [count, first].join() : [offset, k, count, first, n + at - column].join(),
    )
    .join(";");
};

/** Elements that are copied whole, though not all of them are read from the copy. */
const isCopy = ({ ops, passes, leaves }: Task): boolean =>
  passes.length === 0 && leaves.length === 1 && ops.length === 1 && (ops[0]?.fn === "copy" || ops[0]?.fn === "orBits");

/** Parts of values use the lanes that what they are made of uses, constants aside. */
const inferredElements = (checked: Checked, task: Task, covered: Uint8Array, known: Uint8Array): Uint8Array => {
  const elements = Uint8Array.from(known);
  for (let lane = 0; lane < elements.length; lane++) if (covered[lane] === 1) elements[lane] = 1;
  for (const { storage, panel, map } of task.leaves) {
    const { isConstant, elements: from } = panelOf(checked, storage, panel);
    if (isConstant) continue;
    for (let lane = 0; lane < elements.length; lane++) if (from[sourceOf(checked, map, lane)] === 1) elements[lane] = 1;
  }
  return elements;
};

const lanesWhere = (elements: Uint8Array, is: 0 | 1): number[] => {
  const lanes: number[] = [];
  for (let lane = elements.indexOf(is); lane >= 0; lane = elements.indexOf(is, lane + 1)) lanes.push(lane);
  return lanes;
};

/** The lane from which a permutation takes a lane; -1 for zero. */
const sourceOf = ({ plan }: Checked, map: number | undefined, lane: number): number =>
  map === undefined ? lane : at(at(plan.maps, map, "map"), lane, "lane");

/* ---------- ranges ---------- */

/** What an operation of a chain gives on some lanes that no element uses. */
const rangeOn = (checked: Checked, task: Task, covered: Uint8Array, lanes: readonly number[], last: number): Range => {
  // Sums that a permutation brings to where they are already are one operand with themselves.
  const maps = task.ops.flatMap(({ args }) => args.flatMap((arg) => ("mxm" in arg ? (arg.map ?? []) : [])));
  const [map] = maps;
  if (map === undefined) return rangeOnGroup(checked, task, covered, lanes, last, undefined);
  const stays = (lane: number): boolean => maps.every((each) => sourceOf(checked, each, lane) === lane);
  const [still, moved] = [lanes.filter(stays), lanes.filter((lane) => !stays(lane))];
  return [
    ...(still.length === 0 ? [] : [rangeOnGroup(checked, task, covered, still, last, map)]),
    ...(moved.length === 0 ? [] : [rangeOnGroup(checked, task, covered, moved, last, undefined)]),
  ].reduce(union);
};

/** `stays`: a permutation that leaves the sums of these lanes where they are. */
const rangeOnGroup = (
  checked: Checked,
  { ops, leaves }: Task,
  covered: Uint8Array,
  lanes: readonly number[],
  last: number,
  stays: number | undefined,
): Range => {
  const made: Range[] = [];
  const rangeOf = (argument: Argument): Range => {
    if ("constant" in argument) return constantRange(argument.constant);
    if ("op" in argument) return at(made, argument.op, "operation");
    if ("mxm" in argument) {
      const turned = checked.plan.turnedSums?.get(stays ?? argument.map ?? -1) ?? finite("f32");
      const from = stays === undefined ? argument.map : undefined;
      return unionOn(lanes, (lane) => (covered[sourceOf(checked, from, lane)] === 1 ? turned : ZERO));
    }
    const leaf = leaves[argument.leaf];
    invariant(leaf !== undefined, "a chain takes leaves of its task");
    const { elements, values, padding } = panelOf(checked, leaf.storage, leaf.panel);
    const range = unionOn(lanes, (lane) => {
      const source = sourceOf(checked, leaf.map, lane);
      return source < 0 ? ZERO : elements[source] === 1 ? values : (padding ?? ZERO);
    });
    return argument.as === undefined ? range : isZero(range) ? ZERO : INTEGERS[argument.as];
  };
  const same = (a: Argument, b: Argument): boolean =>
    ("mxm" in a && "mxm" in b && stays !== undefined) || isSameRecord(a, b);
  for (const { fn, args } of ops.slice(0, last + 1)) {
    const [a, b, ...more] = args;
    const isSquare = a !== undefined && b !== undefined && more.length === 0 && same(a, b);
    made.push(ALU_RANGES[fn](args.map(rangeOf), isSquare));
  }
  return at(made, last, "operation");
};

const constantRange = (value: number): Range => {
  if (Number.isNaN(value)) return { ...ZERO, mayBeNan: true };
  return Number.isFinite(value)
    ? bounded(value, value)
    : { ...bounded(Math.min(0, value), Math.max(0, value)), mayBeInfinite: true };
};

const unionOn = (lanes: readonly number[], rangeAt: (lane: number) => Range): Range => {
  const ranges = new Set(lanes.map(rangeAt));
  return [...ranges].reduce(union);
};

/* ---------- what must be finite ---------- */

/** All lanes of the half meet the array, and all lanes that weights keep. */
const checkPass = (checked: Checked, task: Task, { storage, panel, half, weights }: Pass): void => {
  const lanes = halfLanes(checked.target);
  checkLanes(checked, task, { storage, panel }, half * lanes, lanes, "meets an array");
  if (isTile(weights)) return;
  for (const load of weights)
    checkLanes(checked, task, load, load.half * lanes + load.first, load.lanes, "is loaded into an array");
};

const checkLanes = (
  checked: Checked,
  task: Task,
  at: { readonly storage: number; readonly panel: number },
  first: number,
  count: number,
  what: string,
): void => {
  const { elements, padding } = panelOf(checked, at.storage, at.panel);
  if (padding !== undefined && isSpecial(padding) && elements.subarray(first, first + count).includes(0))
    refuse(checked, task, at, what);
};

/** Elements take from other lanes what a permutation brings them. */
const checkPermuted = (checked: Checked, task: Task, elements: Uint8Array): void => {
  for (const { map, ...leaf } of task.leaves) {
    if (map === undefined) continue;
    const from = panelOf(checked, leaf.storage, leaf.panel);
    if (from.padding === undefined || !isSpecial(from.padding)) continue;
    for (const lane of lanesWhere(elements, 1)) {
      const source = sourceOf(checked, map, lane);
      if (source >= 0 && from.elements[source] === 0) refuse(checked, task, leaf, `is brought to lane ${lane}`);
    }
  }
};

const refuse = (
  { plan, panels }: Checked,
  { origin }: Task,
  { storage, panel }: { readonly storage: number; readonly panel: number },
  what: string,
): never => {
  const padding = panels[storage]?.[panel]?.padding;
  const found = padding?.mayBeNan === true ? "what may be no number" : "what may be infinite";
  return fail("LPU2226", {
    message: `expected finite numbers on the unused lanes of panel ${panel} of '${plan.storages[storage]?.name}', which ${what}, found ${found}`,
    node: at(plan.origins, origin, "origin"),
  });
};

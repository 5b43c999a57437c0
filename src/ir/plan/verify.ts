/**
 * Verifies a Plan: everything in it that no scheduler could make good.
 *
 * What a task reads was written by one before it, or is there from the start; every row is written once; outputs are written
 * whole; the MXM takes fp16, each of its columns once; operations have their operands; recipes name literals of the plan and
 * make what their storages hold. Linear in rows and columns. The checks share no code with selection.
 */

import { at, CompileError } from "../../diagnostics.js";
import { isFp8 } from "../dtype.js";
import { ALU_FUNCTIONS } from "../isa.js";
import {
  isMultiplied,
  isTile,
  type Pass,
  type PackedTile,
  type Plan,
  RECEIVED,
  type Run,
  type Storage,
  type Task,
  type TileDType,
  type WeightLoad,
  type Wire,
  writtenBy,
} from "../plan.js";
import { type Matrix, type PanelRecipe, productOf } from "../recipe.js";
import { halfLanes, type Target } from "../target.js";

/** Raises LPU2225 with all that is wrong, a task at a time. */
export function verifyPlan(plan: Plan, target: Target): void {
  const [first, ...others] = planProblems(plan, target).map((message) => new CompileError("LPU2225", { message }));
  if (first !== undefined) throw new CompileError("LPU2225", first.details, others);
}

/** What is wrong with a plan; nothing for one that is well formed. */
export function planProblems(plan: Plan, target: Target): readonly string[] {
  const written = plan.storages.map(({ rows, panels, kind }) =>
    Array.from({ length: panels }, () => new Uint8Array(rows).fill(kind === "temp" ? 0 : 1)),
  );
  const context: Context = { plan, target, written };
  return [
    ...plan.storages.flatMap((storage, id) => storageProblems(context, storage, id)),
    ...plan.maps.flatMap((map, index) => mapProblems(map, index, target)),
    ...plan.tasks.flatMap((task, index) =>
      taskProblems(context, task).map(
        (problem) => `task ${index} (${at(plan.origins, task.origin, "origin")}): ${problem}`,
      ),
    ),
    ...stateProblems(plan, written),
    ...[...plan.inputs, ...plan.outputs].flatMap(({ name, storage }) =>
      storage < plan.storages.length ? [] : [`'${name}' is bound to storage ${storage}, which is not there`],
    ),
    ...plan.outputs.flatMap(({ name, storage }) =>
      written[storage]?.some((rows) => rows.includes(0)) === true ? [`output '${name}' is not written whole`] : [],
    ),
  ];
}

/** Every storage of kind state is bound once, and what takes its rows is as large, and written whole. */
const stateProblems = ({ storages, states }: Plan, written: Context["written"]): readonly string[] => [
  ...storages.flatMap(({ id, kind }) =>
    when(
      kind === "state" && states.filter(({ storage }) => storage === id).length !== 1,
      `storage ${id} is a state, and not bound once`,
    ),
  ),
  ...states.flatMap(({ name, storage, next }) => {
    const [before, after] = [storages[storage], storages[next]];
    const size = (one: Storage | undefined): string =>
      `${one?.dtype} ${one?.rows} x ${one?.panels}${one?.bothHemispheres === true ? " both" : ""}`;
    return [
      ...when(before?.kind !== "state", `state '${name}' is bound to storage ${storage}, which is none`),
      ...when(
        after?.kind !== "temp" || !after.output,
        `storage ${next} of state '${name}' has no place from the start`,
      ),
      ...when(size(before) !== size(after), `state '${name}' is ${size(before)} and then ${size(after)}`),
      ...when(written[next]?.some((rows) => rows.includes(0)) === true, `state '${name}' is not written whole`),
    ];
  }),
];

interface Context {
  readonly plan: Plan;
  readonly target: Target;
  /** By storage, panel and row: 1 where something was written. */
  readonly written: readonly (readonly Uint8Array[])[];
}

const when = (isWrong: boolean, problem: string): readonly string[] => (isWrong ? [problem] : []);

/* ---------- storages ---------- */

const storageProblems = (context: Context, storage: Storage, index: number): readonly string[] => {
  const { id, kind, recipe, blocks, dealt } = storage;
  const problems = [
    ...when(
      blocks !== undefined && (kind !== "temp" || !storage.output || storage.rows % blocks !== 0),
      `${storage.rows} rows in ${blocks} blocks, ${kind}, ${storage.output ? "with" : "without"} a place from the start`,
    ),
    ...when(dealt === true && blocks === undefined, "blocks that are dealt out, and none are there"),
    ...when(id !== index, `storage ${index} has number ${id}`),
    ...when((kind === "constant") !== (recipe !== undefined), "constants have recipes, and nothing else has one"),
    ...(recipe === undefined ? [] : panelRecipeProblems(context, storage, recipe)),
  ];
  return problems.map((problem) => `storage ${index}: ${problem}`);
};

const panelRecipeProblems = (
  { plan, target }: Context,
  { rows, panels }: Storage,
  recipe: PanelRecipe,
): readonly string[] => {
  if (recipe.kind === "points")
    return [
      ...when(recipe.vectors !== rows, `${rows} rows, and a recipe of ${recipe.vectors}`),
      ...outside(recipe.places, rows * panels, target.lanes),
    ];
  return [
    ...when(productOf(recipe.rows) !== rows, `${rows} rows, and a recipe of ${productOf(recipe.rows)}`),
    ...when(!plan.literals.has(recipe.literal), `no literal ${recipe.literal}`),
  ];
};

const outside = (places: readonly (readonly [number, number])[], vectors: number, width: number): readonly string[] =>
  places
    .filter(([vector, element]) => vector >= vectors || element >= width)
    .map(([vector, element]) => `no element ${element} of vector ${vector}`);

const mapProblems = (map: Int16Array, index: number, { lanes }: Target): readonly string[] => [
  ...when(map.length !== lanes, `map ${index} has ${map.length} lanes, the machine ${lanes}`),
  ...when(
    map.some((lane) => lane >= lanes),
    `map ${index} takes a lane that is not there`,
  ),
];

/* ---------- tasks ---------- */

const taskProblems = (context: Context, task: Task): readonly string[] => [
  ...task.passes.flatMap((pass) => passProblems(context, task, pass)),
  ...task.leaves.flatMap(({ storage, panel, runs }) =>
    readProblems(context, "a leaf", { storage, panel, runs }, task.rows),
  ),
  ...(task.wire === undefined ? chainProblems(context.plan, task) : wireProblems(context.target, task, task.wire)),
  ...task.outputs.flatMap((output) => writeProblems(context, task, output)),
];

interface Read {
  readonly storage: number;
  readonly panel: number;
  readonly runs: readonly Run[];
}

const readProblems = ({ plan, written }: Context, what: string, read: Read, count: number): readonly string[] => {
  const { storage, panel, runs } = read;
  const rows = written[storage]?.[panel];
  let [vectors, missing] = [0, -1];
  for (const { row, step, count: length } of runs)
    for (let i = 0; i < length; i += 1, vectors += 1)
      if (missing < 0 && rows?.[row + i * step] !== 1) missing = row + i * step;
  const name = plan.storages[storage]?.name ?? "none";
  return [
    ...when(vectors !== count, `${what} reads ${vectors} vectors, needs ${count}`),
    ...when(
      vectors > 0 && missing >= 0,
      `${what} reads row ${missing} of panel ${panel} of storage ${storage} ('${name}'), which nothing wrote`,
    ),
  ];
};

const passProblems = (context: Context, { rows }: Task, pass: Pass): readonly string[] => {
  const { plan, target } = context;
  return [
    ...readProblems(context, "a pass", pass, rows),
    ...when(!isFactor(plan, pass.storage), "activations are not fp16"),
    ...(isTile(pass.weights) ? tileProblems(plan, target, pass.weights) : loadsProblems(context, pass.weights)),
  ];
};

const isFactor = ({ storages }: Plan, id: number): boolean => {
  const dtype = storages[id]?.dtype;
  return dtype !== undefined && isMultiplied(dtype);
};

const tileProblems = (
  { literals }: Plan,
  target: Target,
  { columns, column: from, dtype, recipe }: PackedTile,
): readonly string[] => {
  const half = halfLanes(target);
  const tooWide = when(
    from < 0 || from % 2 !== 0 || from + columns > target.lanes,
    `a tile of ${columns} columns from column ${from} on`,
  );
  // FP8 is not made while an image is written: a literal is it already.
  const other = when(
    isFp8(dtype) && !(recipe.kind === "blocks" && isOfType(literals, recipe.matrix, dtype)),
    `a tile of ${dtype} that no literal of this type is`,
  );
  if (recipe.kind === "points") return [...tooWide, ...other, ...outside(recipe.places, columns, half)];
  const { matrix, blocks } = recipe;
  return [
    ...tooWide,
    ...other,
    ...when("literal" in matrix && !literals.has(matrix.literal), "a tile of no literal of the plan"),
    ...when(
      blocks.some(({ lane, count, column, columns: taken }) => lane + count > half || column + taken > columns),
      "a block that leaves its tile",
    ),
  ];
};

const isOfType = (literals: Plan["literals"], matrix: Matrix, dtype: TileDType): boolean =>
  "literal" in matrix && matrix.scale === 1 && literals.get(matrix.literal)?.dtype === dtype;

const loadsProblems = (context: Context, loads: readonly WeightLoad[]): readonly string[] => {
  const { plan, target } = context;
  const taken = new Uint8Array(target.lanes);
  return loads.flatMap((load) => {
    const { storage, panel, run, first, lanes, column } = load;
    const twice: number[] = [];
    for (let at = column; at < column + run.count; at += 1) {
      if (taken[at] !== 0) twice.push(at);
      if (at < taken.length) taken[at] = 1;
    }
    return [
      ...readProblems(context, "a load", { storage, panel, runs: [run] }, run.count),
      ...when(!isFactor(plan, storage), "weights are not fp16"),
      ...when(first + lanes > halfLanes(target), `lanes ${first} to ${first + lanes - 1} of a half`),
      ...twice.map((at) => `column ${at} is loaded twice or does not exist`),
    ];
  });
};

const chainProblems = (plan: Plan, { ops, leaves, passes, outputs }: Task): readonly string[] => [
  ...ops.flatMap(({ fn, args }, index) => [
    ...when(args.length !== ALU_FUNCTIONS[fn].operands, `${fn} of ${args.length} operands`),
    ...args.flatMap((argument) => [
      ...when("op" in argument && !(argument.op >= 0 && argument.op < index), `operation ${index} takes a later one`),
      ...when("leaf" in argument && leaves[argument.leaf] === undefined, `operation ${index} takes no leaf`),
      ...when("mxm" in argument && passes.length === 0, "takes a product without passes"),
      ...when("mxm" in argument && !hasMap(plan, argument.map), "takes a product through no map"),
    ]),
  ]),
  ...when(
    leaves.some(({ map }) => !hasMap(plan, map)),
    "reads a leaf through no map",
  ),
  ...when(outputs.length === 0, "writes nothing"),
  ...when(
    outputs.some(({ op }) => ops[op] === undefined),
    "writes the result of no operation",
  ),
];

/** A task that sends reads rows one after another, and does nothing else; one that receives writes them. */
const wireProblems = (target: Target, task: Task, { kind, links, first }: Wire): readonly string[] => {
  const { passes, ops, leaves, outputs } = task;
  const [own, other] = kind === "send" ? [leaves, outputs] : [outputs, leaves];
  const [run, ...others] = leaves.flatMap(({ runs }) => runs);
  return [
    ...when(passes.length + ops.length + other.length > 0 || own.length !== 1, `a task does more than to ${kind}`),
    ...when(
      run !== undefined && (run.step !== 1 || others.length > 0 || leaves[0]?.map !== undefined),
      "sends other rows than neighbours as they lie",
    ),
    ...when(
      outputs.some(({ op }) => op !== RECEIVED),
      "writes the result of no operation",
    ),
    ...when(
      links.length === 0 ||
        new Set(links).size < links.length ||
        links.some((link) => !(link >= 0 && link < target.links)),
      `goes over links [${links.join(", ")}] of ${target.links}, each once`,
    ),
    ...when(!(first >= 0 && first < links.length), `begins with link ${first} of ${links.length}`),
  ];
};

const hasMap = ({ maps }: Plan, map: number | undefined): boolean => map === undefined || maps[map] !== undefined;

const writeProblems = ({ plan, written }: Context, task: Task, output: Task["outputs"][number]): readonly string[] => {
  const { storage, panel } = output;
  const { row, step, count } = writtenBy(task, output);
  const rows = written[storage]?.[panel];
  const last = row + (count - 1) * step;
  if (rows === undefined || plan.storages[storage]?.kind !== "temp" || step < 1 || last >= rows.length)
    return [`writes rows ${row} to ${last} of storage ${storage}, which has ${rows?.length ?? 0}`];
  let again = false;
  for (let at = row; at <= last; at += step) {
    again ||= rows[at] === 1;
    rows[at] = 1;
  }
  return [
    ...when(again, `writes rows of storage ${storage} again`),
    ...when(
      step !== 1 && plan.states.every(({ next }) => next !== storage),
      `writes rows of storage ${storage} that are no neighbours, which takes no state's place`,
    ),
  ];
};

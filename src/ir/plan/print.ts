/**
 * The text form of a Plan, which `parse.ts` reads back to an equal plan.
 *
 *     plan @main {
 *       macs 96
 *       literal "w": f16[4,8]
 *       origin "MatMul_0"
 *       storage 0: input f16 3x1 "x"
 *       storage 1: temp f16 3x1 "y" output
 *       input "x": f32[3,4] in 0 from 0 by [[0, 1, 3, 1, 0], [1, 1, 4, 0, 1]]
 *       output "y": f32[3,8] in 1 from 0 by [[0, 1, 3, 1, 0], [1, 1, 8, 0, 1]]
 *       task "MatMul_0": 3 rows {
 *         pass 0/0 low [0:3] by tile 8 blocks "w" times 1 width 8 [[0, 0, 4, 0, 0, 8, 0]]
 *         a0 = relu(mxm)
 *         a0 -> 1/0 from 0
 *       }
 *     }
 *
 * Passes and operations that were made from another ONNX node than the task say so: `2 rows, passes of "MatMul_0" {`,
 * `a0 = add(mxm, v0) of "Add_1"`. A state says as `then 5` which storage takes its rows. Storages are by number,
 * `storage/panel`, and rows `[row:count]` or `[row:count:step]`. Leaves are `v0 ..`, operations of ALUs `a0 ..`. A task between
 * chips says `send "name" over [0, 1] from 0` of its leaf, or `receive "name" ..` and `received -> 5/0 from 0`. Lists of numbers
 * are in the order of the fields that they stand for; a range is its least and its greatest number, whether infinities and
 * whether NaNs may be among them.
 */

import type {
  Argument,
  Lanes,
  Leaf,
  PackedTile,
  Pass,
  Plan,
  PlanBinding,
  Run,
  Storage,
  Task,
  WeightLoad,
  Wire,
} from "../plan.js";
import { invariant } from "../../diagnostics.js";
import { isTile, RECEIVED } from "../plan.js";
import type { Range } from "../ranges.js";
import { blockNumbers, type PanelRecipe, type SpreadDigit, type TileRecipe } from "../recipe.js";
import { formatType } from "../tensor.js";
import { formatName, formatNumber } from "../text.js";

export function printPlan(plan: Plan): string {
  const lines = [
    `macs ${plan.macs}`,
    ...[...plan.literals].map(([key, literal]) => `literal ${quoted(key)}: ${formatType(literal)}`),
    ...plan.origins.map((name) => `origin ${quoted(name)}`),
    ...plan.storages.map(printStorage),
    ...plan.maps.map((map, index) => `map [${Array.from(map).join(", ")}]${printSums(plan.turnedSums?.get(index))}`),
    ...plan.inputs.map((binding) => `input ${printBinding(binding)}`),
    ...plan.outputs.map((binding) => `output ${printBinding(binding)}`),
    ...plan.states.map((state) => `state ${printBinding(state)} then ${state.next}`),
    ...plan.tasks.map((task) => printTask(plan, task)),
  ];
  return `plan @${formatName(plan.name)} {\n${lines.map((line) => `  ${line}\n`).join("")}}\n`;
}

const quoted = (text: string): string => JSON.stringify(text);
const numbers = (values: readonly number[]): string => `[${values.map(formatNumber).join(", ")}]`;
const lists = (values: readonly (readonly number[])[]): string => `[${values.map(numbers).join(", ")}]`;

const printRange = ({ lo, hi, mayBeInfinite, mayBeNan }: Range): string =>
  numbers([lo, hi, Number(mayBeInfinite), Number(mayBeNan)]);
const printSums = (range: Range | undefined): string => (range === undefined ? "" : ` sums ${printRange(range)}`);
const printLanes = ({ values, columns }: Lanes): string =>
  ` values ${printRange(values)}${columns === undefined ? "" : ` columns ${printRuns(columns)}`}`;

const printStorage = ({
  id,
  kind,
  dtype,
  rows,
  panels,
  name,
  bothHemispheres,
  groups,
  output,
  recipe,
  blocks,
  dealt,
  lanes,
}: Storage): string => {
  const known = lanes === undefined ? "" : printLanes(lanes);
  const marks = `${bothHemispheres ? " both" : ""}${groups === undefined ? "" : ` groups ${numbers(groups)}`}${output ? " output" : ""}${blocks === undefined ? "" : ` ${dealt === true ? "dealt " : ""}blocks ${blocks}`}${known}`;
  const made = recipe === undefined ? "" : ` = ${printRecipe(recipe)}`;
  return `storage ${id}: ${kind} ${dtype} ${rows} x ${panels} ${quoted(name)}${marks}${made}`;
};

const printDigits = (digits: readonly SpreadDigit[]): string =>
  lists(digits.map(({ extent, to, element }) => [extent, to, element]));

const printRecipe = (recipe: PanelRecipe | TileRecipe): string => {
  switch (recipe.kind) {
    case "points":
      return `points ${formatNumber(recipe.value)} in ${recipe.vectors} ${lists(recipe.places)}`;
    case "spread": {
      const columns = recipe.columns === undefined ? "" : ` columns ${printDigits(recipe.columns)}`;
      return `spread ${quoted(recipe.literal)} rows ${printDigits(recipe.rows)}${columns} from ${recipe.column}`;
    }
    case "blocks": {
      const { matrix, width } = recipe;
      const source = "ones" in matrix ? `ones ${numbers(matrix.ones)}` : quoted(matrix.literal);
      const blocks = lists(recipe.blocks.map(blockNumbers));
      return `blocks ${source} times ${formatNumber(matrix.scale)} width ${width} ${blocks}`;
    }
  }
};

const printBinding = ({ name, declared, shape, storage, pieces, firstRow, factors, lookup }: PlanBinding): string => {
  const by = lists(factors.map(({ dim, divide, extent, row, column }) => [dim, divide, extent, row, column]));
  const table =
    lookup === undefined
      ? ""
      : ` lookup ${lookup.dtype}[${lookup.rows},${lookup.width}] ${quoted(lookup.literal)} for ${quoted(lookup.origin)}`;
  return `${quoted(name)}: ${declared}[${shape.join(",")}] in ${storage}${pieces === undefined ? "" : ` pieces ${pieces}`} from ${firstRow} by ${by}${table}`;
};

const printRun = ({ row, step, count }: Run): string => `${row}:${count}${step === 1 ? "" : `:${step}`}`;
const printRuns = (runs: readonly Run[]): string => `[${runs.map(printRun).join(", ")}]`;
const halfName = (half: 0 | 1): string => (half === 0 ? "low" : "high");

const printWire = ({ kind, name, links, first, twin }: Wire): string =>
  `${kind} ${quoted(name)} over ${numbers(links)} from ${first}${twin === true ? " twin" : ""}`;

const printTask = (plan: Plan, { rows, passes, leaves, ops, outputs, wire, origin, passOrigin }: Task): string => {
  const of = (own: number | undefined): string => (own === undefined ? "" : ` of ${quoted(originAt(plan, own))}`);
  const lines = [
    ...passes.map(printPass),
    ...leaves.map((leaf, index) => `v${index} = ${printLeaf(leaf)}`),
    ...(wire === undefined ? [] : [printWire(wire)]),
    ...ops.map(
      ({ fn, args, origin: own }, index) => `a${index} = ${fn}(${args.map(printArgument).join(", ")})${of(own)}`,
    ),
    ...outputs.map(
      ({ op, storage, panel, row, step, as }) =>
        `${op === RECEIVED ? "received" : `a${op}`} -> ${storage}/${panel} from ${row}${step === undefined ? "" : ` by ${step}`}${as === undefined ? "" : ` as ${as}`}`,
    ),
  ];
  const body = lines.map((line) => `    ${line}\n`).join("");
  const product = passOrigin === undefined ? "" : `, passes${of(passOrigin)}`;
  return `task ${quoted(originAt(plan, origin))}: ${rows} rows${product} {\n${body}  }`;
};

const originAt = ({ origins }: Plan, origin: number): string => {
  const name = origins[origin];
  invariant(name !== undefined, `a plan has an origin ${origin}`);
  return name;
};

const printTile = ({ columns, column, dtype, recipe }: PackedTile): string =>
  `tile ${columns}${dtype === "f16" ? "" : ` ${dtype}`}${column === 0 ? "" : ` from ${column}`} ${printRecipe(recipe)}`;

const printPass = ({ storage, panel, half, runs, weights }: Pass): string => {
  const by = isTile(weights) ? printTile(weights) : `rows {${weights.map(printLoad).join(", ")}}`;
  return `pass ${storage}/${panel} ${halfName(half)} ${printRuns(runs)} by ${by}`;
};

const printLoad = ({ storage, panel, run, half, first, lanes, column }: WeightLoad): string =>
  `${storage}/${panel} ${halfName(half)} [${printRun(run)}] lanes [${first}:${lanes}] column ${column}`;

const printLeaf = ({ storage, panel, runs, map }: Leaf): string =>
  `${storage}/${panel} ${printRuns(runs)}${map === undefined ? "" : ` map ${map}`}`;

const printArgument = (argument: Argument): string => {
  if ("op" in argument) return `a${argument.op}`;
  if ("leaf" in argument) return `v${argument.leaf}${argument.as === undefined ? "" : ` as ${argument.as}`}`;
  if ("constant" in argument) return formatNumber(argument.constant);
  return argument.map === undefined ? "mxm" : `mxm map ${argument.map}`;
};

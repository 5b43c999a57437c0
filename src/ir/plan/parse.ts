/**
 * Reads the text form of a Plan, which `print.ts` writes.
 *
 * Only the form is checked here (LPU3010, with `file:line:col`); what a plan must be is verify.ts. Literals are named by
 * their keys: those that are not given have no contents, and a plan with them can be scheduled but not written as an image.
 */

import { fail } from "../../diagnostics.js";
import type { DType } from "../dtype.js";
import { isDType, isEdgeDType } from "../ops/attributes.js";
import type { Literal } from "../graph.js";
import { isAluFunction } from "../isa.js";
import {
  type AluOp,
  type Argument,
  type BitsType,
  type Lanes,
  type Leaf,
  type PackedTile,
  type Pass,
  type Plan,
  type PlanBinding,
  type PlanState,
  type Run,
  type Storage,
  isTileDType,
  RECEIVED,
  STORAGE_TYPES,
  type StorageType,
  type Task,
  type TaskOutput,
  type WeightLoad,
  type Wire,
} from "../plan.js";
import type { Range } from "../ranges.js";
import {
  blockOf,
  type Matrix,
  type PanelRecipe,
  type Place,
  type SpreadDigit,
  tileKey,
  type TileRecipe,
} from "../recipe.js";
import { formatType } from "../tensor.js";
import { parseNumber, type Token, TokenReader } from "../text.js";

export interface ParsePlanOptions {
  /** Shown in errors. */
  readonly file?: string;
  readonly literals?: ReadonlyMap<string, Literal>;
}

interface Reading {
  readonly reader: TokenReader;
  readonly given: ReadonlyMap<string, Literal>;
  readonly literals: Map<string, Literal>;
  readonly storages: Storage[];
  readonly maps: Int16Array[];
  readonly turnedSums: Map<number, Range>;
  readonly inputs: PlanBinding[];
  readonly outputs: PlanBinding[];
  readonly states: PlanState[];
  readonly tasks: Task[];
  readonly origins: string[];
  /** Equal operations are one array: the scheduler times each once. */
  readonly chains: Map<string, readonly AluOp[]>;
  macs: number;
}

export function parsePlan(text: string, options: ParsePlanOptions = {}): Plan {
  const reader = new TokenReader(text, options.file ?? "plan");
  reader.expect("plan");
  reader.expect("@");
  const token = reader.next();
  if (token.kind !== "word" && token.kind !== "string") reader.complain(`expected a name, got '${token.text}'`, token);
  const reading: Reading = {
    reader,
    given: options.literals ?? new Map(),
    literals: new Map(),
    storages: [],
    maps: [],
    turnedSums: new Map(),
    inputs: [],
    outputs: [],
    states: [],
    tasks: [],
    origins: [],
    chains: new Map(),
    macs: 0,
  };
  reader.expect("{");
  while (!reader.accept("}")) readItem(reading);
  reader.take("end", "the end of the text");
  const { literals, storages, maps, turnedSums, inputs, outputs, states, tasks, origins, macs } = reading;
  return { name: token.text, storages, tasks, maps, turnedSums, inputs, outputs, states, origins, literals, macs };
}

/** What a plan is made of, by the word that starts it. */
const ITEMS: Readonly<Record<string, (reading: Reading) => void>> = {
  macs: (reading) => {
    reading.macs = reading.reader.integer();
  },
  literal: readLiteral,
  origin: ({ reader, origins }) => void origins.push(string(reader, "an ONNX node")),
  storage: readStorage,
  map: ({ reader, maps, turnedSums }) => {
    maps.push(Int16Array.from(reader.list("[", "]", () => reader.integer("a lane"))));
    if (reader.accept("sums")) turnedSums.set(maps.length - 1, readRange(reader));
  },
  input: (reading) => void reading.inputs.push(readBinding(reading.reader)),
  output: (reading) => void reading.outputs.push(readBinding(reading.reader)),
  state: ({ reader, states }) => void states.push({ ...readBinding(reader), next: after(reader, "then") }),
  task: readTask,
};

const readItem = (reading: Reading): void => {
  const token = reading.reader.take("word", "an item of a plan");
  const item = ITEMS[token.text];
  if (item === undefined)
    reading.reader.complain(`expected ${Object.keys(ITEMS).join(", ")}, got '${token.text}'`, token);
  else item(reading);
};

/* ---------- words ---------- */

const oneOf = <Word extends string>(reader: TokenReader, what: string, isOne: (word: string) => word is Word): Word => {
  const token = reader.take("word", what);
  return isOne(token.text) ? token.text : reader.complain(`expected ${what}, got '${token.text}'`, token);
};

const among =
  <Word extends string>(words: readonly Word[]) =>
  (word: string): word is Word =>
    words.some((one) => one === word);

const KINDS = among(["temp", "constant", "input", "state"]);
const HALVES = among(["low", "high"]);
const BITS = among<BitsType>(["i16", "i32"]);
const isStorageType = among<StorageType>(STORAGE_TYPES);

const string = (reader: TokenReader, what: string): string => reader.take("string", what).text;
const after = (reader: TokenReader, word: string): number => {
  reader.expect(word);
  return reader.integer();
};
const list = (reader: TokenReader): number[] => reader.list("[", "]", () => reader.number());

/** Lists of so many numbers. */
const lists = (reader: TokenReader, size: number): number[][] =>
  reader.list("[", "]", () => {
    const token = reader.peek();
    const numbers = list(reader);
    return numbers.length === size
      ? numbers
      : reader.complain(`expected ${size} numbers, got ${numbers.length}`, token);
  });

/** A name with a number, such as `v12`. */
const numbered = (reader: TokenReader, letter: string, what: string): number => {
  const token = reader.take("word", what);
  const digits = token.text.slice(letter.length);
  return token.text.startsWith(letter) && /^\d+$/.test(digits)
    ? Number(digits)
    : reader.complain(`expected ${what}, got '${token.text}'`, token);
};

/* ---------- storages ---------- */

const readType = (reader: TokenReader): { readonly dtype: DType; readonly shape: readonly number[] } => ({
  dtype: oneOf(reader, "an element type", isDType),
  shape: reader.list("[", "]", () => reader.integer("an extent")),
});

function readLiteral({ reader, given, literals }: Reading): void {
  const key = string(reader, "the key of a literal");
  reader.expect(":");
  const type = readType(reader);
  literals.set(key, given.get(key) ?? { ...type, key, load: () => unknownLiteral(key, formatType(type)) });
}

const unknownLiteral = (key: string, type: string): never =>
  fail("LPU3010", {
    message: `expected the contents of literal ${JSON.stringify(key)}, ${type}, which the text of a plan only names`,
    hint: "give the literals of the model along with the text",
  });

function readStorage({ reader, storages }: Reading): void {
  const token = reader.peek();
  const id = reader.integer("the number of a storage");
  if (id !== storages.length) reader.complain(`expected storage ${storages.length}, got ${id}`, token);
  reader.expect(":");
  const kind = oneOf(reader, "temp, constant, input or state", KINDS);
  const dtype = oneOf(reader, "an element type of storages", isStorageType);
  const rows = reader.integer();
  reader.expect("x");
  const panels = reader.integer();
  const name = string(reader, "the name of a storage");
  const bothHemispheres = reader.accept("both");
  const groups = reader.accept("groups") ? list(reader) : undefined;
  const output = reader.accept("output");
  const dealt = reader.accept("dealt");
  const blocks = reader.accept("blocks") ? reader.integer() : undefined;
  const lanes = reader.accept("values") ? readLanes(reader) : undefined;
  const recipe = reader.accept("=") ? readPanelRecipe(reader) : undefined;
  storages.push({
    id,
    name,
    dtype,
    rows,
    panels,
    kind,
    bothHemispheres,
    ...(groups === undefined ? {} : { groups }),
    output,
    ...(blocks === undefined ? {} : { blocks }),
    ...(dealt ? { dealt } : {}),
    ...(lanes === undefined ? {} : { lanes }),
    ...(recipe === undefined ? {} : { recipe }),
  });
}

const readRange = (reader: TokenReader): Range => {
  const token = reader.peek();
  const [lo, hi, infinite, nan, ...others] = list(reader);
  if (lo === undefined || hi === undefined || nan === undefined || others.length > 0)
    return reader.complain("expected the least and the greatest number, and whether infinities and NaNs may be", token);
  return { lo, hi, mayBeInfinite: infinite === 1, mayBeNan: nan === 1 };
};

const readLanes = (reader: TokenReader): Lanes => {
  const values = readRange(reader);
  return reader.accept("columns") ? { values, columns: readRuns(reader) } : { values };
};

const readPanelRecipe = (reader: TokenReader): PanelRecipe => {
  if (reader.accept("points")) return readPoints(reader);
  reader.expect("spread");
  const literal = string(reader, "the key of a literal");
  reader.expect("rows");
  const rows = readDigits(reader);
  const columns = reader.accept("columns") ? readDigits(reader) : undefined;
  const column = after(reader, "from");
  return { kind: "spread", literal, rows, ...(columns === undefined ? {} : { columns }), column };
};

const readPoints = (reader: TokenReader): Extract<PanelRecipe, { kind: "points" }> => {
  const value = reader.number();
  const vectors = after(reader, "in");
  const places = lists(reader, 2).map(([vector = 0, element = 0]): Place => [vector, element]);
  return { kind: "points", vectors, value, places };
};

const readDigits = (reader: TokenReader): SpreadDigit[] =>
  lists(reader, 3).map(([extent = 0, to = 0, element = 0]) => ({ extent, to, element }));

const readTile = (reader: TokenReader): PackedTile => {
  const columns = reader.integer("the columns of a tile");
  const narrow = isTileDType(reader.peek().text) ? reader.take("word", "a type").text : "f16";
  const column = reader.accept("from") ? reader.integer("a column") : 0;
  const recipe = readTileRecipe(reader);
  return { key: tileKey(recipe), dtype: isTileDType(narrow) ? narrow : "f16", columns, column, recipe };
};

const readTileRecipe = (reader: TokenReader): TileRecipe => {
  if (reader.accept("points")) return readPoints(reader);
  reader.expect("blocks");
  const source = readMatrix(reader);
  reader.expect("times");
  const matrix: Matrix = { ...source, scale: reader.number() };
  const width = after(reader, "width");
  return { kind: "blocks", matrix, width, blocks: lists(reader, 7).map(blockOf) };
};

const readMatrix = (reader: TokenReader): { literal: string } | { ones: [number, number] } => {
  if (!reader.accept("ones")) return { literal: string(reader, "the key of a literal") };
  const token = reader.peek();
  const [k, n, ...more] = list(reader);
  return k === undefined || n === undefined || more.length > 0
    ? reader.complain("expected two extents", token)
    : { ones: [k, n] };
};

/* ---------- bindings ---------- */

function readBinding(reader: TokenReader): PlanBinding {
  const name = string(reader, "the name of an input or output");
  reader.expect(":");
  const declared = oneOf(reader, "an element type", isEdgeDType);
  const shape = reader.list("[", "]", () => reader.integer("an extent"));
  const storage = after(reader, "in");
  const pieces = reader.accept("pieces") ? reader.integer() : undefined;
  const firstRow = after(reader, "from");
  reader.expect("by");
  const factors = lists(reader, 5).map(([dim = 0, divide = 0, extent = 0, row = 0, column = 0]) => ({
    dim,
    divide,
    extent,
    row,
    column,
  }));
  const lookup = reader.accept("lookup") ? readLookup(reader) : undefined;
  const rest = { ...(pieces === undefined ? {} : { pieces }), ...(lookup === undefined ? {} : { lookup }) };
  return { name, declared, shape, storage, firstRow, factors, ...rest };
}

const readLookup = (reader: TokenReader): NonNullable<PlanBinding["lookup"]> => {
  const dtype = oneOf(reader, "an element type of storages", isStorageType);
  const token = reader.peek();
  const [rows, width] = list(reader);
  if (rows === undefined || width === undefined) return reader.complain("expected rows and width of a table", token);
  const literal = string(reader, "the key of a literal");
  reader.expect("for");
  return { dtype, rows, width, literal, origin: string(reader, "an ONNX node") };
};

/* ---------- tasks ---------- */

/** The number of an origin by its name. */
const readOrigin = (reader: TokenReader, origins: readonly string[]): number => {
  const token = reader.peek();
  const origin = origins.indexOf(string(reader, "an ONNX node"));
  if (origin < 0) reader.complain("expected an origin of the plan", token);
  return origin;
};

function readTask({ reader, tasks, origins, chains }: Reading): void {
  const origin = readOrigin(reader, origins);
  reader.expect(":");
  const rows = reader.integer();
  reader.expect("rows");
  let passOrigin: number | undefined;
  if (reader.accept(",")) {
    reader.expect("passes");
    reader.expect("of");
    passOrigin = readOrigin(reader, origins);
  }
  reader.expect("{");
  const [passes, leaves, ops, outputs]: [Pass[], Leaf[], AluOp[], TaskOutput[]] = [[], [], [], []];
  let wire: Wire | undefined;
  while (!reader.accept("}")) {
    if (reader.accept("send")) wire = readWire(reader, "send");
    else if (reader.accept("receive")) wire = readWire(reader, "receive");
    else if (reader.accept("pass")) passes.push(readPass(reader));
    else if (reader.peek().text.startsWith("v")) leaves.push(readLeaf(reader, leaves.length));
    else if (reader.peek(1).text === "=") ops.push(readOperation(reader, origins, ops.length));
    else outputs.push(readOutput(reader));
  }
  const key = JSON.stringify(ops);
  const chain = chains.get(key) ?? ops;
  chains.set(key, chain);
  tasks.push({
    rows,
    passes,
    ops: chain,
    leaves,
    outputs,
    ...(wire === undefined ? {} : { wire }),
    origin,
    ...(passOrigin === undefined ? {} : { passOrigin }),
  });
}

const readPanel = (reader: TokenReader): { readonly storage: number; readonly panel: number } => {
  const storage = reader.integer("the number of a storage");
  reader.expect("/");
  return { storage, panel: reader.integer("a panel") };
};

const readHalf = (reader: TokenReader): 0 | 1 => (oneOf(reader, "low or high", HALVES) === "low" ? 0 : 1);

const readRun = (reader: TokenReader): Run => {
  const row = reader.integer("a row");
  reader.expect(":");
  const count = reader.integer("a number of rows");
  return { row, step: reader.accept(":") ? reader.integer("a step") : 1, count };
};
const readRuns = (reader: TokenReader): Run[] => reader.list("[", "]", () => readRun(reader));

const readPass = (reader: TokenReader): Pass => {
  const panel = readPanel(reader);
  const half = readHalf(reader);
  const runs = readRuns(reader);
  reader.expect("by");
  if (reader.accept("tile")) return { ...panel, half, runs, weights: readTile(reader) };
  reader.expect("rows");
  return { ...panel, half, runs, weights: reader.list("{", "}", () => readLoad(reader)) };
};

const readLoad = (reader: TokenReader): WeightLoad => {
  const { storage, panel } = readPanel(reader);
  const half = readHalf(reader);
  reader.expect("[");
  const run = readRun(reader);
  reader.expect("]");
  reader.expect("lanes");
  reader.expect("[");
  const { row: first, count: lanes } = readRun(reader);
  reader.expect("]");
  return { storage, panel, run, half, first, lanes, column: after(reader, "column") };
};

/** The next of the things that are numbered. */
const next = (reader: TokenReader, letter: string, expected: number): void => {
  const token = reader.peek();
  const number = numbered(reader, letter, `${letter}${expected}`);
  if (number !== expected) reader.complain(`expected ${letter}${expected}, got '${token.text}'`, token);
  reader.expect("=");
};

const readLeaf = (reader: TokenReader, index: number): Leaf => {
  next(reader, "v", index);
  const { storage, panel } = readPanel(reader);
  const runs = readRuns(reader);
  return { storage, panel, runs, ...(reader.accept("map") ? { map: reader.integer() } : {}) };
};

const readOperation = (reader: TokenReader, origins: readonly string[], index: number): AluOp => {
  next(reader, "a", index);
  const fn = oneOf(reader, "a function of an ALU", isAluFunction);
  const args = reader.list("(", ")", () => readArgument(reader));
  return reader.accept("of") ? { fn, args, origin: readOrigin(reader, origins) } : { fn, args };
};

const readArgument = (reader: TokenReader): Argument => {
  const token: Token = reader.peek();
  if (token.kind === "number") return { constant: parseNumber(reader.next().text) };
  if (reader.accept("mxm")) return reader.accept("map") ? { mxm: true, map: reader.integer() } : { mxm: true };
  if (!token.text.startsWith("v")) return { op: numbered(reader, "a", "an operation, a leaf, a number or mxm") };
  const leaf = numbered(reader, "v", "a leaf");
  return reader.accept("as") ? { leaf, as: oneOf(reader, "i16 or i32", BITS) } : { leaf };
};

const readWire = (reader: TokenReader, kind: Wire["kind"]): Wire => {
  const name = string(reader, "the name of what goes over links");
  reader.expect("over");
  const links = reader.list("[", "]", () => reader.integer("a link"));
  const first = after(reader, "from");
  return { kind, name, links, first, ...(reader.accept("twin") ? { twin: true } : {}) };
};

const readOutput = (reader: TokenReader): TaskOutput => {
  const op = reader.accept("received")
    ? RECEIVED
    : numbered(reader, "a", "a pass, a leaf, a wire, an operation or an output");
  reader.expect("->");
  const { storage, panel } = readPanel(reader);
  const row = after(reader, "from");
  const step = reader.accept("by") ? { step: reader.integer("a step") } : {};
  const as = reader.accept("as") ? oneOf(reader, "i16 or i32", BITS) : undefined;
  return { op, storage, panel, row, ...step, ...(as === undefined ? {} : { as }) };
};

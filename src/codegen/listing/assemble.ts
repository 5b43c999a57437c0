/**
 * Assembler: a listing becomes an image. `assemble(disassemble(bytes))` equals bytes.
 *
 * Listings written by hand may leave out whatever has an obvious value: constants, origins, the first `.chip`, the only
 * `.entry` ("main"), the cycles of an entry, operands of kind optionalStream. Errors carry `file:line:col`. Times and operands are judged by the
 * encoder, so that a listing obeys exactly the rules that compiled programs obey.
 */

import { fail, sure } from "../../diagnostics.js";
import { isMnemonic, type Mnemonic } from "../../ir/isa.js";
import {
  type Binding,
  blockFinder,
  chipCycles,
  type ConstantBlock,
  type EntryPoint,
  type FieldValue,
  type HostLookup,
  type Link,
  type Program,
  type Queues,
  type StateBinding,
  parseQueueName,
  queueCount,
  queuePlace,
  type TimedInstruction,
} from "../../ir/program.js";
import { TARGETS, type Target } from "../../ir/target.js";
import { encodeQueue, notifier } from "../text/encode.js";
import { writeImage } from "../image/image.js";
import { layoutOf } from "../text/layout.js";
import {
  dtypeReader,
  edgeDtypeReader,
  mapReader,
  naturalsReader,
  placementsReader,
  targetReader,
} from "../image/metadata.js";
import { type FieldLayout, OPERAND_CODECS } from "../text/operands.js";
import { LineScanner } from "./scanner.js";

export const assemble = (text: string, file = "listing"): Uint8Array => writeImage(parseAssembly(text, file));

interface Placed {
  readonly instruction: TimedInstruction;
  /** Where it is written. */
  readonly at: string;
}

interface MemoryBuilder {
  readonly constants: ConstantBlock[];
  readonly maps: Int16Array[];
}

interface EntryBuilder {
  readonly name: string;
  readonly inputs: Binding[];
  readonly outputs: Binding[];
  readonly cycles: readonly number[] | undefined;
  readonly macs: number;
  /** By chip; chips of which nothing is said have none. */
  readonly queues: Map<number, Placed[][]>;
}

/** What has been read so far. */
interface State {
  target: Target | undefined;
  name: string;
  readonly links: Link[];
  readonly states: StateBinding[];
  readonly origins: string[];
  /** The first id of each origin. */
  readonly originIds: Map<string, number>;
  readonly tables: HostLookup["bytes"][];
  readonly entries: EntryBuilder[];
  readonly chips: MemoryBuilder[];
  readonly blockAt: ReturnType<typeof blockFinder>;
  /** The chip that is being described. */
  chip: number;
  /** Where the last binding is, for `.lookup`. */
  bindings: Binding[];
  queue: Placed[] | undefined;
}

export function parseAssembly(text: string, file = "listing"): Program {
  const chips: MemoryBuilder[] = [];
  const state: State = {
    target: undefined,
    name: "",
    links: [],
    states: [],
    origins: [],
    originIds: new Map(),
    tables: [],
    entries: [],
    chips,
    blockAt: blockFinder(chips),
    chip: 0,
    bindings: [],
    queue: undefined,
  };
  let line = 0;
  for (const content of text.split(/\r?\n/)) {
    line++;
    const scanner = new LineScanner(file, line, content);
    if (!scanner.done) readLine(state, scanner);
  }
  return finish(state, file);
}

function readLine(state: State, scanner: LineScanner): void {
  const at = scanner.at;
  const word = scanner.word("a line");
  if (word.startsWith(".")) {
    const directive = DIRECTIVES[word];
    if (directive === undefined) {
      const message = `expected one of ${Object.keys(DIRECTIVES).join(" ")}, got '${word}'`;
      fail("LPU3041", { message, at });
    }
    directive(state, scanner, at);
  } else if (word.endsWith(":")) {
    openQueue(state, word.slice(0, -1), at);
  } else {
    readInstruction(state, scanner, word, at);
  }
  scanner.end();
}

type Directive = (state: State, scanner: LineScanner, at: string) => void;

const DIRECTIVES: Readonly<Record<string, Directive>> = {
  ".program": (state, scanner) => {
    state.name = scanner.string("the name of the program");
  },
  ".target": (state, scanner, at) => {
    if (state.target !== undefined) fail("LPU3040", { message: "expected one .target, got another", at });
    state.target = readTarget(scanner);
  },
  ".link": (state, scanner) => {
    const [fromChip, fromLink] = linkEnd(scanner);
    const [toChip, toLink] = linkEnd(scanner);
    state.links.push({ fromChip, fromLink, toChip, toLink });
  },
  ".origin": (state, scanner) => {
    const name = scanner.string("the name of an origin");
    if (!state.originIds.has(name)) state.originIds.set(name, state.origins.length);
    state.origins.push(name);
  },
  ".table": (state, scanner) => {
    inSequence(scanner, "table", state.tables.length);
    const bytes = readData(scanner, undefined);
    state.tables.push(() => bytes);
  },
  ".state": (state, scanner, at) => {
    state.states.push(readBound(scanner, at));
    state.bindings = [];
  },
  ".entry": (state, scanner) => {
    const name = scanner.string("the name of an entry");
    const cycles = scanner.take("cycles=") ? scanner.json("a list of cycles", naturalsReader) : undefined;
    const macs = scanner.next("macs=") ? scanner.number("multiply-accumulates", "macs=") : 0;
    openEntry(state, name, { cycles, macs });
  },
  ".input": (state, scanner, at) => readBinding(state, scanner, at, "inputs"),
  ".output": (state, scanner, at) => readBinding(state, scanner, at, "outputs"),
  ".lookup": (state, scanner, at) => {
    const origin = scanner.string("the origin of the lookup");
    const dtype = dtypeReader(scanner.word("a dtype"), scanner.at);
    const rows = scanner.number("rows", "rows=");
    const width = scanner.number("elements", "width=");
    const bytes = state.tables[scanner.number("a table", "table=")];
    const binding = state.bindings.pop();
    if (bytes === undefined) return fail("LPU3041", { message: "expected a table that is given above", at });
    if (binding === undefined) return fail("LPU3040", { message: "expected .lookup after .input or .output", at });
    state.bindings.push({ ...binding, lookup: { origin, dtype, rows, width, bytes } });
  },
  ".chip": (state, scanner) => {
    const at = scanner.at;
    const chip = scanner.number("the number of a chip");
    if (chip > state.chips.length)
      fail("LPU3040", { message: `expected chip ${state.chips.length} or one that is given above, got ${chip}`, at });
    state.chip = chip;
    currentChip(state);
    state.queue = undefined;
  },
  ".map": (state, scanner) => {
    const { maps } = currentChip(state);
    inSequence(scanner, "map", maps.length);
    maps.push(readMap(scanner));
  },
  ".constant": readConstant,
};

function readTarget(scanner: LineScanner): Target {
  if (scanner.next("{")) return scanner.json("a target record", targetReader);
  const at = scanner.at;
  const word = scanner.word("a target");
  const known = Object.values(TARGETS).find(({ name }) => name === word);
  if (known !== undefined) return known;
  return fail("LPU3041", { message: `expected one of ${Object.keys(TARGETS).join(", ")}, got '${word}'`, at });
}

function linkEnd(scanner: LineScanner): readonly [chip: number, link: number] {
  const at = scanner.at;
  const word = scanner.word("chip.link");
  const match = /^(\d{1,5})\.(\d{1,5})$/.exec(word);
  if (match === null) return fail("LPU3040", { message: `expected chip.link, got '${word}'`, at });
  return [Number(match[1]), Number(match[2])];
}

/** The number that a listing gives to things in a list is the number that they have anyway. */
function inSequence(scanner: LineScanner, what: string, next: number): void {
  const at = scanner.at;
  const number = scanner.number(`the number of a ${what}`);
  if (number !== next) fail("LPU3040", { message: `expected ${what} ${next}, got ${number}`, at });
}

function readBinding(state: State, scanner: LineScanner, at: string, side: "inputs" | "outputs"): void {
  const entry = state.entries.at(-1);
  if (entry === undefined) fail("LPU3040", { message: "expected .entry before its inputs and outputs", at });
  state.bindings = entry[side];
  state.bindings.push(readBound(scanner, at));
}

function readBound(scanner: LineScanner, at: string): StateBinding {
  const name = scanner.string("the name of a tensor");
  const declared = edgeDtypeReader(scanner.word("a dtype"), at);
  const shape = scanner.json("a shape", naturalsReader);
  const placements = scanner.json("a list of placements", placementsReader);
  return { name, declared, shape, placements };
}

function readMap(scanner: LineScanner): Int16Array {
  return Int16Array.from(scanner.json("a list of lanes", mapReader));
}

function readConstant(state: State, scanner: LineScanner, at: string): void {
  const target = knownTarget(state, at);
  const word = scanner.word("a queue of unit mem");
  const queue = parseQueueName(target, word);
  const place = queue === undefined ? undefined : queuePlace(target, queue);
  if (place?.unit !== "mem" || place.hemisphere === undefined) {
    fail("LPU3041", { message: `expected a queue of unit mem, got '${word}'`, at });
  }
  const row = scanner.number("a row", "row=");
  const rows = scanner.number("a count of rows", "rows=");
  if (row + rows > 2 * target.rowsPerBank) {
    fail("LPU3021", { message: `expected rows up to ${2 * target.rowsPerBank - 1}, got ${row + rows - 1}`, at });
  }
  const { hemisphere, index: slice } = place;
  const { constants } = currentChip(state);
  const block = { hemisphere, slice, row, rows };
  if (!scanner.begins("like=")) {
    const bytes = readData(scanner, rows * target.lanes);
    constants.push({ ...block, bytes: () => bytes });
    return;
  }
  const chip = scanner.number("a chip", "like=");
  const like = state.blockAt(chip, block);
  if (like === undefined || chip >= state.chip)
    fail("LPU3040", { message: `expected an earlier chip with rows of its own in that place, got ${chip}`, at });
  constants.push({ ...block, bytes: like.bytes, like });
}

/** `fill 0`, `hex 00ff...` or `base64 AP8=...`; a table, whose length nothing else says, has `fill 0 x30`. */
function readData(scanner: LineScanner, length: number | undefined): Uint8Array {
  const at = scanner.at;
  const form = scanner.word("fill, hex or base64");
  if (form === "fill") {
    const value = scanner.number("a byte");
    const size = length ?? scanner.number("a length", "x");
    if (value > 255 || size > 2 ** 32) fail("LPU3040", { message: `expected a byte, got ${value}`, at });
    return new Uint8Array(size).fill(value);
  }
  const pattern = form === "hex" ? /^([0-9a-f]{2})*$/i : /^[A-Za-z0-9+/]*={0,2}$/;
  const data = scanner.done ? "" : scanner.word("data");
  if ((form !== "hex" && form !== "base64") || !pattern.test(data)) {
    fail("LPU3040", { message: `expected fill, hex or base64 and data, got '${form}'`, at });
  }
  const bytes = new Uint8Array(Buffer.from(data, form === "hex" ? "hex" : "base64"));
  if (length !== undefined && bytes.length !== length) {
    fail("LPU3040", { message: `expected ${length} bytes, got ${bytes.length}`, at });
  }
  return bytes;
}

function knownTarget({ target }: State, at: string): Target {
  return target ?? fail("LPU3040", { message: "expected .target before everything that depends on it", at });
}

/** The chip that is being described; a listing of one chip need not say `.chip 0`. */
function currentChip({ chips, chip }: State): MemoryBuilder {
  const known = chips[chip];
  if (known !== undefined) return known;
  const memory = { constants: [], maps: [] };
  chips.push(memory);
  return memory;
}

function openEntry(state: State, name: string, { cycles, macs }: Pick<EntryBuilder, "cycles" | "macs">): EntryBuilder {
  const entry = { name, inputs: [], outputs: [], cycles, macs, queues: new Map() };
  state.entries.push(entry);
  state.queue = undefined;
  return entry;
}

/** The entry of a listing that names none. */
const openMain = (state: State): EntryBuilder => openEntry(state, "main", { cycles: undefined, macs: 0 });

/** The queues of the current chip in the current entry; a listing of one entry need not say `.entry "main"`. */
function currentQueues(state: State, target: Target): Placed[][] {
  currentChip(state);
  const entry = state.entries.at(-1) ?? openMain(state);
  const known = entry.queues.get(state.chip);
  if (known !== undefined) return known;
  const queues = emptyQueues(target);
  entry.queues.set(state.chip, queues);
  return queues;
}

const emptyQueues = (target: Target): Placed[][] => Array.from({ length: queueCount(target) }, () => []);

function openQueue(state: State, name: string, at: string): void {
  const target = knownTarget(state, at);
  const queue = parseQueueName(target, name);
  if (queue === undefined) {
    const hint = "mem.w12, vxm.3, mxm.e0.weights, mxm.e0.activations, mxm.e0.accumulate, sxm.w2";
    fail("LPU3041", { message: `expected a queue, got '${name}'`, at, hint });
  }
  state.queue = currentQueues(state, target)[queue];
}

function readInstruction(state: State, scanner: LineScanner, word: string, at: string): void {
  if (!/^\d{1,15}$/.test(word))
    fail("LPU3040", { message: `expected a directive, a queue or a cycle, got '${word}'`, at });
  const { queue } = state;
  if (queue === undefined) fail("LPU3040", { message: "expected a queue before its instructions", at });
  const place = scanner.at;
  const op = scanner.word("a mnemonic");
  if (!isMnemonic(op)) fail("LPU3041", { message: `expected a mnemonic, got '${op}'`, at: place });
  const { fields, tap } = readOperands(knownTarget(state, at), scanner, op, place);
  const burst = readBurst(scanner);
  const origin = originId(state, readOrigin(state, scanner));
  queue.push({ instruction: { cycle: Number(word), op, fields, ...burst, tap, origin }, at: place });
}

interface Operands {
  readonly fields: Readonly<Record<string, FieldValue>>;
  readonly tap: number;
}

function readOperands(target: Target, scanner: LineScanner, op: Mnemonic, at: string): Operands {
  const layouts = sure(layoutOf(target).byName.get(op), "layout of an instruction").fields;
  // No operand starts as the suffixes of a line do, with `x128` or `from`.
  const given = new Map<string, FieldValue>();
  let tap = 0;
  let positional = 0;
  while (!scanner.done && !scanner.next("x") && !scanner.next("from")) {
    const place = scanner.at;
    const word = scanner.word("an operand");
    const equals = word.indexOf("=");
    const field = equals < 0 ? layouts[positional++] : layouts.find(({ name }) => name === word.slice(0, equals));
    if (field === undefined || given.has(field.name)) {
      const names = layouts.map(({ name }) => name).join(", ");
      return fail("LPU3041", { message: `expected each of (${names}) of ${op} once, got '${word}'`, at: place });
    }
    const text = word.slice(equals + 1);
    const tapped = field.tapBit >= 0 && text.endsWith("~");
    if (tapped) tap |= 1 << field.tapBit;
    given.set(field.name, parseOperand(tapped ? text.slice(0, -1) : text, field, place));
  }
  const fields: Record<string, FieldValue> = {};
  for (const { name, row } of layouts) {
    const value = given.get(name) ?? (row.kind === "optionalStream" ? -1 : undefined);
    if (value === undefined) return fail("LPU3040", { message: `expected operand '${name}' of ${op}`, at });
    fields[name] = value;
  }
  return { fields, tap };
}

function parseOperand(text: string, field: FieldLayout, at: string): FieldValue {
  const codec = OPERAND_CODECS[field.row.kind];
  const value = codec.parse(text, field);
  const expected = codec.refuse(value, field);
  if (value !== undefined && expected === undefined) return value;
  return fail("LPU3021", { message: `operand '${field.name}': expected ${expected}, got '${text}'`, at });
}

function readBurst(scanner: LineScanner): Pick<TimedInstruction, "count" | "interval" | "step"> {
  if (!scanner.next("x")) return { count: 1, interval: 1, step: 0 };
  const count = scanner.number("a count", "x");
  const interval = scanner.next("/") ? scanner.number("an interval", "/") : 1;
  const sign = scanner.next("+") ? "+" : scanner.next("-") ? "-" : undefined;
  const step = sign === undefined ? 0 : scanner.number("a step", sign);
  return { count, interval, step: sign === "-" ? -step : step };
}

/** The origin's name, or its number, or none. */
function readOrigin({ origins }: State, scanner: LineScanner): string | number {
  if (!scanner.take("from")) return "";
  if (!scanner.next("#")) return scanner.string("the name of an origin");
  const at = scanner.at;
  const id = scanner.number("the number of an origin", "#");
  return id < origins.length
    ? id
    : fail("LPU3041", { message: `expected an origin that is given above, got #${id}`, at });
}

function originId({ origins, originIds }: State, origin: string | number): number {
  if (typeof origin === "number") return origin;
  const known = originIds.get(origin);
  if (known !== undefined) return known;
  originIds.set(origin, origins.length);
  origins.push(origin);
  return origins.length - 1;
}

/** The program, after the encoder has seen every queue with the places of its instructions at hand. */
function finish(state: State, file: string): Program {
  const target = knownTarget(state, `${file}:1:1`);
  if (state.entries.length === 0) openMain(state);
  const { name, chips, links, states, origins } = state;
  const entries = state.entries.map(({ queues: given, ...entry }): EntryPoint => {
    const queues = chips.map((_, chip) => encodable(target, given.get(chip) ?? emptyQueues(target), file));
    return { ...entry, queues, cycles: entry.cycles ?? queues.map((own) => chipCycles(target, own)) };
  });
  return { target, name, chips, links, states, entries, origins };
}

/** Instructions of a chip as the encoder takes them; what it refuses is said with its line. */
function encodable(target: Target, placed: readonly (readonly Placed[])[], file: string): Queues {
  const queues = placed.map((queue) => queue.map(({ instruction }) => instruction));
  const first = notifier(queues);
  for (const [queue, instructions] of queues.entries()) {
    const locate = (index: number): string => placed[queue]?.[index]?.at ?? file;
    encodeQueue(target, queue, instructions, { notify: queue === first, locate });
  }
  return queues;
}

/**
 * The program image: a Program as bytes and back. It is the only thing that the runtime is ever given.
 *
 * `writeImage` and `imageChunks` give the same bytes, the second without holding them; each constant is asked for once.
 * `readImage` believes nothing: damage, truncation, another version and any record or text that the writer would not have
 * made are answered with LPU3024 or LPU303x, an offset or path and a reason. `writeImage(readImage(bytes))` equals bytes.
 * docs/FORMAT.md describes the format for readers in other languages.
 */

import { isUtf8 } from "node:buffer";
import { at, fail, invariant } from "../../diagnostics.js";
import { DTYPES } from "../../ir/dtype.js";
import {
  type Binding,
  blockFinder,
  type ChipMemory,
  type ConstantBlock,
  type EntryPoint,
  type HostLookup,
  likesOf,
  type Program,
  type Queues,
  queueCount,
  queueName,
} from "../../ir/program.js";
import { type Hemisphere, TARGETS, type Target } from "../../ir/target.js";
import { decodeOrigins, decodeQueue } from "../text/decode.js";
import { encodeChip, encodeOrigins, type ChipTexts, type ProgramTexts } from "../text/encode.js";
import { checkOrigins, checkQueues, checkRecord } from "./checks.js";
import {
  type BindingRecord,
  type EntryRecord,
  originsReader,
  type ProgramRecord,
  programReader,
  readJson,
  targetReader,
} from "./metadata.js";
import {
  type Container,
  containerBytes,
  containerChunks,
  openContainer,
  SECTIONS,
  type SectionOwner,
  type SectionPlace,
  type SectionSource,
} from "./sections.js";

/** A program read from an image: queues decoded, constants and lookup tables views into the image's bytes. */
export interface Image extends Program {
  readonly sections: readonly SectionPlace[];
}

const BLOCK_BYTES = 16;
/** In place of the chip that a block is like, counted from 1: its bytes are in the image. */
const OWN = 0;
const LOOKUP_ALIGN = 64;

export function writeImage(program: Program): Uint8Array {
  const sources = imageSources(program);
  const total = containerBytes(sources);
  const bytes = new Uint8Array(total);
  let position = 0;
  for (const chunk of containerChunks(sources)) {
    bytes.set(chunk, position);
    position += chunk.length;
  }
  invariant(position === total, `an image of ${total} bytes came out with ${position}`);
  return bytes;
}

/** The image piece by piece, for files that should not be in memory whole; `texts` may be given if they are known. */
export const imageChunks = (program: Program, texts?: ProgramTexts): Iterable<Uint8Array> =>
  containerChunks(imageSources(program, texts));

function imageSources(program: Program, texts?: ProgramTexts): readonly SectionSource[] {
  const { target, chips, entries } = program;
  const likes = likesOf(chips);
  const tables = new LookupTables();
  const record = programRecord(program, tables);
  checkRecord(record, target);
  checkOrigins(program);
  const json = (name: "target" | "program" | "origins", value: unknown): SectionSource =>
    inMemory({ name, chip: 0, entry: 0 }, new TextEncoder().encode(JSON.stringify(value)));
  return [
    json("target", targetReader(target, "target")),
    json("program", programReader(record, "program")),
    json("origins", originsReader(program.origins, "origins")),
    ...chips.flatMap((memory, chip) => memorySources(target, memory, at(likes, chip, "chip"), chip)),
    ...entries.flatMap(({ queues }, entry) =>
      queues.flatMap((own, chip) => queueSources(program, own, { chip, entry }, texts?.[entry]?.[chip])),
    ),
    { name: "lookups", chip: 0, entry: 0, length: tables.length, chunks: () => tables.chunks() },
  ];
}

const inMemory = (owner: SectionOwner, bytes: Uint8Array): SectionSource => ({
  ...owner,
  length: bytes.length,
  chunks: () => [bytes],
});

/** `likes`: by block the earlier chip that has it. */
function memorySources(
  target: Target,
  { constants, maps }: ChipMemory,
  likes: readonly (number | undefined)[],
  chip: number,
): readonly SectionSource[] {
  const owner = { chip, entry: 0 };
  const own = constants.filter((_, index) => likes[index] === undefined);
  return [
    inMemory({ name: "maps", ...owner }, encodeMaps(maps)),
    inMemory({ name: "blocks", ...owner }, encodeBlocks(constants, likes)),
    {
      name: "constants",
      ...owner,
      length: own.reduce((sum, { rows }) => sum + rows * target.lanes, 0),
      chunks: () => constantChunks(target, own),
    },
  ];
}

function queueSources(
  { target, chips }: Program,
  queues: Queues,
  owner: Omit<SectionOwner, "name">,
  texts: ChipTexts | undefined,
): readonly SectionSource[] {
  const { chip, entry } = owner;
  checkQueues(target, queues, chips[chip]?.maps.length ?? 0, (message) =>
    fail("LPU3021", { message, at: `chip ${chip}${entry === 0 ? "" : `, entry ${entry}`}` }),
  );
  return [
    inMemory({ name: "text", ...owner }, withLengths(texts ?? encodeChip(target, queues))),
    inMemory({ name: "debug", ...owner }, withLengths(queues.map(encodeOrigins))),
  ];
}

/** Blocks that are neighbours in one buffer go out as one chunk. */
function* constantChunks(target: Target, blocks: readonly ConstantBlock[]): Generator<Uint8Array> {
  let chunk: Uint8Array = new Uint8Array(0);
  for (const { rows, bytes } of blocks) {
    const block = bytes();
    invariant(block.length === rows * target.lanes, `a block of ${rows} rows has ${block.length} bytes`);
    if (block.buffer === chunk.buffer && block.byteOffset === chunk.byteOffset + chunk.length) {
      chunk = new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length + block.length);
    } else {
      yield chunk;
      chunk = block;
    }
  }
  yield chunk;
}

/** Lookup tables, each once: entries that use the same table share it. */
class LookupTables {
  /** By the literal that a table is, since entries have lookups of their own in the same one; by its maker in what an image had. */
  private readonly tables = new Map<
    string | HostLookup["bytes"],
    { readonly index: number; readonly length: number; readonly bytes: HostLookup["bytes"] }
  >();
  length = 0;

  /** The number of a lookup's table. */
  add({ dtype, rows, width, bytes, literal }: HostLookup): number {
    const key = literal === undefined ? bytes : `${literal} as ${dtype}`;
    const known = this.tables.get(key);
    if (known !== undefined) return known.index;
    const length = rows * width * DTYPES[dtype].bytes;
    const index = this.tables.size;
    this.tables.set(key, { index, length, bytes });
    this.length += padded(length);
    return index;
  }

  *chunks(): Generator<Uint8Array> {
    for (const { bytes, length } of this.tables.values()) {
      const table = bytes();
      invariant(table.length === length, `a lookup table of ${length} bytes has ${table.length}`);
      yield table;
      yield new Uint8Array(padded(length) - length);
    }
  }
}

const padded = (length: number): number => Math.ceil(length / LOOKUP_ALIGN) * LOOKUP_ALIGN;

function programRecord({ name, chips, links, states, entries }: Program, tables: LookupTables): ProgramRecord {
  const bindingRecord = ({ lookup, ...binding }: Binding): BindingRecord => {
    if (lookup === undefined) return { ...binding, lookup: null };
    const { origin, dtype, rows, width } = lookup;
    return { ...binding, lookup: { origin, dtype, rows, width, table: tables.add(lookup) } };
  };
  const entryRecord = ({ name, inputs, outputs, cycles, macs }: EntryPoint): EntryRecord => ({
    name,
    cycles,
    macs,
    inputs: inputs.map(bindingRecord),
    outputs: outputs.map(bindingRecord),
  });
  return { name, chips: chips.length, links, states, entries: entries.map(entryRecord) };
}

/** Byte strings behind a list of their lengths. */
function withLengths(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 4 * parts.length));
  const view = new DataView(bytes.buffer);
  let position = 4 * parts.length;
  for (const [index, part] of parts.entries()) {
    view.setUint32(4 * index, part.length, true);
    bytes.set(part, position);
    position += part.length;
  }
  return bytes;
}

function encodeMaps(maps: readonly Int16Array[]): Uint8Array {
  const values = maps.reduce((sum, { length }) => sum + length, 0);
  const bytes = new Uint8Array(4 + 4 * maps.length + 2 * values);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, maps.length, true);
  let position = 4 + 4 * maps.length;
  for (const [index, map] of maps.entries()) {
    view.setUint32(4 + 4 * index, map.length, true);
    for (const lane of map) {
      view.setInt16(position, lane, true);
      position += 2;
    }
  }
  return bytes;
}

function encodeBlocks(blocks: readonly ConstantBlock[], likes: readonly (number | undefined)[]): Uint8Array {
  const bytes = new Uint8Array(BLOCK_BYTES * blocks.length);
  const view = new DataView(bytes.buffer);
  for (const [index, { hemisphere, slice, row, rows }] of blocks.entries()) {
    const place = BLOCK_BYTES * index;
    const like = likes[index];
    view.setUint16(place, hemisphere === "W" ? 0 : 1, true);
    view.setUint16(place + 2, slice, true);
    view.setUint32(place + 4, row, true);
    view.setUint32(place + 8, rows, true);
    view.setUint32(place + 12, like === undefined ? OWN : like + 1, true);
  }
  return bytes;
}

export function readImage(bytes: Uint8Array): Image {
  const container = openContainer(bytes);
  const text = (name: "target" | "program" | "origins"): string => decodeUtf8(container.bytes(name), name);
  const target = knownTarget(readJson(text("target"), "target", targetReader));
  const record = readJson(text("program"), "program", programReader);
  checkRecord(record, target);
  const origins = readJson(text("origins"), "origins", originsReader);
  const chips: ChipMemory[] = [];
  const blockAt = blockFinder(chips);
  for (let chip = 0; chip < record.chips; chip++) chips.push(readMemory(container, target, chip, blockAt));
  const bound = readBindings(record, container.bytes("lookups"));
  const entries = bound.map((entry, index): EntryPoint => {
    const queuesOf = ({ maps }: ChipMemory, chip: number): Queues =>
      readQueues(container, target, { chip, entry: index }, { origins: origins.length, maps: maps.length });
    return { ...entry, queues: chips.map(queuesOf) };
  });
  expectSections(container, chips.length, entries.length);
  const { name, links, states } = record;
  return { target, name, chips, links, states, entries, origins, sections: container.sections };
}

/** The target of the table itself if the image was made for exactly that one. */
const knownTarget = (target: Target): Target =>
  Object.values(TARGETS).find((known) => JSON.stringify(known) === JSON.stringify(target)) ?? target;

function decodeUtf8(bytes: Uint8Array, what: string): string {
  if (!isUtf8(bytes)) fail("LPU3035", { message: "expected UTF-8", at: what });
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** Nothing but the sections that the program calls for. */
function expectSections({ sections }: Container, chips: number, entries: number): void {
  const extra = sections.find(
    ({ name, chip, entry }) => (SECTIONS[name].one !== "image" && chip >= chips) || entry >= entries,
  );
  if (extra === undefined) return;
  const message = `expected sections of ${chips} chips and ${entries} entries, got one of chip ${extra.chip} and entry ${extra.entry}`;
  fail("LPU3034", { message, at: extra.name });
}

/** Finds blocks of the chips that were read before. */
type BlockFinder = ReturnType<typeof blockFinder>;

const readMemory = (container: Container, target: Target, chip: number, blockAt: BlockFinder): ChipMemory => ({
  constants: readBlocks(container, target, chip, blockAt),
  maps: readMaps(container.bytes("maps", chip), chip),
});

/** What a chip does in an entry; `counts` are the origins and maps that there are. */
function readQueues(
  container: Container,
  target: Target,
  { chip, entry }: Omit<SectionOwner, "name">,
  counts: { readonly origins: number; readonly maps: number },
): Queues {
  const whose = `of chip ${chip}${entry === 0 ? "" : ` in entry ${entry}`}`;
  const at = (name: string, queue: number): string => `${name} ${whose}, ${queueName(target, queue)}`;
  const texts = splitLengths(container.bytes("text", chip, entry), queueCount(target), `text ${whose}`);
  const debug = splitLengths(container.bytes("debug", chip, entry), queueCount(target), `debug ${whose}`);
  const first = texts.findIndex(({ length }) => length > 0);
  const queues = texts.map((text, queue) => {
    const ids = decodeOrigins(debug[queue] ?? text, counts.origins);
    if (ids === undefined) return malformed("expected origin ids", at("debug", queue));
    const { instructions, notifies } = decodeQueue(target, queue, text, ids);
    if (ids.length !== instructions.length) {
      malformed(`expected ${instructions.length} origin ids, got ${ids.length}`, at("debug", queue));
    }
    if (notifies !== (queue === first)) {
      const message = `expected notify in the first queue of the chip and only there`;
      fail("LPU3024", { message, at: at("text", queue) });
    }
    return instructions;
  });
  checkQueues(target, queues, counts.maps, (message) => malformed(message, `text ${whose}`));
  return queues;
}

function splitLengths(bytes: Uint8Array, parts: number, what: string): readonly Uint8Array[] {
  if (bytes.length < 4 * parts) return malformed(`expected ${parts} lengths, got ${bytes.length} bytes`, what);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const result: Uint8Array[] = [];
  let position = 4 * parts;
  for (let index = 0; index < parts; index++) {
    const length = view.getUint32(4 * index, true);
    if (length > bytes.length - position) malformed(`expected ${length} bytes at ${position}`, what);
    result.push(bytes.subarray(position, position + length));
    position += length;
  }
  if (position !== bytes.length) malformed(`expected ${position} bytes, got ${bytes.length}`, what);
  return result;
}

function readMaps(bytes: Uint8Array, chip: number): readonly Int16Array[] {
  const what = `maps of chip ${chip}`;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const count = bytes.length < 4 ? -1 : view.getUint32(0, true);
  if (count < 0 || 4 + 4 * count > bytes.length) return malformed(`expected ${count} lengths`, what);
  const maps: Int16Array[] = [];
  let position = 4 + 4 * count;
  for (let index = 0; index < count; index++) {
    const length = view.getUint32(4 + 4 * index, true);
    if (2 * length > bytes.length - position) malformed(`expected ${length} lanes at ${position}`, what);
    const start = position;
    maps.push(Int16Array.from({ length }, (_, lane) => view.getInt16(start + 2 * lane, true)));
    position += 2 * length;
  }
  if (position !== bytes.length) malformed(`expected ${position} bytes, got ${bytes.length}`, what);
  return maps;
}

function readBlocks(
  container: Container,
  target: Target,
  chip: number,
  blockAt: BlockFinder,
): readonly ConstantBlock[] {
  const what = `blocks of chip ${chip}`;
  const index = container.bytes("blocks", chip);
  const data = container.bytes("constants", chip);
  const view = new DataView(index.buffer, index.byteOffset, index.length);
  const blocks: ConstantBlock[] = [];
  let position = 0;
  for (let at = 0; at + BLOCK_BYTES <= index.length; at += BLOCK_BYTES) {
    const side = view.getUint16(at, true);
    const slice = view.getUint16(at + 2, true);
    const row = view.getUint32(at + 4, true);
    const rows = view.getUint32(at + 8, true);
    const length = rows * target.lanes;
    const like = view.getUint32(at + 12, true);
    if (side > 1 || slice >= target.slices || row + rows > 2 * target.rowsPerBank) {
      malformed(`expected rows of a slice, got hemisphere ${side}, slice ${slice}, rows ${row} to ${row + rows}`, what);
    }
    const place = { hemisphere: SIDES[side] ?? "W", slice, row, rows };
    if (like !== OWN) {
      const known = blockAt(like - 1, place);
      if (known === undefined)
        return malformed(
          `expected an earlier chip with rows of its own in the place of block ${blocks.length}, got ${like - 1}`,
          what,
        );
      blocks.push({ ...place, bytes: known.bytes, like: known });
      continue;
    }
    if (length > data.length - position) malformed(`expected ${length} bytes of constants at ${position}`, what);
    const bytes = data.subarray(position, position + length);
    blocks.push({ ...place, bytes: () => bytes });
    position += length;
  }
  if (position !== data.length || index.length % BLOCK_BYTES !== 0) {
    malformed(`expected blocks of ${data.length} bytes, got ${position}`, what);
  }
  return blocks;
}

const SIDES: readonly Hemisphere[] = ["W", "E"];

/** Entries without their queues. */
function readBindings({ entries }: ProgramRecord, data: Uint8Array): readonly Omit<EntryPoint, "queues">[] {
  const tables: { readonly length: number; readonly bytes: () => Uint8Array }[] = [];
  let position = 0;
  const binding = ({ lookup, ...rest }: BindingRecord): Binding => {
    if (lookup === null) return rest;
    const { table, ...record } = lookup;
    const length = record.rows * record.width * DTYPES[record.dtype].bytes;
    if (table === tables.length) {
      if (padded(length) > data.length - position) malformed(`expected ${length} bytes at ${position}`, "lookups");
      const bytes = data.subarray(position, position + length);
      if (data.subarray(position + length, position + padded(length)).some((byte) => byte !== 0)) {
        malformed(`expected zeros after the ${length} bytes at ${position}`, "lookups");
      }
      position += padded(length);
      tables.push({ length, bytes: () => bytes });
    }
    const known = tables[table];
    if (known?.length !== length) return malformed(`expected table ${table} of ${length} bytes`, "lookups");
    return { ...rest, lookup: { ...record, bytes: known.bytes } };
  };
  const result = entries.map((entry) => ({
    ...entry,
    inputs: entry.inputs.map(binding),
    outputs: entry.outputs.map(binding),
  }));
  if (position !== data.length) malformed(`expected ${position} bytes, got ${data.length}`, "lookups");
  return result;
}

const malformed = (message: string, at: string): never => fail("LPU3034", { message, at });

/**
 * The container of an image: header, aligned sections, section table. Little-endian; all lengths and offsets in bytes.
 *
 * The header (64 bytes) gives the whole length and where the table is, the table (32 bytes a section, at the end) gives
 * place and CRC-32 of every section, and both have a CRC-32 of their own. Sections stand in the order of the table below,
 * then by entry and chip; everything between them is zero. So an image can be written in one pass without holding it in memory, and
 * the reader can refuse before it believes any length. A section belongs to the image, to a chip, or to a chip in one entry.
 * Same sections, same bytes.
 */

import { crc32 } from "node:zlib";
import { fail } from "../../diagnostics.js";

export const SECTIONS = {
  target: { code: 1, align: 8, one: "image", doc: "JSON: the whole target record that the program was made for." },
  program: {
    code: 2,
    align: 8,
    one: "image",
    doc: "JSON: name, number of chips, links, states, entries with bindings.",
  },
  origins: { code: 3, align: 8, one: "image", doc: "JSON: names of the ONNX nodes that instructions come from." },
  text: { code: 4, align: 8, one: "entry", doc: "Program text: for each queue its length (u32), then the texts." },
  debug: {
    code: 5,
    align: 8,
    one: "entry",
    doc: "Origins of instructions: for each queue a length (u32), then the ids, delta coded.",
  },
  maps: {
    code: 6,
    align: 8,
    one: "chip",
    doc: "Lane maps: how many (u32), the length of each (u32), then the lanes (i16).",
  },
  blocks: {
    code: 7,
    align: 8,
    one: "chip",
    doc: "Where constants lie: hemisphere (u16: 0 west), slice (u16), row (u32), rows (u32), zero (u32).",
  },
  constants: { code: 8, align: 4096, one: "chip", doc: "Rows of the constant blocks, one block after the other." },
  lookups: { code: 9, align: 4096, one: "image", doc: "Tables of host lookups, each at a multiple of 64." },
} as const satisfies Record<string, { code: number; align: number; one: "image" | "chip" | "entry"; doc: string }>;
export type SectionName = keyof typeof SECTIONS;

export const MAGIC: readonly number[] = [0x89, 0x4c, 0x50, 0x55, 0x0d, 0x0a, 0x1a, 0x0a];
export const VERSION = 5;
const HEADER_BYTES = 64;
const ENTRY_BYTES = 32;
const TRAILER_BYTES = 8;

/** Which section, and whose: `chip` and `entry` are 0 where the section is not of one. */
export interface SectionOwner {
  readonly name: SectionName;
  readonly chip: number;
  readonly entry: number;
}

/** A section to be written: its length is known before its bytes are. */
export interface SectionSource extends SectionOwner {
  readonly length: number;
  readonly chunks: () => Iterable<Uint8Array>;
}

export interface SectionPlace extends SectionOwner {
  readonly offset: number;
  readonly length: number;
  readonly crc: number;
}

export interface Container {
  readonly sections: readonly SectionPlace[];
  /** The bytes of a section, without a copy. */
  readonly bytes: (name: SectionName, chip?: number, entry?: number) => Uint8Array;
}

const alignUp = (value: number, align: number): number => Math.ceil(value / align) * align;
const inOrder = (a: SectionOwner, b: SectionOwner): number =>
  SECTIONS[a.name].code - SECTIONS[b.name].code || a.entry - b.entry || a.chip - b.chip;

/** A section as messages call it. */
const sectionName = ({ name, chip, entry }: SectionOwner): string => {
  const { one } = SECTIONS[name];
  const owner = one === "image" ? "" : ` of chip ${chip}`;
  return `'${name}'${owner}${one === "entry" ? ` of entry ${entry}` : ""}`;
};

interface ContainerLayout {
  readonly sorted: readonly SectionSource[];
  readonly offsets: readonly number[];
  readonly table: number;
  readonly total: number;
}

function containerLayout(sources: readonly SectionSource[]): ContainerLayout {
  const sorted = [...sources].sort(inOrder);
  const offsets: number[] = [];
  let end = HEADER_BYTES;
  for (const { name, length } of sorted) {
    const offset = alignUp(end, SECTIONS[name].align);
    offsets.push(offset);
    end = offset + length;
  }
  const table = alignUp(end, 8);
  return { sorted, offsets, table, total: table + sorted.length * ENTRY_BYTES + TRAILER_BYTES };
}

export const containerBytes = (sources: readonly SectionSource[]): number => containerLayout(sources).total;

/** The image, piece by piece; every chunk is asked for once, and only when it is its turn. */
export function* containerChunks(sources: readonly SectionSource[]): Generator<Uint8Array> {
  const { sorted, offsets, table, total } = containerLayout(sources);
  yield header(sorted.length, total, table);

  const entries = new Uint8Array(sorted.length * ENTRY_BYTES + TRAILER_BYTES);
  const view = new DataView(entries.buffer);
  let position = HEADER_BYTES;
  for (const [index, { name, chip, entry, length, chunks }] of sorted.entries()) {
    const offset = offsets[index] as number;
    yield new Uint8Array(offset - position);
    let crc = 0;
    for (const chunk of chunks()) {
      // zlib may answer 0 for no bytes, whatever came before them.
      if (chunk.length === 0) continue;
      crc = crc32(chunk, crc);
      yield chunk;
    }
    position = offset + length;
    const at = index * ENTRY_BYTES;
    view.setUint16(at, SECTIONS[name].code, true);
    view.setUint16(at + 2, chip, true);
    view.setUint32(at + 4, crc, true);
    setLength(view, at + 8, offset);
    setLength(view, at + 16, length);
    view.setUint32(at + 24, entry, true);
  }
  yield new Uint8Array(table - position);
  const tail = sorted.length * ENTRY_BYTES;
  view.setUint32(tail, crc32(entries.subarray(0, tail)), true);
  yield entries;
}

function header(count: number, total: number, table: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(MAGIC);
  view.setUint32(8, VERSION, true);
  view.setUint32(12, count, true);
  setLength(view, 16, total);
  setLength(view, 24, table);
  view.setUint32(HEADER_BYTES - 4, crc32(bytes.subarray(0, HEADER_BYTES - 4)), true);
  return bytes;
}

function setLength(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

const getLength = (view: DataView, at: number): number =>
  view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;

/** Checks header, table, places and checksums; after this every section is inside the bytes and undamaged. */
export function openContainer(bytes: Uint8Array): Container {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { count, table } = openHeader(bytes, view);
  const places: SectionPlace[] = [];
  let end = HEADER_BYTES;
  for (let index = 0; index < count; index++) {
    const at = table + index * ENTRY_BYTES;
    const place = openEntry(view, at);
    const previous = places.at(-1);
    const expected = alignUp(end, SECTIONS[place.name].align);
    if (previous !== undefined && inOrder(previous, place) >= 0) {
      fail("LPU3034", { message: `section ${sectionName(place)} is out of order`, at: `offset ${at}` });
    }
    if (place.offset !== expected || place.length > table - place.offset) {
      const message = `expected section ${sectionName(place)} at ${expected} and inside ${table} bytes, got ${place.offset} and ${place.length} bytes`;
      fail("LPU3034", { message, at: `offset ${at}` });
    }
    expectZeros(bytes, end, place.offset);
    end = place.offset + place.length;
    places.push(place);
  }
  expectZeros(bytes, end, table);
  for (const place of places) {
    const { offset, length, crc } = place;
    checkCrc(bytes.subarray(offset, offset + length), crc, `section ${sectionName(place)}`, offset);
  }
  const find = (name: SectionName, chip = 0, entry = 0): Uint8Array => {
    const wanted: SectionOwner = { name, chip, entry };
    const place = places.find((candidate) => inOrder(candidate, wanted) === 0);
    if (place === undefined) return fail("LPU3034", { message: `section ${sectionName(wanted)} is missing` });
    return bytes.subarray(place.offset, place.offset + place.length);
  };
  return { sections: places, bytes: find };
}

function openHeader(bytes: Uint8Array, view: DataView): { readonly count: number; readonly table: number } {
  const hint = "the file was not written by this compiler, or was changed in transfer (as text)";
  if (MAGIC.some((byte, index) => index < bytes.length && bytes[index] !== byte) || bytes.length === 0) {
    fail("LPU3030", { message: "expected the magic bytes of a program image", at: "offset 0", hint });
  }
  if (bytes.length < HEADER_BYTES) truncated(HEADER_BYTES, bytes.length);
  const version = view.getUint32(8, true);
  if (version !== VERSION) {
    const message = `expected version ${VERSION}, got ${version}`;
    fail("LPU3031", { message, at: "offset 8", hint: "compile the model again with this version" });
  }
  checkCrc(bytes.subarray(0, HEADER_BYTES - 4), view.getUint32(HEADER_BYTES - 4, true), "the header", 0);
  const count = view.getUint32(12, true);
  const total = getLength(view, 16);
  const table = getLength(view, 24);
  if (total > bytes.length) truncated(total, bytes.length);
  if (total < bytes.length)
    fail("LPU3034", { message: `expected ${total} bytes, got ${bytes.length}`, at: `offset ${total}` });
  if (total !== table + count * ENTRY_BYTES + TRAILER_BYTES || table < HEADER_BYTES || table % 8 !== 0) {
    fail("LPU3034", {
      message: `expected a table of ${count} sections at ${table} to end at ${total}`,
      at: "offset 12",
    });
  }
  if (bytes.subarray(32, HEADER_BYTES - 4).some((byte) => byte !== 0)) {
    fail("LPU3034", { message: "expected zeros in the rest of the header", at: "offset 32" });
  }
  const tail = total - TRAILER_BYTES;
  checkCrc(bytes.subarray(table, tail), view.getUint32(tail, true), "the section table", table);
  expectZeros(bytes, tail + 4, total);
  return { count, table };
}

function openEntry(view: DataView, at: number): SectionPlace {
  const code = view.getUint16(at, true);
  const name = SECTION_NAMES.find((candidate) => SECTIONS[candidate].code === code);
  const chip = view.getUint16(at + 2, true);
  const entry = view.getUint32(at + 24, true);
  if (name === undefined)
    return fail("LPU3034", { message: `expected a known section, got code ${code}`, at: `offset ${at}` });
  const { one } = SECTIONS[name];
  if ((chip > 0 && one === "image") || (entry > 0 && one !== "entry")) {
    const message = `expected one section '${name}'${one === "image" ? "" : " a chip"}, got one of chip ${chip} and entry ${entry}`;
    fail("LPU3034", { message, at: `offset ${at}` });
  }
  if (view.getUint32(at + 28, true) !== 0)
    fail("LPU3034", { message: "expected zeros at the end of the section's record", at: `offset ${at + 28}` });
  return {
    name,
    chip,
    entry,
    offset: getLength(view, at + 8),
    length: getLength(view, at + 16),
    crc: view.getUint32(at + 4, true),
  };
}

const isSectionName = (name: string): name is SectionName => Object.hasOwn(SECTIONS, name);
const SECTION_NAMES: readonly SectionName[] = Object.keys(SECTIONS).filter(isSectionName);

function checkCrc(bytes: Uint8Array, expected: number, what: string, offset: number): void {
  const crc = crc32(bytes);
  if (crc === expected) return;
  const message = `expected checksum ${hex(expected)} of ${what}, got ${hex(crc)}`;
  fail("LPU3033", { message, at: `offset ${offset}`, hint: "copy or compile the image again" });
}

const hex = (value: number): string => value.toString(16).padStart(8, "0");

function expectZeros(bytes: Uint8Array, start: number, end: number): void {
  const index = bytes.subarray(start, end).findIndex((byte) => byte !== 0);
  if (index >= 0) fail("LPU3034", { message: "expected zeros between sections", at: `offset ${start + index}` });
}

function truncated(expected: number, actual: number): never {
  const message = `expected ${expected} bytes, got ${actual}`;
  return fail("LPU3032", { message, at: `offset ${actual}`, hint: "copy the whole file again" });
}

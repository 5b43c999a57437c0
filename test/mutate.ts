/**
 * Random damage to models, images and listings, for fuzzing. Everything is drawn from one seeded source, so a case can be made
 * again from its number. Damage is of two kinds: of bytes, which tests the readers, and of meaning (another operator, another
 * shape, a checksum put right again), which gets past the readers and tests what comes after them.
 */

import { crc32 } from "node:zlib";
import { type AttributeValue, modelBytes, type OnnxModel, type OnnxNode } from "../models/onnx-writer.js";
import { RULES } from "../src/frontend/rules/table.js";
import { ISA } from "../src/ir/isa.js";
import type { Random } from "./random-program.js";

const NUMBERS = [
  0,
  1,
  -1,
  2,
  3,
  7,
  15,
  16,
  17,
  31,
  64,
  127,
  128,
  255,
  256,
  1000,
  4095,
  4096,
  65535,
  65536,
  2 ** 31 - 1,
  -(2 ** 31),
  2 ** 32,
  2 ** 40,
  2 ** 53,
];

export const oneOf = <T>(random: Random, list: readonly T[], otherwise: T): T => list[random(list.length)] ?? otherwise;
const number = (random: Random): number => oneOf(random, NUMBERS, 0);

/** One to four edits of bytes, or a cut. */
export function mutateBytes(random: Random, bytes: Uint8Array): Uint8Array {
  let result = bytes;
  for (let edits = 1 + random(4); edits > 0 && result.length > 0; edits--) result = editBytes(random, result);
  return result;
}

function editBytes(random: Random, bytes: Uint8Array): Uint8Array {
  const at = random(bytes.length);
  const length = 1 + random(oneOf(random, [4, 64, 1024], 4));
  const [before, chosen, after] = [bytes.subarray(0, at), bytes.slice(at, at + length), bytes.subarray(at + length)];
  switch (random(8)) {
    case 0:
      return before;
    case 1:
      return joined(before, after);
    case 2:
      return joined(before, chosen, chosen, after);
    case 3: {
      const other = random(bytes.length);
      return joined(before, bytes.slice(other, other + length), after);
    }
    case 4:
      return joined(before, chosen.fill(oneOf(random, [0, 255, 128, 127], 0)), after);
    default: {
      const copy = bytes.slice();
      copy[at] = random(2) === 0 ? random(256) : (copy[at] ?? 0) ^ (1 << random(8));
      return copy;
    }
  }
}

const joined = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

// Listings

const WORDS = [
  ...Object.keys(ISA),
  "e0",
  "w31",
  "alu0@0",
  "-",
  "x4",
  "/2",
  "+1",
  ".map",
  ".chip",
  ".entry",
  "[]",
  "{}",
  '"',
  "nan",
  "1e400",
];

export function mutateText(random: Random, text: string): string {
  const lines = text.split("\n");
  for (let edits = 1 + random(4); edits > 0; edits--) {
    const at = random(lines.length);
    const line = lines[at] ?? "";
    switch (random(6)) {
      case 0:
        lines.splice(at, 1);
        break;
      case 1:
        lines.splice(at, 0, line);
        break;
      case 2:
        lines.splice(random(lines.length), 0, ...lines.splice(at, 1));
        break;
      case 3:
        lines[at] = new TextDecoder().decode(mutateBytes(random, new TextEncoder().encode(line)));
        break;
      case 4:
        lines[at] = replaceOne(random, line, /-?\d+/g, () => String(number(random)));
        break;
      default:
        lines[at] = replaceOne(random, line, /[^\s,=[\]{}]+/g, () => oneOf(random, WORDS, "-"));
    }
  }
  return lines.join("\n");
}

function replaceOne(random: Random, line: string, pattern: RegExp, replacement: () => string): string {
  const matches = [...line.matchAll(pattern)];
  const match = matches[random(Math.max(1, matches.length))];
  if (match === undefined) return line;
  return line.slice(0, match.index) + replacement() + line.slice(match.index + match[0].length);
}

// Images

const ENTRY_BYTES = 32;
/** JSON sections, where a digit becomes another digit: the image stays well-formed and says something else. */
const JSON_SECTIONS = 3;

/** Damage within one section, with all checksums right; or of any byte, with checksums as they are. */
export function mutateImage(random: Random, image: Uint8Array): Uint8Array {
  if (random(4) === 0) return mutateBytes(random, image);
  const bytes = image.slice();
  const view = new DataView(bytes.buffer);
  const [count, table] = [view.getUint32(12, true), Number(view.getBigUint64(24, true))];
  for (let edits = 1 + random(3); edits > 0; edits--) {
    const entry = table + random(count) * ENTRY_BYTES;
    const [code, offset, length] = [
      view.getUint16(entry, true),
      Number(view.getBigUint64(entry + 8, true)),
      Number(view.getBigUint64(entry + 16, true)),
    ];
    const section = bytes.subarray(offset, offset + length);
    if (length > 0) editSection(random, section, code <= JSON_SECTIONS);
    view.setUint32(entry + 4, crc32(section), true);
  }
  if (random(8) === 0) bytes[random(60)] = random(256);
  view.setUint32(table + count * ENTRY_BYTES, crc32(bytes.subarray(table, table + count * ENTRY_BYTES)), true);
  view.setUint32(60, crc32(bytes.subarray(0, 60)), true);
  return bytes;
}

function editSection(random: Random, section: Uint8Array, json: boolean): void {
  const digits = json ? [...section.keys()].filter((at) => isDigit(section[at] ?? 0)) : [];
  if (digits.length > 0 && random(4) > 0) section[oneOf(random, digits, 0)] = 0x30 + random(10);
  else section[random(section.length)] = random(256);
}

const isDigit = (byte: number): boolean => byte >= 0x30 && byte <= 0x39;

// Models

const OPERATORS = [...new Set(RULES.filter(({ domain = "" }) => domain === "").map(({ op }) => op))];

/** Another operator, other operands, other attributes, other shapes: mostly a model that is well-formed and makes no sense. */
export function mutateModel(random: Random, model: OnnxModel): Uint8Array {
  let changed = model;
  for (let edits = 1 + random(3); edits > 0; edits--) changed = editModel(random, changed);
  const bytes = modelBytes(changed);
  return random(8) === 0 ? mutateBytes(random, bytes) : bytes;
}

function editModel(random: Random, model: OnnxModel): OnnxModel {
  const names = [...model.inputs, ...model.initializers]
    .map(({ name }) => name)
    .concat(model.nodes.flatMap(({ outputs }) => outputs));
  const dimsOf = (dims: readonly number[]): readonly number[] =>
    replaceAt(random, dims, () => oneOf(random, [0, 1, 2, 3, 5, 8, 16, 17, number(random)], 1));
  const edits: readonly (() => OnnxModel)[] = [
    () => ({ ...model, nodes: replaceAt(random, model.nodes, (node) => editNode(random, node, names)) }),
    () => ({ ...model, nodes: replaceAt(random, model.nodes, (node) => editNode(random, node, names)) }),
    () => ({ ...model, nodes: model.nodes.filter((_, at) => at !== random(model.nodes.length)) }),
    () => ({ ...model, inputs: replaceAt(random, model.inputs, (input) => ({ ...input, dims: dimsOf(input.dims) })) }),
    () => ({
      ...model,
      inputs: replaceAt(random, model.inputs, (input) => ({
        ...input,
        type: oneOf(random, ["float32", "int64", "bool"] as const, "bool"),
      })),
    }),
    () => ({
      ...model,
      initializers: replaceAt(random, model.initializers, (each) => ({ ...each, dims: [...each.dims].reverse() })),
    }),
    () => ({ ...model, opset: oneOf(random, [7, 9, 11, 13, 18, 21, 25], 18) }),
    () => ({ ...model, outputs: [...model.outputs, { name: oneOf(random, names, "y"), type: "float32", dims: [1] }] }),
  ];
  return oneOf(random, edits, () => model)();
}

function editNode(random: Random, node: OnnxNode, names: readonly string[]): OnnxNode {
  const edits: readonly (() => OnnxNode)[] = [
    () => ({ ...node, op: oneOf(random, OPERATORS, "Abs") }),
    () => ({ ...node, inputs: replaceAt(random, node.inputs, () => oneOf(random, names, "")) }),
    () => ({ ...node, inputs: random(2) === 0 ? node.inputs.slice(1) : [...node.inputs, oneOf(random, names, "")] }),
    () => ({
      ...node,
      attributes: Object.fromEntries(
        Object.entries(node.attributes).map(([name, value]) => [name, editAttribute(random, value)]),
      ),
    }),
    () => ({
      ...node,
      attributes: {
        ...node.attributes,
        [oneOf(random, ATTRIBUTES, "axis")]: editAttribute(random, oneOf(random, [0, [0, 1], "x"], 0)),
      },
    }),
  ];
  return oneOf(random, edits, () => node)();
}

const ATTRIBUTES = [
  "axis",
  "axes",
  "perm",
  "keepdims",
  "epsilon",
  "pads",
  "strides",
  "dilations",
  "group",
  "to",
  "mode",
  "transB",
  "alpha",
  "exclusive",
];

function editAttribute(random: Random, value: AttributeValue): AttributeValue {
  if (typeof value === "number") return number(random);
  if (typeof value === "string") return oneOf(random, ["", "constant", "edge", "wrap", "tanh"], "");
  if ("float" in value) return { float: oneOf(random, [0, -1, 1e-30, 1e30, Number.NaN], 0) };
  if ("graph" in value) return value;
  if ("floats" in value) return { floats: [...value.floats, number(random)] };
  return random(3) === 0
    ? [...value, number(random)]
    : replaceAt(random, value, () => oneOf(random, [0, 1, -1, 2, number(random)], 0));
}

function replaceAt<T>(random: Random, list: readonly T[], replace: (item: T) => T): readonly T[] {
  const place = random(Math.max(1, list.length));
  return list.map((item, at) => (at === place ? replace(item) : item));
}

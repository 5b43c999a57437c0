/** Attention of grouped heads against ONNX Runtime: caps, windows, rotary positions, and scores besides the keys'. */

import { describe, expect, test } from "@jest/globals";
import type { AttributeValue } from "../models/onnx-writer.js";
import { at, sure } from "../src/diagnostics.js";
import { iota } from "../src/frontend/rule.js";
import { evaluate } from "../src/ir/evaluate.js";
import { elementCount } from "../src/ir/graph.js";
import { tensorOf, toFloats } from "../src/ir/tensor.js";
import {
  constant,
  expectAgreement,
  float,
  importNode,
  type NodeCase,
  type Operand,
  refusalOf,
  whole,
} from "./agreement.js";

const MICROSOFT = "com.microsoft";
/** Numbers of either sign up to `most`, in no order. */
const spread = (most: number, ...dims: readonly number[]): Operand =>
  float(
    dims,
    Array.from({ length: elementCount(dims) }, (_, i) => (((Math.imul(i + 1, 40503) >>> 5) % 2001) / 1000 - 1) * most),
  );

const [BATCH, HEADS, GROUPS, WIDTH] = [2, 4, 2, 16];
const LONGEST = 64;
const angles = (of: (angle: number) => number): Operand =>
  constant(
    float(
      [LONGEST, WIDTH / 2],
      Array.from({ length: (LONGEST * WIDTH) / 2 }, (_, i) => of(Math.floor(i / (WIDTH / 2)) / 7 ** (i % (WIDTH / 2)))),
    ),
  );

/** `past` keys in a buffer of as many, then `length` new ones. */
function grouped(
  { length, past }: { readonly length: number; readonly past: number },
  attributes: Readonly<Record<string, AttributeValue>>,
  more: Readonly<Record<number, Operand>> = {},
): NodeCase {
  const cache = (): Operand => spread(2, BATCH, GROUPS, past, WIDTH);
  const operands: (Operand | undefined)[] = [
    spread(3, BATCH, length, HEADS * WIDTH),
    spread(2, BATCH, length, GROUPS * WIDTH),
    spread(1.5, BATCH, length, GROUPS * WIDTH),
    ...(past === 0 ? [undefined, undefined] : [cache(), cache()]),
    whole([BATCH], Array(BATCH).fill(past + length - 1), "int32"),
    constant(whole([1], [past + length], "int32")),
  ];
  for (const [index, operand] of Object.entries(more)) operands[Number(index)] = operand;
  return {
    op: "GroupQueryAttention",
    domain: MICROSOFT,
    attributes: { num_heads: HEADS, kv_num_heads: GROUPS, ...attributes },
    operands: Array.from(operands, (operand) => operand),
    results: ["float32", "float32", "float32"],
  };
}

const PROMPT = { length: 24, past: 0 };
const STEP = { length: 1, past: 30 };
const ROTARY = { 7: angles(Math.cos), 8: angles(Math.sin) };
const SINKS = { 11: float([HEADS], [1.5, -2, 6, 0]) };

describe.each([
  ["a prompt", PROMPT],
  ["a step", STEP],
])("%s", (_, sizes) => {
  test.each<[string, Readonly<Record<string, AttributeValue>>, Readonly<Record<number, Operand>>]>([
    ["plain", {}, {}],
    ["a cap", { softcap: { float: 2.5 } }, {}],
    ["a window", { local_window_size: 7 }, {}],
    ["rotary positions", { do_rotary: 1 }, ROTARY],
    ["rotary positions, interleaved", { do_rotary: 1, rotary_interleaved: 1 }, ROTARY],
    ["a smooth softmax", { smooth_softmax: 1 }, {}],
    ["sinks of the heads", {}, SINKS],
    ["all together", { do_rotary: 1, local_window_size: 5, softcap: { float: 4 } }, { ...ROTARY, ...SINKS }],
  ])("%s", async (__, attributes, more) => {
    await expectAgreement(grouped(sizes, attributes, more));
  });
});

describe("sequences of several lengths", () => {
  const ofLengths = (sizes: typeof PROMPT, last: readonly number[], more: Readonly<Record<number, Operand>> = {}) => ({
    ...more,
    5: whole([BATCH], last, "int32"),
    6: constant(whole([1], [sizes.past + sizes.length], "int32")),
  });
  test.each<[string, typeof PROMPT, readonly number[]]>([
    ["begin together, and no query sees what fills them up", PROMPT, [9, 23]],
    ["go on each at its end, with zeros behind it", STEP, [11, 30]],
  ])("%s", async (_, sizes, last) => {
    await expectAgreement(grouped(sizes, {}, ofLengths(sizes, last)));
    await expectAgreement(grouped(sizes, { do_rotary: 1 }, ofLengths(sizes, last, ROTARY)));
    // Behind an end a window may hold no key at all.
    await expectAgreement(grouped(sizes, { local_window_size: 4 }, ofLengths(sizes, last)));
  });

  test("begin at the beginning of a buffer with more rows", async () => {
    const buffer = (): Operand => spread(2, BATCH, GROUPS, 40, WIDTH);
    const more = { 3: buffer(), 4: buffer(), ...ofLengths(PROMPT, [5, 23], ROTARY) };
    await expectAgreement(grouped(PROMPT, { do_rotary: 1 }, more));
  });
});

test("a sink far above the scores takes all of the weight, and one far below none", async () => {
  for (const sink of [300, -300])
    await expectAgreement(grouped(PROMPT, {}, { 11: float([HEADS], Array(HEADS).fill(sink)) }), { evaluated: 1e-5 });
});

test("what is not honoured is refused by name", () => {
  const refused = (attributes: Readonly<Record<string, AttributeValue>>): string =>
    refusalOf(grouped(PROMPT, attributes));
  expect(refused({ causal: 0 })).toContain("attribute 'causal' would change the result");
  expect(refused({ sliding_window_cache: 1 })).toContain("attribute 'sliding_window_cache'");
  expect(refused({ k_quant_type: "PER_TENSOR" })).toContain("attribute 'k_quant_type'");
  expect(refused({ causal: 1, smooth_softmax: 0, qk_output: 0, v_quant_type: "NONE" })).toBe("none");
});

describe("rotary positions", () => {
  const rotary = (positions: Operand, attributes: Readonly<Record<string, AttributeValue>> = {}): NodeCase => ({
    op: "RotaryEmbedding",
    domain: MICROSOFT,
    attributes,
    operands: [spread(2, BATCH, 9, 3 * WIDTH), positions, angles(Math.cos), angles(Math.sin)],
  });
  test("of each place, and counted from one", async () => {
    const places = Array.from({ length: BATCH * 9 }, (_, i) => (i * 5) % 40);
    await expectAgreement(rotary(whole([BATCH, 9], places)));
    await expectAgreement(rotary(whole([1], [3])));
    await expectAgreement(rotary(whole([], [4]), { interleaved: 1 }));
    await expectAgreement(rotary(whole([1], [3]), { scale: { float: 1 } }));
  });
});

test("a past that ONNX Runtime does not read is refused", () => {
  const given = (results: NodeCase["results"]): NodeCase => ({
    op: "MultiHeadAttention",
    domain: MICROSOFT,
    attributes: { num_heads: 1 },
    operands: [
      ...[1, 2, 3].map(() => spread(1, 1, 1, 4)),
      ...[3, 4, 5].map(() => undefined),
      ...[6, 7].map(() => spread(1, 1, 1, 1, 4)),
    ],
    results: results ?? [],
  });
  expect(refusalOf(given(["float32"]))).toContain("a past without present keys and values");
  expect(refusalOf(given(["float32", "float32", "float32"]))).toBe("none");
});

test("keys that are masked and keys that come later are told apart where a mask leaves a row nothing else", async () => {
  const [length, width] = [9, 32];
  await expectAgreement({
    op: "Attention",
    domain: MICROSOFT,
    attributes: { num_heads: 2, unidirectional: 1 },
    operands: [
      spread(1, BATCH, length, width),
      constant(spread(0.4, width, 3 * width)),
      constant(spread(0.2, 3 * width)),
      whole(
        [BATCH, length],
        Array.from({ length: BATCH * length }, (_, i) => Number(i >= length)),
        "int32",
      ),
    ],
  });
});

test("a mask of the least finite number beside keys that come later, where it leaves a row nothing else", async () => {
  const [length, width] = [9, 16];
  const least = -3.4028234663852886e38;
  // Of the first sequence the first keys are masked, as where it is filled up on the left.
  const bias = float(
    [BATCH, 1, length, length],
    Array.from({ length: BATCH * length * length }, (_, i) => (i < length * length && i % length < 4 ? least : 0)),
  );
  const heads = (rank: number): readonly Operand[] =>
    [2, 1.5, 1].map((most) =>
      rank === 4 ? spread(most, BATCH, 2, length, width) : spread(most, BATCH, length, 2 * width),
    );
  await expectAgreement({
    op: "MultiHeadAttention",
    domain: MICROSOFT,
    attributes: { num_heads: 2, unidirectional: 1 },
    operands: [...heads(3), undefined, undefined, bias],
  });
  // The standard's attention takes minus infinity for what comes later: where all else is masked, the keys up to there share the weight.
  const operands = [...heads(4), bias];
  const graph = importNode({ op: "Attention", opset: 23, attributes: { is_causal: 1 }, operands });
  const inputs = operands.map(({ dims, values }, i) => [`x${i}`, tensorOf("f32", dims, values)] as const);
  const [output] = evaluate(graph, Object.fromEntries(inputs));
  const { values } = at(operands, 2, "operand");
  const mean = iota(width).map((i) => (at(values, i, "value") + at(values, width + i, "value")) / 2);
  const row = toFloats(sure(output, "output")).subarray(width, 2 * width);
  expect(mean.every((value, i) => Math.abs(value - at(row, i, "value")) < 1e-5)).toBe(true);
});

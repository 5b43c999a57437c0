/**
 * Program text, image and listing: audits of the tables, round trips of everything that the tables allow, and refusals.
 *
 * Instructions are generated from ISA and OPERAND_CODECS, so a new instruction is tested without a change here.
 */

import { crc32 } from "node:zlib";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { assemble, parseAssembly } from "../src/codegen/listing/assemble.js";
import { decodeOrigins, decodeQueue } from "../src/codegen/text/decode.js";
import { disassemble, listing } from "../src/codegen/listing/disassemble.js";
import { encodeOrigins, encodeQueue } from "../src/codegen/text/encode.js";
import { imageChunks, readImage, writeImage } from "../src/codegen/image/image.js";
import { type InstructionLayout, layoutOf, nextDispatch } from "../src/codegen/text/layout.js";
import { mayIssue } from "../src/ir/bursts.js";
import type { FieldLayout } from "../src/codegen/text/operands.js";
import { VERSION } from "../src/codegen/image/sections.js";
import { CompileError, DIAGNOSTICS, type DiagnosticCode } from "../src/diagnostics.js";
import { DTYPES } from "../src/ir/dtype.js";
import {
  ALU_FUNCTIONS,
  completionCycles,
  ISA,
  type InstructionRow,
  isAluFunction,
  MNEMONICS,
  OPERAND_KINDS,
} from "../src/ir/isa.js";
import {
  chipCycles,
  type FieldValue,
  type Program,
  parseQueueName,
  queueCount,
  queueName,
  type TimedInstruction,
  unitOfQueue,
} from "../src/ir/program.js";
import { TARGETS, type Target } from "../src/ir/target.js";

const ALL_TARGETS: readonly Target[] = Object.values(TARGETS);
const TINY = TARGETS.tiny;

/** The code and place of the error that a function raises. */
function refusal(action: () => unknown): { readonly code: DiagnosticCode; readonly at: string } {
  try {
    action();
  } catch (error) {
    if (error instanceof CompileError) return { code: error.code, at: error.details.at ?? "" };
    return { code: "LPU1001", at: `raw exception: ${String(error)}` };
  }
  return { code: "LPU1001", at: "no error" };
}

describe("audits of the tables", () => {
  const rows: readonly InstructionRow[] = Object.values(ISA);

  test("opcodes and function codes are bytes and unique", () => {
    const opcodes = rows.map(({ opcode }) => opcode);
    const codes = Object.values(ALU_FUNCTIONS).map(({ code }) => code);
    for (const list of [opcodes, codes]) {
      expect(new Set(list).size).toBe(list.length);
      expect(list.every((code) => code >= 0 && code < 256)).toBe(true);
    }
  });

  test("every doc is a sentence that ends in a period", () => {
    const docs = [
      ...rows.flatMap(({ doc, fields }) => [doc, ...Object.values(fields).map((field) => field.doc)]),
      ...[OPERAND_KINDS, ALU_FUNCTIONS, TARGETS, DTYPES, DIAGNOSTICS].flatMap((table) =>
        Object.values(table).map(({ doc }) => doc),
      ),
    ];
    expect(docs.filter((doc) => !doc.endsWith("."))).toEqual([]);
  });

  test("every latency that a row names is in every target", () => {
    for (const { timing } of ALL_TARGETS) {
      for (const { takes, gives } of rows) {
        for (const name of [...Object.values(takes).map(({ skew }) => skew), ...Object.values(gives)]) {
          if (name !== 0) expect(timing[name]).toBeGreaterThanOrEqual(0);
        }
      }
    }
  });

  test("what a row takes and gives are fields of it, and every kind is used", () => {
    for (const { takes, gives, fields } of rows) {
      for (const name of [...Object.keys(takes), ...Object.keys(gives)]) expect(Object.keys(fields)).toContain(name);
    }
    const used = new Set(rows.flatMap(({ fields }) => Object.values(fields).map(({ kind }) => kind)));
    expect(Object.keys(OPERAND_KINDS).filter((kind) => ![...used].some((one) => one === kind))).toEqual([]);
  });

  test("all bits of an instruction are fields: its longest text is as long as its layout says", () => {
    for (const target of ALL_TARGETS) {
      for (const layout of layoutOf(target).byName.values()) {
        if (layout.own) continue;
        const queue = queueFor(target, layout);
        const instruction = build(layout, (field) => boundaries(field).at(-1) ?? 0, { cycle: target.timing.barrier });
        if (layout.op === "ternary") {
          // Three constants are the one thing that a dispatch cannot hold (and that has no use).
          expect(refusal(() => encodeQueue(target, queue, [instruction], { notify: false })).code).toBe("LPU3022");
          continue;
        }
        const text = encodeQueue(target, queue, [instruction], { notify: false });
        expect(text.length - 1).toBe(layout.bytes);
        expect(layout.bytes + (layout.generator ? 9 : 0)).toBeLessThanOrEqual(target.dispatchBytes);
      }
    }
  });

  test("completion is at least a cycle, and follows the target", () => {
    for (const target of ALL_TARGETS) {
      for (const op of MNEMONICS) expect(completionCycles(target, { op, fields: {} })).toBeGreaterThanOrEqual(1);
    }
    const target = TARGETS["lpu-v1"];
    expect(completionCycles(target, { op: "acc", fields: { give: 0 } })).toBe(target.timing.mxmAccumulate);
    expect(completionCycles(target, { op: "acc", fields: { give: -1 } })).toBe(1);
    expect(completionCycles(target, { op: "write", fields: {} })).toBe(target.timing.memWrite);
  });
});

describe("queue names", () => {
  test("are one to one, and as documented", () => {
    for (const target of ALL_TARGETS) {
      const names = Array.from({ length: queueCount(target) }, (_, queue) => queueName(target, queue));
      expect(new Set(names).size).toBe(names.length);
      expect(names.map((name) => parseQueueName(target, name))).toEqual(names.map((_, queue) => queue));
    }
    const known = [
      "mem.w12",
      "vxm.3",
      "mxm.e0.weights",
      "mxm.w1.activations",
      "mxm.e1.accumulate",
      "sxm.w2",
      "mem.e15",
    ];
    expect(known.filter((name) => parseQueueName(TINY, name) === undefined)).toEqual([]);
  });

  test("others are not parsed", () => {
    const names = [
      "mem.w16",
      "mem.12",
      "vxm.w1",
      "vxm.16",
      "mxm.e2.weights",
      "mxm.e0",
      "sxm.e14",
      "mem.w1.weights",
      "",
      "mem",
    ];
    expect(names.filter((name) => parseQueueName(TINY, name) !== undefined)).toEqual([]);
  });
});

/** A queue that may issue an instruction. */
function queueFor(target: Target, { row }: InstructionLayout): number {
  return Array.from({ length: queueCount(target) }, (_, queue) => queue).findIndex((queue) =>
    mayIssue(row, unitOfQueue(target, queue)),
  );
}

/** Least, greatest and middle values of a field. */
function boundaries(field: FieldLayout): readonly FieldValue[] {
  const { target, row, min, max, sources } = field;
  if (row.kind === "type") return ["f16", "bool"];
  if (row.kind === "function") return functionsOf(sources);
  if (row.kind !== "source") return [min, Math.floor((min + max) / 2), max];
  return [
    { stream: 0, tap: true },
    { stream: 2 * target.streams - 1, tap: false },
    { alu: 0, age: 0 },
    { alu: target.alus - 1, age: target.chainDepth },
    ...[0, -0, 1, -1.5, Math.fround(0.1), Math.fround(1e-45), 3.4028234663852886e38, Number.NaN].map((constant) => ({
      constant,
    })),
    ...[Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 123456792, 2147483648].map((constant) => ({ constant })),
    ...[16777217, 2147483647, -2147483647].map((constant) => ({ constant })),
  ];
}

const functionsOf = (sources: number): readonly FieldValue[] =>
  Object.keys(ALU_FUNCTIONS)
    .filter(isAluFunction)
    .filter((name) => ALU_FUNCTIONS[name].operands === sources);

function build(
  { op, fields }: InstructionLayout,
  value: (field: FieldLayout) => FieldValue,
  more: Partial<TimedInstruction>,
): TimedInstruction {
  const values = Object.fromEntries(fields.map((field) => [field.name, value(field)]));
  return { cycle: 0, op, fields: values, count: 1, interval: 1, step: 0, tap: 0, origin: 0, ...more };
}

/** Any value of a field. */
function anyValue(field: FieldLayout): fc.Arbitrary<FieldValue> {
  const { target, row, min, max, sources } = field;
  if (row.kind === "type" || row.kind === "function") {
    return fc.constantFrom(
      ...(row.kind === "type" ? ["f16", "f32", "i32", "i16", "u16", "i8", "u8", "bool"] : functionsOf(sources)),
    );
  }
  if (row.kind !== "source") return fc.integer({ min, max });
  return fc.oneof(
    fc.record({ stream: fc.nat(2 * target.streams - 1), tap: fc.boolean() }),
    fc.record({ alu: fc.nat(target.alus - 1), age: fc.nat(target.chainDepth) }),
    fc.record({ constant: fc.float() }),
  );
}

/** One legal instruction, `gap` cycles after the queue is free; a field that moves starts where the burst stays in range. */
function anyInstruction(
  layout: InstructionLayout,
): fc.Arbitrary<{ readonly gap: number; readonly instruction: TimedInstruction }> {
  return fc
    .record({
      gap: fc.oneof(fc.nat(5), fc.nat(200000)),
      values: fc.tuple(...layout.fields.map(anyValue)),
      count: layout.op === "deskew" ? fc.constant(1) : fc.oneof(fc.constant(1), fc.integer({ min: 2, max: 16 })),
      interval: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 65535 })),
      step: layout.steps ? fc.integer({ min: -3, max: 3 }) : fc.constant(0),
      tap: fc.nat(layout.tapMask).map((bits) => bits & layout.tapMask),
      origin: fc.nat(3),
    })
    .map(({ gap, values, count, interval, step, tap, origin }) => {
      const single = count === 1;
      const reach = (field: FieldLayout, value: FieldValue): FieldValue => {
        const { advances } = field.row;
        if (typeof value !== "number" || typeof advances === "undefined" || advances === "ways" || single) return value;
        const distance = (count - 1) * (advances === "step" ? step : advances);
        return Math.min(Math.max(value, field.min - Math.min(distance, 0)), field.max - Math.max(distance, 0));
      };
      const fields = Object.fromEntries(
        layout.fields.map((field, index) => [field.name, reach(field, values[index] ?? 0)]),
      );
      return {
        gap,
        instruction: {
          cycle: 0,
          op: layout.op,
          fields,
          count,
          interval: single ? 1 : interval,
          step: single ? 0 : step,
          tap,
          origin,
        },
      };
    });
}

const constants = ({ fields }: TimedInstruction): number =>
  Object.values(fields).filter((value) => typeof value === "object" && "constant" in value).length;

/** A legal list of instructions of one queue. */
function anyQueue(target: Target, queue: number): fc.Arbitrary<TimedInstruction[]> {
  const { byName } = layoutOf(target);
  const layouts = [...byName.values()].filter(({ own, row }) => !own && mayIssue(row, unitOfQueue(target, queue)));
  return fc
    .array(
      fc.oneof(...layouts.map(anyInstruction)).filter(({ instruction }) => constants(instruction) < 3),
      { maxLength: 8 },
    )
    .map((items) => {
      let clock = target.timing.barrier;
      return items.map(({ gap, instruction }) => {
        const cycle = clock + gap;
        const layout = byName.get(instruction.op);
        clock = layout === undefined ? cycle : nextDispatch(layout, cycle, instruction.count, instruction.interval);
        return { ...instruction, cycle };
      });
    });
}

describe("program text", () => {
  test("every value at the edge of every field of every row comes back", () => {
    for (const target of ALL_TARGETS) {
      for (const layout of layoutOf(target).byName.values()) {
        if (layout.own) continue;
        const queue = queueFor(target, layout);
        for (const tried of layout.fields) {
          for (const value of boundaries(tried)) {
            const instruction = build(layout, (field) => (field === tried ? value : (boundaries(field)[0] ?? 0)), {
              cycle: target.timing.barrier,
              tap: layout.tapMask,
            });
            const text = encodeQueue(target, queue, [instruction], { notify: true });
            expect(decodeQueue(target, queue, text)).toEqual({ instructions: [instruction], notifies: true });
          }
        }
      }
    }
  });

  test("one beyond the edge is refused", () => {
    for (const layout of layoutOf(TINY).byName.values()) {
      for (const tried of layout.own ? [] : layout.fields) {
        for (const value of beyond(tried)) {
          const instruction = build(layout, (field) => (field === tried ? value : (boundaries(field)[0] ?? 0)), {
            cycle: 35,
          });
          const { code } = refusal(() => encodeQueue(TINY, queueFor(TINY, layout), [instruction], { notify: false }));
          expect({ op: layout.op, field: tried.name, code }).toEqual({
            op: layout.op,
            field: tried.name,
            code: "LPU3021",
          });
        }
      }
    }
  });

  test.each(ALL_TARGETS.map((target) => [target.name, target] as const))(
    "%s: any legal queue comes back, the same each time",
    (_, target) => {
      const queues = fc.constantFrom(
        0,
        2 * target.slices,
        2 * target.slices + target.alus,
        2 * target.slices + target.alus + 1,
        queueCount(target) - 1,
      );
      const cases = queues.chain((queue) => fc.tuple(fc.constant(queue), anyQueue(target, queue), fc.boolean()));
      fc.assert(
        fc.property(cases, ([queue, instructions, notify]) => {
          const text = encodeQueue(target, queue, instructions, { notify });
          expect(encodeQueue(target, queue, instructions, { notify })).toEqual(text);
          const origins = decodeOrigins(encodeOrigins(instructions), 4);
          const decoded = decodeQueue(target, queue, text, origins);
          expect(decoded.instructions).toEqual(instructions);
          expect(decoded.notifies).toBe(notify && instructions.length > 0);
        }),
        { numRuns: 300 },
      );
    },
  );

  test("any bytes either decode to what encodes to them, or are refused with LPU3024", () => {
    const bytes = fc.tuple(fc.constantFrom(0, 32, 48, 49, 87), anyBytes());
    fc.assert(
      fc.property(bytes, ([queue, text]) => {
        let decoded: ReturnType<typeof decodeQueue>;
        try {
          decoded = decodeQueue(TINY, queue, text);
        } catch (error) {
          expect(error).toBeInstanceOf(CompileError);
          expect(error).toMatchObject({ code: "LPU3024" });
          return;
        }
        if (decoded.instructions.length === 0) return;
        expect(encodeQueue(TINY, queue, decoded.instructions, { notify: decoded.notifies })).toEqual(text);
      }),
      { numRuns: 2000 },
    );
  });

  test("two dispatches in one cycle, or into a repeat, are refused; a MEM burst leaves the queue free", () => {
    const read = (cycle: number): string => `${cycle} read address=0 stream=e0 x10 +1`;
    const rotate = (cycle: number): string => `${cycle} rotate source=e0 lanes=1 type=f16 give=e4 x3 /2`;
    const codeOf = (queue: string, ...lines: string[]): DiagnosticCode =>
      refusal(() => assemble(`.target tiny\n${queue}:\n${lines.join("\n")}`)).code;
    expect(codeOf("mem.w0", read(40), read(40))).toBe("LPU3020");
    expect(codeOf("mem.w0", read(40), read(39))).toBe("LPU3020");
    expect(codeOf("mem.w0", read(34))).toBe("LPU3020");
    expect(codeOf("sxm.w0", rotate(40), rotate(44))).toBe("LPU3020");
    expect(() =>
      assemble(`.target tiny\nmem.w0:\n${read(40)}\n${read(41)}\nsxm.w0:\n${rotate(40)}\n${rotate(45)}`),
    ).not.toThrow();
  });

  test("an instruction of another unit, or one that the encoder makes itself, is refused", () => {
    for (const line of ["40 rotate e0 1 f16 e4", "40 nop 3", "0 sync", "40 repeat 3 1", "40 step 1"]) {
      expect(refusal(() => assemble(`.target tiny\nmem.w0:\n${line}`)).code).toBe("LPU3023");
    }
  });

  test("long gaps take as few nops as possible", () => {
    const text = encodeQueue(
      TINY,
      0,
      parseAssembly(".target tiny\nmem.w0:\n131106 read 0 e0").entries[0]?.queues[0]?.[0] ?? [],
      { notify: false },
    );
    expect([...text.slice(0, 10)]).toEqual([0x03, 0x01, 0xff, 0xff, 0x01, 0xff, 0xff, 0x01, 0x01, 0x00]);
  });
});

function beyond({ row, min, max, target, sources }: FieldLayout): readonly FieldValue[] {
  if (row.kind === "source")
    return [{ stream: 2 * target.streams, tap: false }, { alu: target.alus, age: 0 }, { constant: 0.1 }, 3];
  if (row.kind === "type") return ["f64", 0];
  if (row.kind === "function") return [sources === 3 ? "add" : "select", "sqrt"];
  return [min - 1, max + 1, 0.5, Number.NaN, "e0"];
}

/** Bytes that often look like instructions. */
const anyBytes = (): fc.Arbitrary<Uint8Array> =>
  fc
    .array(fc.oneof(fc.constantFrom(...Object.values(ISA).map(({ opcode }) => opcode)), fc.nat(255)), { maxLength: 24 })
    .map((bytes) => Uint8Array.from([3, ...bytes]));

/** The same instructions, with maps that exist. */
const ofThreeMaps = (instructions: readonly TimedInstruction[]): TimedInstruction[] =>
  instructions.map((one) => {
    const row: InstructionRow = ISA[one.op];
    const map = Number(one.fields["map"]) % 3;
    return row.fields["map"]?.kind === "map" ? { ...one, fields: { ...one.fields, map } } : one;
  });

/** A small program with something in every section. */
function anyProgram(): fc.Arbitrary<Program> {
  const lookup = {
    origin: "embed",
    dtype: "f16",
    rows: 3,
    width: 5,
    bytes: () => Uint8Array.from({ length: 30 }, (_, i) => i),
  } as const;
  const queues = fc.tuple(
    ...Array.from({ length: queueCount(TINY) }, (_, queue) =>
      queue % 9 === 0 ? anyQueue(TINY, queue).map(ofThreeMaps) : fc.constant([]),
    ),
  );
  const chip = fc.record({
    constants: fc.array(
      fc
        .record({
          hemisphere: fc.constantFrom("W" as const, "E" as const),
          slice: fc.nat(15),
          row: fc.nat(4000),
          rows: fc.nat(3),
          fill: fc.nat(255),
        })
        .map(({ fill, ...block }) => ({
          ...block,
          bytes: () => Uint8Array.from({ length: block.rows * TINY.lanes }, (_, i) => (fill < 128 ? fill : i + fill)),
        })),
      { maxLength: 3 },
    ),
    maps: fc.constant([Int16Array.of(1, -1, 15), Int16Array.of(), Int16Array.of(-32768, 32767)]),
  });
  return fc
    .record({
      name: fc.string(),
      chips: fc.array(chip, { minLength: 1, maxLength: 2 }),
      origins: fc.tuple(fc.string(), fc.string(), fc.string(), fc.string()),
      macs: fc.nat(),
      main: fc.tuple(queues, queues),
      second: fc.tuple(queues, queues),
    })
    .map(({ main, second, ...rest }) => {
      const chips = rest.chips.length;
      return { ...rest, main: main.slice(0, chips), second: second.slice(0, chips) };
    })
    .map(({ name, chips, origins, macs, main, second }) => ({
      target: TINY,
      name,
      chips,
      links: [{ fromChip: 0, fromLink: 1, toChip: 0, toLink: 0 }],
      states: [{ name, declared: "f32" as const, shape: [4, 2], placements: [PLACEMENT] }],
      entries: [
        {
          name: "main",
          inputs: [{ name, declared: "i64" as const, shape: [4, 2], placements: [PLACEMENT], lookup }],
          outputs: [{ name: "y", declared: "f32" as const, shape: [4, 2], placements: [PLACEMENT] }],
          queues: main,
          cycles: main.map((own) => chipCycles(TINY, own)),
          macs,
        },
        {
          name: "second",
          inputs: [{ name: "x", declared: "i32" as const, shape: [4, 2], placements: [], lookup }],
          outputs: [],
          queues: second,
          cycles: chips.map(() => 0),
          macs: 0,
        },
      ],
      origins,
    }));
}

const PLACEMENT = {
  dtype: "f16" as const,
  factors: [
    { dim: 0, divide: 1, extent: 4, row: 1, column: 0 },
    { dim: 1, divide: 1, extent: 2, row: 0, column: 1 },
  ],
  rows: 4,
  columns: 2,
  ways: 2,
  panels: [
    {
      planes: [0, 1, 2, 3].map((slice) => ({ chip: 0, hemisphere: "E" as const, slice, row: 4094 })),
    },
  ],
};

describe("image and listing", () => {
  test("any program: the image reads back, both writers agree, and the listing assembles to the same bytes", () => {
    fc.assert(
      fc.property(anyProgram(), (program) => {
        const bytes = writeImage(program);
        expect(Buffer.compare(Buffer.concat([...imageChunks(program)]), bytes)).toBe(0);
        const image = readImage(bytes);
        expect(image.entries.map(({ queues }) => queues)).toEqual(program.entries.map(({ queues }) => queues));
        expect(image.origins).toEqual(program.origins);
        expect(Buffer.compare(writeImage(image), bytes)).toBe(0);
        expect(Buffer.compare(assemble(disassemble(bytes)), bytes)).toBe(0);
      }),
      { numRuns: 15 },
    );
  });

  const sample = (): Uint8Array => assemble(SAMPLE, "sample.asm");

  test("a listing by hand says what it means", () => {
    const { chips, entries, origins } = readImage(sample());
    const queue = entries[0]?.queues[0]?.[parseQueueName(TINY, "mem.w3") ?? -1];
    expect(queue).toEqual([
      { cycle: 40, op: "read", fields: { address: 4, stream: 4 }, count: 5, interval: 2, step: -1, tap: 0, origin: 0 },
      { cycle: 60, op: "write", fields: { address: 9, stream: 35 }, count: 1, interval: 1, step: 0, tap: 1, origin: 1 },
    ]);
    expect(entries[0]?.cycles).toEqual([62]);
    expect(origins).toEqual(["", "layer/1"]);
    expect(chips[0]?.constants.map(({ bytes }) => bytes()[17])).toEqual([7, 255]);
  });

  test("the listing of an image is the canonical one", () => {
    expect(disassemble(sample())).toBe(CANONICAL);
    expect(
      [...listing(readImage(sample()), { data: false })].filter((line) => line.startsWith("; .constant")),
    ).toHaveLength(2);
  });

  test("constants are views into the image, aligned to 4096", () => {
    const bytes = sample();
    const image = readImage(bytes);
    const constants = image.chips[0]?.constants[0]?.bytes();
    expect(constants?.buffer).toBe(bytes.buffer);
    expect((constants?.byteOffset ?? 1) % 4096).toBe(0);
  });

  const pair = (second: string, first = "fill 7"): string =>
    `.target tiny\n.chip 0\n.constant mem.w1 row=0 rows=2 ${first}\n.chip 1\n.constant mem.w1 row=0 rows=2 ${second}\n`;

  test("what several chips have alike is in an image once", () => {
    const [alike, apart] = ["like=0", "fill 7"].map((second) => assemble(pair(second), "x.asm"));
    const [few, many] = [alike, apart].map((bytes) => readImage(bytes ?? new Uint8Array()));
    expect(few?.chips[1]?.constants[0]?.bytes()).toEqual(many?.chips[1]?.constants[0]?.bytes());
    const lengths = [few, many].map((image) =>
      image?.sections.filter(({ name }) => name === "constants").map(({ length }) => length),
    );
    expect(lengths).toEqual([
      [2 * TINY.lanes, 0],
      [2 * TINY.lanes, 2 * TINY.lanes],
    ]);
    expect(disassemble(alike ?? new Uint8Array())).toContain("row=0 rows=2 like=0");
    expect(few === undefined ? undefined : writeImage(few)).toEqual(alike);
  });

  test("rows that are like those of no earlier chip are refused, in a listing and in an image", () => {
    for (const second of ["like=1", "like=2"])
      expect(refusal(() => assemble(pair(second), "x.asm")).code).toBe("LPU3040");
    expect(refusal(() => assemble(pair("like=0", "like=0"), "x.asm")).code).toBe("LPU3040");
    const program = readImage(assemble(pair("like=0"), "x.asm"));
    const [first, second] = program.chips;
    const wrong = (row: number): Uint8Array =>
      writeImage({
        ...program,
        chips: [first, second].flatMap((chip) =>
          chip === undefined
            ? []
            : [{ ...chip, constants: chip.constants.map((block) => (block.like ? { ...block, row } : block)) }],
        ),
      });
    expect(readImage(wrong(0)).chips[1]?.constants).toHaveLength(1);
    expect(refusal(() => readImage(wrong(1)))).toMatchObject({ code: "LPU3034" });
  });

  test.each([
    [".target tinny", "LPU3041", "x.asm:1:9"],
    [".target tiny\n\nmem.w99:", "LPU3041", "x.asm:3:1"],
    [".target tiny\nmem.w1:\n 40 reed 1 e0", "LPU3041", "x.asm:3:5"],
    [".target tiny\nmem.w1:\n 40 read address=5000 e1", "LPU3021", "x.asm:3:10"],
    [".target tiny\nmem.w1:\n 40 read 5 e32", "LPU3021", "x.asm:3:12"],
    [".target tiny\nmem.w1:\n 40 read 5", "LPU3040", "x.asm:3:5"],
    [".target tiny\nmem.w1:\n 40 read 5 e1 x10 /2 +1 from", "LPU3040", "x.asm:3:29"],
    [".target tiny\nmem.w1:\n 40 read 4090 e1 x10 +1", "LPU3021", "x.asm:3:5"],
    [".target tiny\nmem.w1:\n 40 read 1 e1\n 40 write 2 e2", "LPU3020", "x.asm:4:5"],
    [".target tiny\nsxm.w1:\n 40 select e0 e1 9 i8 e2", "LPU3021", "chip 0"],
    [".target tiny\n.constant mem.w1 row=0 rows=1 hex 00", "LPU3040", "x.asm:2:31"],
    [".target tiny\n.constant mem.w1 row=4095 rows=2 fill 0", "LPU3021", "x.asm:2:1"],
    ["mem.w1:", "LPU3040", "x.asm:1:1"],
    ['.target tiny\n.entry "a" cycles=[1,]', "LPU3035", "x.asm:2:19"],
    [".target tiny\n.chip 1", "LPU3040", "x.asm:2:7"],
    [".target tiny\n.entree", "LPU3041", "x.asm:2:1"],
    ["", "LPU3040", "x.asm:1:1"],
  ] as const)("%j is refused", (text, code, at) => {
    expect(refusal(() => assemble(text, "x.asm"))).toEqual({ code, at });
  });

  test("every truncation, and every flip of a bit, is refused with a code", () => {
    const bytes = sample();
    for (let length = 0; length < bytes.length; length += length < 256 ? 1 : 61) {
      const { code } = refusal(() => readImage(bytes.slice(0, length)));
      expect({ length, code }).toEqual({ length, code: length === 0 ? "LPU3030" : "LPU3032" });
    }
    for (let offset = 0; offset < bytes.length; offset++) {
      const damaged = bytes.slice();
      damaged[offset] = (damaged[offset] ?? 0) ^ (1 << (offset % 8));
      expect(refusal(() => readImage(damaged)).code).toMatch(/^LPU303[0134]$/);
    }
  });

  test("damage under right checksums is refused with a code, or is a program that writes the same bytes", () => {
    const bytes = writeImage(fc.sample(anyProgram(), { numRuns: 1, seed: 7 })[0] ?? parseAssembly(SAMPLE));
    const { sections } = readImage(bytes);
    const place = fc.constantFrom(...sections.flatMap(({ length }, index) => (length > 0 ? [index] : [])));
    fc.assert(
      fc.property(place, fc.nat(), fc.nat(255), (index, where, value) => {
        const { offset = 0, length = 1 } = sections[index] ?? {};
        const damaged = bytes.slice();
        damaged[offset + (where % length)] = value;
        repairChecksums(damaged, index);
        try {
          expect(Buffer.compare(writeImage(readImage(damaged)), damaged)).toBe(0);
        } catch (error) {
          expect(error).toBeInstanceOf(CompileError);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test("another version, another magic, bytes after the end", () => {
    const bytes = sample();
    const changed = (offset: number, value: number): Uint8Array => {
      const copy = bytes.slice();
      copy[offset] = value;
      return copy;
    };
    expect(refusal(() => readImage(changed(8, VERSION + 1))).code).toBe("LPU3031");
    expect(refusal(() => readImage(changed(0, 0))).code).toBe("LPU3030");
    expect(refusal(() => readImage(Buffer.concat([bytes, bytes]))).code).toBe("LPU3034");
    expect(refusal(() => readImage(new TextEncoder().encode(CANONICAL))).code).toBe("LPU3030");
  });

  test("a program that refers to what does not exist is not written", () => {
    const program = parseAssembly(SAMPLE);
    const [entry] = program.entries;
    const wrong: readonly Program[] = [
      { ...program, links: [{ fromChip: 1, fromLink: 0, toChip: 0, toLink: 0 }] },
      { ...program, entries: entry === undefined ? [] : [{ ...entry, cycles: [] }] },
      { ...program, entries: [] },
      { ...program, entries: entry === undefined ? [] : [entry, entry] },
    ];
    expect(wrong.map((one) => refusal(() => writeImage(one)).code)).toEqual(wrong.map(() => "LPU3035"));
  });
});

/** Makes the checksums of one section and of the table right again; docs/FORMAT.md has the offsets. */
function repairChecksums(bytes: Uint8Array, section: number): void {
  const view = new DataView(bytes.buffer);
  const table = view.getUint32(24, true);
  const entry = table + 32 * section;
  const offset = view.getUint32(entry + 8, true);
  view.setUint32(entry + 4, crc32(bytes.subarray(offset, offset + view.getUint32(entry + 16, true))), true);
  const tail = table + 32 * view.getUint32(12, true);
  view.setUint32(tail, crc32(bytes.subarray(table, tail)), true);
}

const SAMPLE = `
; two rows of constants, a burst that reads them, a write that taps
.target tiny
.constant mem.w3 row=0 rows=5 fill 7
.constant mem.e0, row=8, rows=2, hex ${"ff".repeat(31)}00
.entry "main"
mem.w3:
  40 read 4, e4 x5 /2 -1
  60 write stream=w3~ address=9 from "layer/1" ; named operands in any order
`;

const CANONICAL = `.program ""
.target tiny
.origin ""
.origin "layer/1"

.chip 0
.constant mem.w3 row=0 rows=5 fill 7
.constant mem.e0 row=8 rows=2 base64 /////////////////////////////////////////wA=

.entry "main" cycles=[62] macs=0

mem.w3:
       40 read       address=4 stream=e4 x5 /2 -1
       60 write      address=9 stream=w3~ from "layer/1"
`;

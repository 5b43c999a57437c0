/**
 * The instruction set, one row each: who may issue it, its operands in order, the streams that it takes and gives with
 * their cycle offsets, and what it does. Encoder, decoder, assembler, disassembler, checker, both machines and docs/ISA.md
 * derive from this table ([20] Abts et al., ISCA 2020, table of instructions; encodings are our own).
 *
 * Bursts. Every instruction of a Program may be a burst: `count` executions, `interval` cycles apart. In the image a MEM
 * burst is the address generator (`iterations`, `countdown`, `step` before the Read or Write; it runs beside the queue, so
 * a read burst and a write burst of one slice overlap), all others are `repeat` after the instruction (the queue is busy
 * until the last execution). Fields marked `advances` move by their row's unit at each execution.
 *
 * Streams. A stream operand of g bytes a lane is g neighbouring streams, naturally aligned, byte b of the element on stream
 * base + b. Taking a value removes it from the stream register, unless the operand says `tap`: then it flows on. A value that
 * is given where another still flows is a fault. Values that leave the chip are dropped.
 */

import type { Target, Timings } from "./target.js";

export type UnitKind = "mem" | "vxm" | "mxmWeights" | "mxmActivations" | "mxmAccumulate" | "sxm";

/** Kinds of operand: printed and parsed, encoded and range-checked by kind, never by instruction. */
export const OPERAND_KINDS = {
  stream: { doc: "Stream base: e0..e31 eastward, w0..w31 westward; a `~` after a stream that is read means tap." },
  optionalStream: { doc: "Stream base, or `-` for none." },
  address: { doc: "SRAM row of the slice: bank * rowsPerBank + row." },
  count: { doc: "Unsigned 16-bit count." },
  offset: { doc: "Signed 16-bit distance." },
  source: {
    doc: "ALU operand: a stream (`e4`, `w8~`), `alu3@2` (result of ALU 3, two cycles after it could first be chained), or a constant.",
  },
  type: {
    doc: "Element type on streams: f16, f32, i32, i16, i8, u8 or bool; decides how many streams an operand takes.",
  },
  function: { doc: "ALU function, a key of ALU_FUNCTIONS." },
  lane: { doc: "Lane number or lane count." },
  column: { doc: "MXM output column." },
  bit: { doc: "0 or 1." },
  accumulatorRow: { doc: "Row of partial sums." },
  map: { doc: "Index of a lane map in the chip's map table." },
  link: { doc: "Chip-to-chip link." },
  mode: { doc: "A word from the row's list." },
} as const satisfies Record<string, { readonly doc: string }>;
export type OperandKind = keyof typeof OPERAND_KINDS;

export interface FieldRow {
  readonly kind: OperandKind;
  readonly doc: string;
  /** Words that a `mode` may be. */
  readonly words?: readonly string[];
  /** How far the field moves at each execution of a burst: 1, or the value of another field, or `step` (address generator). */
  readonly advances?: number | "step" | "ways";
}

export interface InstructionRow {
  readonly opcode: number;
  readonly units: readonly UnitKind[] | "all";
  readonly fields: Readonly<Record<string, FieldRow>>;
  /** Stream fields taken: cycles from dispatch until the value must be on the unit's stream register (may be negative). */
  readonly takes: Readonly<Record<string, { readonly skew: keyof Timings | 0; readonly sign?: -1 }>>;
  /** Stream fields given: cycles from dispatch until the value is on the unit's stream register. */
  readonly gives: Readonly<Record<string, keyof Timings>>;
  readonly doc: string;
}

/** An array of multipliers, as long as all lanes in one direction. */
export interface ArrayRow {
  /** The planes of a hemisphere are one array, driven by the queues of plane 0; otherwise each is an array of its own. */
  readonly joined: boolean;
  /** It is as high as all lanes divided by this: K values of a pass. */
  readonly share: 1 | 2;
  /** The type of what ACC gives. */
  readonly sums: "f32" | "i32";
}

/** What arrays multiply: [1 x 160] x [160 x 320] in fp16 and [1 x 320] x [320 x 320] in int8 a cycle and array (C). */
export const ARRAYS = {
  f16: { joined: true, share: 2, sums: "f32" },
  i8: { joined: false, share: 1, sums: "i32" },
} as const satisfies Record<string, ArrayRow>;
export type ArrayKind = keyof typeof ARRAYS;

/** Element types of weights on streams. */
export type WeightType = "f16" | "i8" | "f8e4m3" | "f8e5m2";

/** What the word `mode` of an instruction of the MXM says of its vectors. */
export interface MxmMode {
  /** Element type on streams; what is narrower than the array widens exactly on its way in. */
  readonly type: WeightType;
  /** The array that takes it. */
  readonly array: ArrayKind;
  /** Parts of a vector that are columns of weights, or activations: halves of the lanes by number, or all lanes. */
  readonly parts: readonly (0 | 1 | "all")[];
  readonly doc: string;
}

export const MXM_MODES = {
  packed: { type: "f16", array: "f16", parts: [0, 1], doc: "a vector holds two weight columns, one in each half" },
  low: { type: "f16", array: "f16", parts: [0], doc: "one column, from the low half of the lanes" },
  high: { type: "f16", array: "f16", parts: [1], doc: "one column, from the high half" },
  full: { type: "i8", array: "i8", parts: ["all"], doc: "int8: one column over all lanes" },
  packedE4M3: { type: "f8e4m3", array: "f16", parts: [0, 1], doc: "as packed, of FP8 E4M3FN that widens to fp16" },
  packedE5M2: { type: "f8e5m2", array: "f16", parts: [0, 1], doc: "as packed, of FP8 E5M2 that widens to fp16" },
} as const satisfies Record<string, MxmMode>;
export type MxmModeName = keyof typeof MXM_MODES;
export const isMxmMode = (name: string): name is MxmModeName => Object.hasOwn(MXM_MODES, name);
const WEIGHT_MODES = Object.keys(MXM_MODES);

/** K values of one pass through an array. */
export const arrayDepth = ({ lanes }: Target, kind: ArrayKind): number => lanes / ARRAYS[kind].share;

const field = (kind: OperandKind, doc: string, more: Omit<FieldRow, "kind" | "doc"> = {}): FieldRow => ({
  kind,
  doc,
  ...more,
});

export const ISA = {
  nop: {
    opcode: 0x01,
    units: "all",
    fields: { cycles: field("count", "Cycles to wait, 1 to 65,535.") },
    takes: {},
    gives: {},
    doc: "Waits.",
  },
  ifetch: {
    opcode: 0x02,
    units: "all",
    fields: { source: field("stream", "Stream that carries program text: 2 * lanes bytes on two streams.") },
    takes: { source: { skew: 0 } },
    gives: {},
    doc: "Takes one vector pair of program text for this queue from a stream; text taken follows the text that the queue already has, `ifetch` cycles later.",
  },
  sync: {
    opcode: 0x03,
    units: "all",
    fields: {},
    takes: {},
    gives: {},
    doc: "Parks the queue until the chip-wide barrier: goes on `barrier` cycles after the one Notify.",
  },
  notify: {
    opcode: 0x04,
    units: "all",
    fields: {},
    takes: {},
    gives: {},
    doc: "Releases every queue that waits in Sync, `barrier` cycles later; this queue goes on at the same cycle. Once in a program.",
  },
  config: {
    opcode: 0x05,
    units: "all",
    fields: {
      length: field("lane", "Vector length in lanes, a multiple of the superlane."),
      power: field("bit", "1 keeps unused superlanes powered."),
    },
    takes: {},
    gives: {},
    doc: "Sets the vector length of this unit: lanes at and beyond it are given as zero.",
  },
  repeat: {
    opcode: 0x06,
    units: "all",
    fields: {
      count: field("count", "How many more times."),
      interval: field("count", "Cycles from one execution to the next."),
    },
    takes: {},
    gives: {},
    doc: "Executes the instruction before it `count` more times, `interval` cycles apart; advancing fields move each time.",
  },

  read: {
    opcode: 0x10,
    units: ["mem"],
    fields: { address: field("address", "Row read.", { advances: "step" }), stream: field("stream", "Stream given.") },
    takes: {},
    gives: { stream: "memRead" },
    doc: "Puts a row on a stream. A row that was never written is a fault.",
  },
  write: {
    opcode: 0x11,
    units: ["mem"],
    fields: {
      address: field("address", "Row written.", { advances: "step" }),
      stream: field("stream", "Stream taken."),
    },
    takes: { stream: { skew: 0 } },
    gives: {},
    doc: "Stores the vector that passes on a stream in a row.",
  },
  gather: {
    opcode: 0x12,
    units: ["mem"],
    fields: {
      stream: field("stream", "Stream given."),
      map: field("stream", "Two streams (u16) of row addresses; the first lane of each superlane counts."),
    },
    takes: { map: { skew: 0 } },
    gives: { stream: "memGather" },
    doc: "Reads for every superlane its own row. An address out of range is a fault.",
  },
  scatter: {
    opcode: 0x13,
    units: ["mem"],
    fields: {
      stream: field("stream", "Stream taken."),
      map: field("stream", "Two streams (u16) of row addresses; the first lane of each superlane counts."),
    },
    takes: { stream: { skew: 0 }, map: { skew: 0 } },
    gives: {},
    doc: "Writes every superlane to its own row. An address out of range is a fault.",
  },
  countdown: {
    opcode: 0x14,
    units: ["mem"],
    fields: { interval: field("count", "Cycles between iterations.") },
    takes: {},
    gives: {},
    doc: "Sets the interval of the next Read, Write, Gather or Scatter; dispatched with it.",
  },
  step: {
    opcode: 0x15,
    units: ["mem"],
    fields: { rows: field("offset", "Rows added at each iteration.") },
    takes: {},
    gives: {},
    doc: "Sets the address step of the next Read or Write; dispatched with it.",
  },
  iterations: {
    opcode: 0x16,
    units: ["mem"],
    fields: { count: field("count", "Number of executions.") },
    takes: {},
    gives: {},
    doc: "Makes the next Read, Write, Gather or Scatter a loop of the address generator; dispatched with it.",
  },

  unary: {
    opcode: 0x20,
    units: ["vxm"],
    fields: {
      function: field("function", "ALU function of one operand."),
      a: field("source", "Operand."),
      type: field("type", "Type of stream operands."),
      give: field("optionalStream", "Stream given."),
      give2: field("optionalStream", "Second stream given, of the other direction."),
      as: field("type", "Type given."),
    },
    takes: { a: { skew: "vxmEntry", sign: -1 } },
    gives: { give: "vxmAlu", give2: "vxmAlu" },
    doc: "One function of one operand in fp32 (or int32) per lane; the result rounds when a stream narrows it. Conversions are `copy` with another type.",
  },
  binary: {
    opcode: 0x21,
    units: ["vxm"],
    fields: {
      function: field("function", "ALU function of two operands."),
      a: field("source", "First operand."),
      typeA: field("type", "Type of `a` if a stream."),
      b: field("source", "Second operand."),
      typeB: field("type", "Type of `b` if a stream."),
      give: field("optionalStream", "Stream given."),
      give2: field("optionalStream", "Second stream given, of the other direction."),
      as: field("type", "Type given."),
    },
    takes: { a: { skew: "vxmEntry", sign: -1 }, b: { skew: "vxmEntry", sign: -1 } },
    gives: { give: "vxmAlu", give2: "vxmAlu" },
    doc: "One function of two operands per lane.",
  },
  ternary: {
    opcode: 0x22,
    units: ["vxm"],
    fields: {
      function: field("function", "ALU function of three operands."),
      a: field("source", "First operand."),
      typeA: field("type", "Type of `a` if a stream."),
      b: field("source", "Second operand."),
      typeB: field("type", "Type of `b` if a stream."),
      c: field("source", "Third operand."),
      typeC: field("type", "Type of `c` if a stream."),
      give: field("optionalStream", "Stream given."),
      give2: field("optionalStream", "Second stream given, of the other direction."),
      as: field("type", "Type given."),
    },
    takes: { a: { skew: "vxmEntry", sign: -1 }, b: { skew: "vxmEntry", sign: -1 }, c: { skew: "vxmEntry", sign: -1 } },
    gives: { give: "vxmAlu", give2: "vxmAlu" },
    doc: "One function of three operands per lane (select).",
  },

  lw: {
    opcode: 0x30,
    units: ["mxmWeights"],
    fields: {
      stream: field("stream", "First of `ways` groups of streams (f16: 2 streams a group; i8 and FP8: 1)."),
      mode: field(
        "mode",
        `${Object.entries(MXM_MODES)
          .map(([word, { doc }]) => `${word}: ${doc}`)
          .join("; ")}.`,
        { words: WEIGHT_MODES },
      ),
      ways: field(
        "count",
        "Vectors taken in one execution: as many as there are streams for, 16 of each plane that is filled: up to 16 (32 in FP8, for both planes).",
      ),
      column: field("column", "First column filled; a burst goes on where it stopped.", { advances: "ways" }),
      first: field("lane", "First lane (within the half) that is kept; lanes before it load zero."),
      lanes: field("lane", "How many lanes are kept; lanes after them load zero."),
      clear: field("bit", "1: the first execution makes the whole buffer zero before it loads."),
    },
    takes: { stream: { skew: "mxmWeightSkew" } },
    gives: {},
    doc: "Loads weight columns (rows of K values) into the plane's weight buffer while the array computes. In packed modes group i fills columns column + 2i (low half) and column + 2i + 1 (high half); `column` then advances by 2 * ways. Every FP8 value is an fp16 value, so widening is exact.",
  },
  iw: {
    opcode: 0x31,
    units: ["mxmWeights"],
    fields: {},
    takes: {},
    gives: {},
    doc: "Installs the buffer into the array and empties the buffer. Activations dispatched (ABC) `mxmInstall` or more cycles later meet the new weights, earlier ones the old.",
  },
  iwStream: {
    opcode: 0x32,
    units: ["mxmWeights"],
    fields: {
      stream: field("stream", "First of `ways` groups of streams."),
      mode: field("mode", "As in lw.", { words: WEIGHT_MODES }),
      ways: field("count", "As in lw."),
      column: field("column", "First column filled.", { advances: "ways" }),
      first: field("lane", "As in lw."),
      lanes: field("lane", "As in lw."),
      clear: field("bit", "1: the first execution makes the whole array zero."),
    },
    takes: { stream: { skew: "mxmWeightSkew" } },
    gives: {},
    doc: "As lw, but straight into the array, past the buffer; an activation in the array between the first and the last of the burst is a fault.",
  },
  abc: {
    opcode: 0x33,
    units: ["mxmActivations"],
    fields: {
      stream: field("stream", "Activation vector (f16: 2 streams; i8: 1)."),
      mode: field("mode", "low or high: fp16, that half of the lanes meets the array; full: int8, all lanes.", {
        words: ["low", "high", "full"],
      }),
    },
    takes: { stream: { skew: "mxmActivationSkew" } },
    gives: {},
    doc: "Starts one activation vector through the array; its product vector is at the accumulator `mxmMultiply` cycles after dispatch.",
  },
  acc: {
    opcode: 0x34,
    units: ["mxmAccumulate"],
    fields: {
      row: field("accumulatorRow", "Row of partial sums.", { advances: 1 }),
      mode: field("mode", "set: the row becomes the product; add: the product is added to it.", {
        words: ["set", "add"],
      }),
      give: field("optionalStream", "Four streams on which the sum is given (f32, or i32 in int8 mode), inward."),
    },
    takes: {},
    gives: { give: "mxmAccumulate" },
    doc: "Takes the product vector that arrives in this very cycle. None there, or one that no ACC takes, is a fault.",
  },

  shift: {
    opcode: 0x40,
    units: ["sxm"],
    fields: {
      source: field("stream", "Stream taken."),
      lanes: field("offset", "Lanes moved up (towards higher lanes); vacated lanes are zero."),
      type: field("type", "Width."),
      give: field("stream", "Stream given."),
    },
    takes: { source: { skew: 0 } },
    gives: { give: "sxmShift" },
    doc: "Moves a vector up or down by lanes.",
  },
  select: {
    opcode: 0x41,
    units: ["sxm"],
    fields: {
      a: field("stream", "Taken where the map is 0."),
      b: field("stream", "Taken where the map is not 0."),
      map: field("map", "Lane map."),
      type: field("type", "Width."),
      give: field("stream", "Stream given."),
    },
    takes: { a: { skew: 0 }, b: { skew: 0 } },
    gives: { give: "sxmSelect" },
    doc: "Chooses lane by lane between two vectors.",
  },
  permute: {
    opcode: 0x42,
    units: ["sxm"],
    fields: {
      source: field("stream", "Stream taken."),
      map: field("map", "For each lane the source lane, or -1 for zero."),
      type: field("type", "Width."),
      give: field("stream", "Stream given."),
    },
    takes: { source: { skew: 0 } },
    gives: { give: "sxmPermute" },
    doc: "Any rearrangement of the lanes.",
  },
  distribute: {
    opcode: 0x43,
    units: ["sxm"],
    fields: {
      source: field("stream", "Stream taken."),
      map: field("map", "For each lane of a superlane the source lane in the same superlane, or -1 for zero."),
      type: field("type", "Width."),
      give: field("stream", "Stream given."),
    },
    takes: { source: { skew: 0 } },
    gives: { give: "sxmDistribute" },
    doc: "Rearranges, replicates or zeroes lanes within each superlane.",
  },
  rotate: {
    opcode: 0x44,
    units: ["sxm"],
    fields: {
      source: field("stream", "Stream taken."),
      lanes: field("offset", "Lanes rotated up."),
      type: field("type", "Width."),
      give: field("stream", "Stream given."),
    },
    takes: { source: { skew: 0 } },
    gives: { give: "sxmRotate" },
    doc: "Rotates a vector by lanes.",
  },
  transpose: {
    opcode: 0x45,
    units: ["sxm"],
    fields: {
      source: field("stream", "First of `superlane` streams taken."),
      give: field("stream", "First of `superlane` streams given."),
    },
    takes: { source: { skew: 0 } },
    gives: { give: "sxmTranspose" },
    doc: "In every superlane transposes the square of its lanes by `superlane` streams (bytes): stream j, lane i becomes stream i, lane j.",
  },

  deskew: {
    opcode: 0x50,
    units: ["sxm"],
    fields: {},
    takes: {},
    gives: {},
    doc: "Waits until the next epoch of the chip's aligned counter (a multiple of 256 cycles).",
  },
  send: {
    opcode: 0x51,
    units: ["sxm"],
    fields: { stream: field("stream", "Stream taken."), link: field("link", "Link.") },
    takes: { stream: { skew: 0 } },
    gives: {},
    doc: "Sends one vector over a link, which takes the next one `linkInterval` cycles later.",
  },
  receive: {
    opcode: 0x52,
    units: ["sxm"],
    fields: { link: field("link", "Link."), stream: field("stream", "Stream given.") },
    takes: {},
    gives: { stream: "c2cReceive" },
    doc: "Puts the vector that arrived on a link on a stream; none there is a fault.",
  },
} as const satisfies Record<string, InstructionRow>;

export type Mnemonic = keyof typeof ISA;

/** Stream numbers in records: 0 .. streams-1 eastward, streams .. 2*streams-1 westward. -1 is `none`. */
export type StreamNumber = number;

/** What an ALU operand is. */
export type Source =
  | { readonly stream: StreamNumber; readonly tap: boolean }
  | { readonly alu: number; readonly age: number }
  | { readonly constant: number };

/** An element type in SRAM and on streams. */
export interface StreamTypeRow {
  /** Bytes of an element: it lies in so many slices, and flies on so many neighbouring streams. */
  readonly bytes: 1 | 2 | 4;
  /** What an ALU makes of it: an fp32 number or an int32. */
  readonly lane: "float" | "int";
  /** The kind of array that multiplies it as it is, if one does. */
  readonly array?: ArrayKind;
}

/** Element types on streams, in the order of their codes in program text. */
export const STREAM_TYPES = {
  f16: { bytes: 2, lane: "float", array: "f16" },
  f32: { bytes: 4, lane: "float" },
  i32: { bytes: 4, lane: "int" },
  i16: { bytes: 2, lane: "int" },
  u16: { bytes: 2, lane: "int" },
  i8: { bytes: 1, lane: "int", array: "i8" },
  u8: { bytes: 1, lane: "int" },
  bool: { bytes: 1, lane: "int" },
} as const satisfies Record<string, StreamTypeRow>;
export type StreamType = keyof typeof STREAM_TYPES;

/**
 * ALU functions. All compute in fp32 on converted operands and give fp32; truth values are 0 and 1. `int` ones compute in
 * int32 (modulo 2^32) and give int32. Definitions, polynomials and measured errors are in `functions.ts`.
 */
export const ALU_FUNCTIONS = {
  copy: { code: 0, operands: 1, int: false, doc: "The operand; converts between stream types." },
  neg: { code: 1, operands: 1, int: false, doc: "Negation." },
  abs: { code: 2, operands: 1, int: false, doc: "Absolute value." },
  relu: { code: 3, operands: 1, int: false, doc: "max(x, 0)." },
  exp: { code: 4, operands: 1, int: false, doc: "e to the x." },
  tanh: { code: 5, operands: 1, int: false, doc: "Hyperbolic tangent." },
  rsqrt: { code: 6, operands: 1, int: false, doc: "One over the square root." },
  erf: { code: 7, operands: 1, int: false, doc: "Error function." },
  sigmoid: { code: 8, operands: 1, int: false, doc: "1 / (1 + e^-x)." },
  log: { code: 9, operands: 1, int: false, doc: "Natural logarithm." },
  sin: { code: 10, operands: 1, int: false, doc: "Sine." },
  cos: { code: 11, operands: 1, int: false, doc: "Cosine." },
  floor: { code: 12, operands: 1, int: false, doc: "Largest integer not above." },
  round: { code: 13, operands: 1, int: false, doc: "Nearest integer, ties to even." },
  sign: { code: 14, operands: 1, int: false, doc: "-1, 0 or 1." },
  not: { code: 15, operands: 1, int: false, doc: "1 where the operand is 0, else 0." },
  absInt: { code: 16, operands: 1, int: true, doc: "int32 absolute value; the least integer stays itself." },
  negInt: { code: 17, operands: 1, int: true, doc: "int32 negation; the least integer stays itself." },
  signInt: { code: 18, operands: 1, int: true, doc: "-1, 0 or 1." },
  add: { code: 32, operands: 2, int: false, doc: "Sum." },
  sub: { code: 33, operands: 2, int: false, doc: "Difference." },
  mul: { code: 34, operands: 2, int: false, doc: "Product." },
  div: { code: 35, operands: 2, int: false, doc: "Quotient, correctly rounded." },
  max: { code: 36, operands: 2, int: false, doc: "Maximum; NaN if either is." },
  min: { code: 37, operands: 2, int: false, doc: "Minimum; NaN if either is." },
  lt: { code: 38, operands: 2, int: false, doc: "1 where a < b, else 0." },
  le: { code: 39, operands: 2, int: false, doc: "1 where a <= b, else 0." },
  eq: { code: 40, operands: 2, int: false, doc: "1 where a = b, else 0." },
  and: { code: 41, operands: 2, int: false, doc: "1 where both are not 0, else 0." },
  or: { code: 42, operands: 2, int: false, doc: "1 where either is not 0, else 0." },
  addInt: { code: 48, operands: 2, int: true, doc: "int32 sum, modulo." },
  subInt: { code: 49, operands: 2, int: true, doc: "int32 difference, modulo." },
  mulInt: { code: 50, operands: 2, int: true, doc: "int32 product, modulo." },
  addSat: { code: 51, operands: 2, int: true, doc: "int32 sum, saturating." },
  maxInt: { code: 52, operands: 2, int: true, doc: "int32 maximum." },
  minInt: { code: 53, operands: 2, int: true, doc: "int32 minimum." },
  andBits: { code: 54, operands: 2, int: true, doc: "Bitwise and." },
  shiftLeft: { code: 55, operands: 2, int: true, doc: "a << (b & 31)." },
  shiftRight: { code: 56, operands: 2, int: true, doc: "a >> (b & 31), arithmetic." },
  orBits: { code: 57, operands: 2, int: true, doc: "Bitwise or." },
  xorBits: { code: 58, operands: 2, int: true, doc: "Bitwise exclusive or." },
  divInt: { code: 59, operands: 2, int: true, doc: "int32 quotient toward zero; by zero 0." },
  modInt: { code: 60, operands: 2, int: true, doc: "int32 remainder with the sign of b; by zero 0." },
  eqInt: { code: 61, operands: 2, int: true, doc: "1 where the int32 a = b, else 0." },
  ltInt: { code: 62, operands: 2, int: true, doc: "1 where the int32 a < b, else 0." },
  leInt: { code: 63, operands: 2, int: true, doc: "1 where the int32 a <= b, else 0." },
  select: { code: 64, operands: 3, int: false, doc: "b where a is not 0, else c." },
  selectInt: { code: 65, operands: 3, int: true, doc: "b where the int32 a is not 0, else c." },
} as const satisfies Record<
  string,
  { readonly code: number; readonly operands: 1 | 2 | 3; readonly int: boolean; readonly doc: string }
>;
export type AluFunction = keyof typeof ALU_FUNCTIONS;

/** What an instruction still has to finish if it gives nothing, as a sum of timings; all others take one cycle. */
const COMPLETION: Readonly<Partial<Record<Mnemonic, readonly (keyof Timings)[]>>> = {
  write: ["memWrite"],
  scatter: ["memWrite"],
  unary: ["vxmAlu"],
  binary: ["vxmAlu"],
  ternary: ["vxmAlu"],
  lw: ["mxmWeightSkew", "mxmLoad"],
  iw: ["mxmInstall"],
  iwStream: ["mxmWeightSkew", "mxmInstall"],
  abc: ["mxmMultiply"],
  send: ["c2cSend"],
};

/** By instruction: the fields of what it gives, and when. */
const GIVEN: ReadonlyMap<string, readonly (readonly [string, keyof Timings])[]> = new Map(
  Object.entries(ISA).map(([op, { gives }]) => [op, Object.entries<keyof Timings>(gives)]),
);

/**
 * Cycles from the dispatch of one execution until its last effect: a result on its stream, if it names one. The cycle count
 * of a chip is the maximum over all executions of dispatch cycle + this; the literal machine measures it (test/machine).
 */
export function completionCycles(
  target: Target,
  { op, fields }: { readonly op: Mnemonic; readonly fields: Readonly<Record<string, unknown>> },
): number {
  let cycles = 0;
  for (const name of COMPLETION[op] ?? []) cycles += target.timing[name];
  cycles = Math.max(1, cycles);
  for (const [field, name] of GIVEN.get(op) ?? [])
    if (Number(fields[field]) >= 0) cycles = Math.max(cycles, target.timing[name]);
  return cycles;
}

/** The most that `completionCycles` gives for any instruction. */
export const longestCompletion = ({ timing }: Target): number => {
  const own = Object.values(COMPLETION).map((names) => names.reduce((cycles, name) => cycles + timing[name], 0));
  const given = [...GIVEN.values()].flatMap((fields) => fields.map(([, name]) => timing[name]));
  return Math.max(1, ...own, ...given);
};

interface AnyInstruction {
  readonly op: Mnemonic;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** The word that field `mode` of an instruction stands for; empty if it has none. */
export const modeOf = ({ op, fields }: AnyInstruction): string => {
  const row: InstructionRow = ISA[op];
  return row.fields["mode"]?.words?.[Number(fields["mode"])] ?? "";
};

/** What the vectors are that LW, iwStream or ABC takes. */
export const mxmModeOf = (instruction: AnyInstruction): MxmMode | undefined => {
  const word = modeOf(instruction);
  return isMxmMode(word) ? MXM_MODES[word] : undefined;
};

/** The array that an instruction works on. */
export const arrayOf = (instruction: AnyInstruction): ArrayKind => mxmModeOf(instruction)?.array ?? "f16";

/** Weight columns that one execution of LW or iwStream fills. */
export const weightColumns = (instruction: AnyInstruction): number =>
  Number(instruction.fields["ways"]) * (mxmModeOf(instruction)?.parts.length ?? 1);

export const isMnemonic = (name: string): name is Mnemonic => Object.hasOwn(ISA, name);
export const isStreamType = (name: string): name is StreamType => Object.hasOwn(STREAM_TYPES, name);
export const isAluFunction = (name: string): name is AluFunction => Object.hasOwn(ALU_FUNCTIONS, name);
export const MNEMONICS: readonly Mnemonic[] = Object.keys(ISA).filter(isMnemonic);

/**
 * A small WebAssembly assembler: enough to write looped SIMD kernels at run time, and no more.
 *
 * A FunctionBody collects the code of one function in reverse Polish order, as the format itself has it; the table OPCODES
 * is the only place where opcodes are written. Opcodes above 0xff are SIMD or bulk-memory ones: prefix in the upper part.
 * All functions of a module have the type (i32) -> () and share one imported memory. Invariant: the bytes depend on the calls
 * alone, so the same kernels give the same module everywhere.
 */

export type ValueType = "i32" | "f64" | "v128";
const VALUE_TYPES: Readonly<Record<ValueType, number>> = { i32: 0x7f, f64: 0x7c, v128: 0x7b };

const SIMD = 0xfd0000;
const BULK = 0xfc0000;

const OPCODES = {
  "i32.add": 0x6a,
  "i32.sub": 0x6b,
  "i32.mul": 0x6c,
  "i32.and": 0x71,
  "i32.or": 0x72,
  "i32.shl": 0x74,
  "i32.shr_s": 0x75,
  "i32.shr_u": 0x76,
  "i32.eqz": 0x45,
  "i32.lt_s": 0x48,
  "i32.lt_u": 0x49,
  "i32.gt_s": 0x4a,
  "i32.ge_s": 0x4e,
  "v128.not": SIMD + 77,
  "v128.and": SIMD + 78,
  "v128.andnot": SIMD + 79,
  "v128.or": SIMD + 80,
  "v128.xor": SIMD + 81,
  "v128.bitselect": SIMD + 82,
  "v128.any_true": SIMD + 83,
  "i8x16.swizzle": SIMD + 14,
  "i8x16.relaxed_swizzle": SIMD + 0x100,
  "i8x16.eq": SIMD + 35,
  "i8x16.ne": SIMD + 36,
  "i8x16.gt_s": SIMD + 39,
  "i8x16.narrow_i16x8_u": SIMD + 102,
  "i8x16.shl": SIMD + 107,
  "i8x16.shr_u": SIMD + 109,
  "i8x16.add": SIMD + 110,
  "i16x8.splat": SIMD + 16,
  "i32x4.splat": SIMD + 17,
  "f64x2.splat": SIMD + 20,
  "i32x4.extract_lane0": SIMD + 27,
  "i16x8.eq": SIMD + 45,
  "i16x8.gt_u": SIMD + 50,
  "i16x8.shl": SIMD + 139,
  "i16x8.shr_s": SIMD + 140,
  "i16x8.narrow_i32x4_u": SIMD + 134,
  "i16x8.extend_low_i8x16_s": SIMD + 135,
  "i16x8.extend_high_i8x16_s": SIMD + 136,
  "i32x4.eq": SIMD + 55,
  "i32x4.ne": SIMD + 56,
  "i32x4.lt_s": SIMD + 57,
  "i32x4.gt_s": SIMD + 59,
  "i32x4.le_s": SIMD + 61,
  "i32x4.abs": SIMD + 160,
  "i32x4.neg": SIMD + 161,
  "i32x4.extend_low_i16x8_s": SIMD + 167,
  "i32x4.extend_high_i16x8_s": SIMD + 168,
  "i32x4.extend_low_i16x8_u": SIMD + 169,
  "i32x4.extend_high_i16x8_u": SIMD + 170,
  "i32x4.shl": SIMD + 171,
  "i32x4.shr_s": SIMD + 172,
  "i32x4.shr_u": SIMD + 173,
  "i32x4.add": SIMD + 174,
  "i32x4.sub": SIMD + 177,
  "i32x4.mul": SIMD + 181,
  "i32x4.min_s": SIMD + 182,
  "i32x4.max_s": SIMD + 184,
  "i32x4.min_u": SIMD + 183,
  "i32x4.dot_i16x8_s": SIMD + 186,
  "i64x2.shl": SIMD + 203,
  "i64x2.add": SIMD + 206,
  "i64x2.extend_low_i32x4_s": SIMD + 199,
  "i64x2.extend_high_i32x4_s": SIMD + 200,
  "f32x4.floor": SIMD + 104,
  "f32x4.nearest": SIMD + 106,
  "f32x4.eq": SIMD + 65,
  "f32x4.ne": SIMD + 66,
  "f32x4.lt": SIMD + 67,
  "f32x4.gt": SIMD + 68,
  "f32x4.le": SIMD + 69,
  "f32x4.abs": SIMD + 224,
  "f32x4.neg": SIMD + 225,
  "f32x4.add": SIMD + 228,
  "f32x4.sub": SIMD + 229,
  "f32x4.mul": SIMD + 230,
  "f32x4.div": SIMD + 231,
  "f32x4.min": SIMD + 232,
  "f32x4.max": SIMD + 233,
  "f32x4.pmin": SIMD + 234,
  "f32x4.pmax": SIMD + 235,
  "f32x4.convert_i32x4_s": SIMD + 250,
  "f64x2.floor": SIMD + 117,
  "f64x2.eq": SIMD + 71,
  "f64x2.lt": SIMD + 73,
  "f64x2.gt": SIMD + 74,
  "f64x2.ge": SIMD + 76,
  "f64x2.abs": SIMD + 236,
  "f64x2.neg": SIMD + 237,
  "f64x2.sqrt": SIMD + 239,
  "f64x2.add": SIMD + 240,
  "f64x2.sub": SIMD + 241,
  "f64x2.mul": SIMD + 242,
  "f64x2.div": SIMD + 243,
  "f64x2.min": SIMD + 244,
  "f64x2.max": SIMD + 245,
  "f64x2.pmax": SIMD + 247,
  "f64x2.relaxed_madd": SIMD + 0x107,
  "f32x4.demote_f64x2_zero": SIMD + 94,
  "f64x2.promote_low_f32x4": SIMD + 95,
  "f64x2.convert_low_i32x4_s": SIMD + 254,
  "i32x4.trunc_sat_f64x2_s_zero": SIMD + 252,
} as const satisfies Record<string, number>;
export type Opcode = keyof typeof OPCODES;

/** Memory instructions, with the alignment that their immediate states. */
const MEMORY_OPCODES = {
  "i32.load": [0x28, 2],
  "i32.load8_u": [0x2d, 0],
  "i32.store": [0x36, 2],
  "i32.store8": [0x3a, 0],
  "f64.load": [0x2b, 3],
  "f64.store": [0x39, 3],
  "v128.load": [SIMD, 0],
  "v128.store": [SIMD + 11, 0],
  "v128.load32_splat": [SIMD + 9, 0],
  "v128.load64_splat": [SIMD + 10, 0],
  "v128.load32_zero": [SIMD + 92, 0],
  "v128.load64_zero": [SIMD + 93, 0],
} as const satisfies Record<string, readonly [number, number]>;
export type MemoryOpcode = keyof typeof MEMORY_OPCODES;
const LANE_STORES = { "v128.store32_lane": [SIMD + 90, 2], "v128.store64_lane": [SIMD + 91, 3] } as const;

/** Index of a local; parameter 0 is the only parameter. */
export type Local = number;

export class FunctionBody {
  readonly code: number[] = [];
  readonly locals: ValueType[] = [];

  local(type: ValueType): Local {
    this.locals.push(type);
    return this.locals.length;
  }
  get(local: Local): this {
    return this.byte(0x20).unsigned(local);
  }
  set(local: Local): this {
    return this.byte(0x21).unsigned(local);
  }
  tee(local: Local): this {
    return this.byte(0x22).unsigned(local);
  }
  i32(value: number): this {
    return this.byte(0x41).signed(value);
  }
  op(name: Opcode): this {
    this.opcode(OPCODES[name]);
    return name === "i32x4.extract_lane0" ? this.byte(0) : this;
  }
  ops(...names: readonly Opcode[]): this {
    for (const name of names) this.op(name);
    return this;
  }
  memory(name: MemoryOpcode, offset = 0): this {
    const [opcode, align] = MEMORY_OPCODES[name];
    return this.opcode(opcode).unsigned(align).unsigned(offset);
  }
  storeLane(name: keyof typeof LANE_STORES, lane: number, offset = 0): this {
    const [opcode] = LANE_STORES[name];
    return this.opcode(opcode).unsigned(0).unsigned(offset).byte(lane);
  }
  constant(bytes: Uint8Array): this {
    this.opcode(SIMD + 12);
    for (const byte of bytes) this.byte(byte);
    return this;
  }
  constantI32(value: number): this {
    return this.constant(new Uint8Array(Int32Array.of(value, value, value, value).buffer));
  }
  constantF32(value: number): this {
    return this.constant(new Uint8Array(Float32Array.of(value, value, value, value).buffer));
  }
  constantF64(value: number): this {
    return this.constant(new Uint8Array(Float64Array.of(value, value).buffer));
  }
  /** Bytes 0..15 are of the first operand, 16..31 of the second. */
  shuffle(bytes: readonly number[]): this {
    this.opcode(SIMD + 13);
    for (const byte of bytes) this.byte(byte);
    return this;
  }
  /** Moves `length` bytes: destination, source and length are on the stack. */
  copyBytes(): this {
    return this.opcode(BULK + 10)
      .byte(0)
      .byte(0);
  }
  /** Destination, value and length are on the stack. */
  fillBytes(): this {
    return this.opcode(BULK + 11).byte(0);
  }
  /** Runs `body` while `counter` is above 0, `step` less each time; nothing if it starts at 0 or below. */
  countdown(counter: Local, step: number, body: () => void): this {
    return this.whileAtLeast(counter, 1, () => {
      body();
      this.get(counter).i32(step).op("i32.sub").set(counter);
    });
  }
  /** Runs `body`, which must lower `counter`, while `counter` is at least `least`. */
  whileAtLeast(counter: Local, least: number, body: () => void): this {
    this.byte(0x02, 0x40).get(counter).i32(least).op("i32.lt_s").byte(0x0d, 0x00).byte(0x03, 0x40);
    body();
    return this.get(counter).i32(least).op("i32.ge_s").byte(0x0d, 0x00).byte(0x0b, 0x0b);
  }
  /** Condition on the stack. */
  when(then: () => void, otherwise?: () => void): this {
    this.byte(0x04, 0x40);
    then();
    if (otherwise !== undefined) {
      this.byte(0x05);
      otherwise();
    }
    return this.byte(0x0b);
  }
  /** local += value */
  advance(local: Local, value: number): this {
    return this.get(local).i32(value).op("i32.add").set(local);
  }
  /** local += other */
  advanceBy(local: Local, other: Local): this {
    return this.get(local).get(other).op("i32.add").set(local);
  }

  private byte(...values: readonly number[]): this {
    for (const value of values) this.code.push(value & 255);
    return this;
  }
  private unsigned(value: number): this {
    writeUnsigned(this.code, value);
    return this;
  }
  private signed(value: number): this {
    let rest = value | 0;
    for (;;) {
      const low = rest & 127;
      rest >>= 7;
      if ((rest === 0 && low < 64) || (rest === -1 && low >= 64)) return this.byte(low);
      this.byte(low | 128);
    }
  }
  private opcode(opcode: number): this {
    if (opcode < 0x100) return this.byte(opcode);
    return this.byte(opcode >> 16).unsigned(opcode & 0xffff);
  }
}

export interface NamedFunction {
  readonly name: string;
  readonly body: FunctionBody;
}

/** Limits of the imported memory, in pages: at least one; of a shared one, which must be bounded, at most all that there are. */
const LEAST_LIMITS = [0, 1];
const SHARED_LIMITS = [3, 1, ...unsigned(65536)];

/** A module that exports the functions and imports its memory as `env.memory`. */
export function assembleModule(functions: readonly NamedFunction[], shared = false): Uint8Array<ArrayBuffer> {
  const out = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  section(out, 1, [1, 0x60, 1, VALUE_TYPES.i32, 0]);
  section(out, 2, [1, ...text("env"), ...text("memory"), 2, ...(shared ? SHARED_LIMITS : LEAST_LIMITS)]);
  section(out, 3, [...unsigned(functions.length), ...functions.map(() => 0)]);
  section(out, 7, [
    ...unsigned(functions.length),
    ...functions.flatMap(({ name }, index) => [...text(name), 0, ...unsigned(index)]),
  ]);
  const bodies = unsigned(functions.length);
  for (const { body } of functions) {
    const code = [...unsigned(body.locals.length), ...body.locals.flatMap((type) => [1, VALUE_TYPES[type]])];
    for (const byte of body.code) code.push(byte);
    code.push(0x0b);
    writeUnsigned(bodies, code.length);
    for (const byte of code) bodies.push(byte);
  }
  section(out, 10, bodies);
  return Uint8Array.from(out);
}

function section(out: number[], id: number, content: readonly number[]): void {
  out.push(id);
  writeUnsigned(out, content.length);
  for (const byte of content) out.push(byte);
}

function writeUnsigned(out: number[], value: number): void {
  let rest = value >>> 0;
  while (rest > 127) {
    out.push((rest & 127) | 128);
    rest >>>= 7;
  }
  out.push(rest);
}

function unsigned(value: number): number[] {
  const out: number[] = [];
  writeUnsigned(out, value);
  return out;
}

const text = (value: string): number[] => [...unsigned(value.length), ...Buffer.from(value, "latin1")];

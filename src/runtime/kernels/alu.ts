/**
 * Kernels of the VXM: one for each row of ALU_FUNCTIONS, over rows of fp32 (or int32) lanes.
 *
 * The reference of each is the function of `ir/functions.ts` itself. The emitted ones use the fp32 operation where that is
 * the same single rounding (+ - * / and comparisons), and otherwise repeat the float64 arithmetic of `ir/functions.ts`
 * operation by operation on two lanes at a time. Operands have a stride of their own, 0 for a constant row.
 */

import { aluBinary, aluTernary, aluUnary, FUNCTION_CONSTANTS } from "../../ir/functions.js";
import { ALU_FUNCTIONS, type AluFunction } from "../../ir/isa.js";
import { type KernelRow, kernel, type MachineMemory } from "./table.js";
import { HIGH_TWICE, LOW_PAIRS } from "../../wasm/shuffles.js";
import type { FunctionBody, Local, Opcode } from "../../wasm/emitter.js";

type EmitUnary = (f: FunctionBody, a: Local) => void;
type EmitBinary = (f: FunctionBody, a: Local, b: Local, scratch: Local) => void;

const C = FUNCTION_CONSTANTS;

const plain =
  (...opcodes: readonly Opcode[]): EmitUnary =>
  (f, a) =>
    f.get(a).ops(...opcodes);
const plain2 =
  (opcode: Opcode): EmitBinary =>
  (f, a, b) =>
    f.get(a).get(b).op(opcode);
/** A comparison's mask becomes 1 or 0. */
const truth = (f: FunctionBody): FunctionBody => f.constantF32(1).op("v128.and");
const compare =
  (opcode: Opcode): EmitBinary =>
  (f, a, b) =>
    truth(f.get(a).get(b).op(opcode));
const compareInt =
  (opcode: Opcode): EmitBinary =>
  (f, a, b) =>
    f.get(a).get(b).op(opcode).constantI32(1).op("v128.and");
const isTrue = (f: FunctionBody, a: Local): FunctionBody => f.get(a).constantF32(0).op("f32x4.ne");

const clamp = (f: FunctionBody, x: Local, limit: number): FunctionBody =>
  f.get(x).constantF64(-limit).op("f64x2.max").constantF64(limit).op("f64x2.min");

function horner(f: FunctionBody, coefficients: readonly number[], x: Local): FunctionBody {
  [...coefficients].reverse().forEach((coefficient, index) => {
    if (index === 0) f.constantF64(coefficient);
    else f.get(x).op("f64x2.mul").constantF64(coefficient).op("f64x2.add");
  });
  return f;
}

/** n (whole) and r of e^x = 2^n * e^r. */
function splitExponent(f: FunctionBody, x: Local, n: Local, r: Local): void {
  f.get(x).constantF64(C.log2e).op("f64x2.mul").constantF64(0.5).ops("f64x2.add", "f64x2.floor").set(n);
  f.get(x).get(n).constantF64(C.ln2).ops("f64x2.mul", "f64x2.sub").set(r);
}

const power2 = (f: FunctionBody, n: Local): FunctionBody =>
  f
    .get(n)
    .ops("i32x4.trunc_sat_f64x2_s_zero", "i64x2.extend_low_i32x4_s")
    .constant(new Uint8Array(BigInt64Array.of(1023n, 1023n).buffer))
    .op("i64x2.add")
    .i32(52)
    .op("i64x2.shl");

/** e^x of `x`, which is changed. */
function exp64(f: FunctionBody, x: Local): FunctionBody {
  const [n, r] = [f.local("v128"), f.local("v128")];
  clamp(f, x, C.expLimit).set(x);
  splitExponent(f, x, n, r);
  f.constantF64(1).get(r);
  horner(f, C.expm1, r).ops("f64x2.mul", "f64x2.add");
  return power2(f, n).op("f64x2.mul");
}

/** A function of float64 pairs on fp32 lanes: `body` finds its argument in the local and leaves the result on the stack. */
function wide(body: (f: FunctionBody, x: Local) => void): EmitUnary {
  return (f, a) => {
    const [x, low] = [f.local("v128"), f.local("v128")];
    f.get(a).op("f64x2.promote_low_f32x4").set(x);
    body(f, x);
    f.op("f32x4.demote_f64x2_zero").set(low);
    f.get(a).get(a).shuffle(HIGH_TWICE).op("f64x2.promote_low_f32x4").set(x);
    body(f, x);
    f.op("f32x4.demote_f64x2_zero").set(x).get(low).get(x).shuffle(LOW_PAIRS);
  };
}

const UNARY: Partial<Record<AluFunction, EmitUnary>> = {
  copy: plain(),
  neg: plain("f32x4.neg"),
  abs: plain("f32x4.abs"),
  relu: (f, a) => f.get(a).constantF32(0).op("f32x4.max"),
  floor: plain("f32x4.floor"),
  round: plain("f32x4.nearest"),
  not: (f, a) => truth(f.get(a).constantF32(0).op("f32x4.eq")),
  absInt: plain("i32x4.abs"),
  negInt: plain("i32x4.neg"),
  exp: wide(exp64),
  sigmoid: wide((f, x) => {
    f.get(x).op("f64x2.neg").set(x);
    f.constantF64(1).constantF64(1);
    exp64(f, x).ops("f64x2.add", "f64x2.div");
  }),
  tanh: wide((f, x) => {
    const [n, r, scale] = [f.local("v128"), f.local("v128"), f.local("v128")];
    f.constantF64(2);
    clamp(f, x, C.tanhLimit).op("f64x2.mul").set(x);
    splitExponent(f, x, n, r);
    power2(f, n).set(scale).get(r);
    horner(f, C.expm1, r)
      .op("f64x2.mul")
      .get(scale)
      .op("f64x2.mul")
      .get(scale)
      .constantF64(1)
      .ops("f64x2.sub", "f64x2.add")
      .set(x);
    f.get(x).get(x).constantF64(2).ops("f64x2.add", "f64x2.div");
  }),
  rsqrt: wide((f, x) => f.constantF64(1).get(x).ops("f64x2.sqrt", "f64x2.div")),
  erf: wide((f, x) => {
    const square = f.local("v128");
    clamp(f, x, C.erfLimit).set(x).get(x).get(x).op("f64x2.mul").set(square);
    f.get(x);
    horner(f, C.erfNumerator, square).op("f64x2.mul");
    horner(f, C.erfDenominator, square).op("f64x2.div");
  }),
};

const BINARY: Partial<Record<AluFunction, EmitBinary>> = {
  add: plain2("f32x4.add"),
  sub: plain2("f32x4.sub"),
  mul: plain2("f32x4.mul"),
  div: plain2("f32x4.div"),
  max: plain2("f32x4.max"),
  min: plain2("f32x4.min"),
  lt: compare("f32x4.lt"),
  le: compare("f32x4.le"),
  eq: compare("f32x4.eq"),
  and: (f, a, b) => {
    isTrue(f, a);
    truth(isTrue(f, b).op("v128.and"));
  },
  or: (f, a, b) => {
    isTrue(f, a);
    truth(isTrue(f, b).op("v128.or"));
  },
  addInt: plain2("i32x4.add"),
  subInt: plain2("i32x4.sub"),
  mulInt: plain2("i32x4.mul"),
  maxInt: plain2("i32x4.max_s"),
  minInt: plain2("i32x4.min_s"),
  andBits: plain2("v128.and"),
  orBits: plain2("v128.or"),
  xorBits: plain2("v128.xor"),
  eqInt: compareInt("i32x4.eq"),
  ltInt: compareInt("i32x4.lt_s"),
  leInt: compareInt("i32x4.le_s"),
  addSat: (f, a, b, sum) => {
    f.get(a).get(b).op("i32x4.add").set(sum);
    f.get(a).i32(31).op("i32x4.shr_s").constantI32(0x7fffffff).op("v128.xor").get(sum);
    f.get(a)
      .get(sum)
      .op("v128.xor")
      .get(a)
      .get(b)
      .ops("v128.xor", "v128.andnot")
      .i32(31)
      .ops("i32x4.shr_s", "v128.bitselect");
  },
};

const has = <T extends object>(table: T, name: string): name is Extract<keyof T, string> => Object.hasOwn(table, name);
const view = (m: MachineMemory, int: boolean): Float32Array | Int32Array => (int ? m.i32 : m.f32);

function unaryKernel(name: keyof typeof aluUnary): KernelRow {
  const apply = aluUnary[name];
  const emit = UNARY[name];
  const { int } = ALU_FUNCTIONS[name];
  return kernel(["dst", "a", "aStride", "rows", "lanes"], {
    doc: `${name} of every lane.`,
    reference: (m, x) => {
      const data = view(m, int);
      for (let row = 0, to = x.dst / 4; row < x.rows; row++) {
        const a = (x.a + row * x.aStride) / 4;
        for (let lane = 0; lane < x.lanes; lane++) data[to++] = apply(data[a + lane] as number);
      }
    },
    ...(emit === undefined
      ? {}
      : {
          emit: (f, x) => {
            const [a, left] = [f.local("v128"), f.local("i32")];
            byRows(f, x.rows, x.lanes, left, [[x.a, x.aStride]], () => {
              f.get(x.a).memory("v128.load").set(a).get(x.dst);
              emit(f, a);
              f.memory("v128.store").advance(x.dst, 16);
            });
          },
        }),
  });
}

function binaryKernel(name: keyof typeof aluBinary): KernelRow {
  const apply = aluBinary[name];
  const emit = BINARY[name];
  const { int } = ALU_FUNCTIONS[name];
  return kernel(["dst", "a", "aStride", "b", "bStride", "rows", "lanes"], {
    doc: `${name} of every pair of lanes.`,
    reference: (m, x) => {
      const data = view(m, int);
      for (let row = 0, to = x.dst / 4; row < x.rows; row++) {
        const a = (x.a + row * x.aStride) / 4;
        const b = (x.b + row * x.bStride) / 4;
        for (let lane = 0; lane < x.lanes; lane++)
          data[to++] = apply(data[a + lane] as number, data[b + lane] as number);
      }
    },
    ...(emit === undefined
      ? {}
      : {
          emit: (f, x) => {
            const [a, b, scratch, left] = [f.local("v128"), f.local("v128"), f.local("v128"), f.local("i32")];
            byRows(
              f,
              x.rows,
              x.lanes,
              left,
              [
                [x.a, x.aStride],
                [x.b, x.bStride],
              ],
              () => {
                f.get(x.a).memory("v128.load").set(a).get(x.b).memory("v128.load").set(b).get(x.dst);
                emit(f, a, b, scratch);
                f.memory("v128.store").advance(x.dst, 16);
              },
            );
          },
        }),
  });
}

/** Runs `body` for each group of four lanes of each row; it advances the result's pointer, this the operands'. */
function byRows(
  f: FunctionBody,
  rows: Local,
  lanes: Local,
  left: Local,
  operands: readonly (readonly [Local, Local])[],
  body: () => void,
): void {
  for (const [, stride] of operands) f.get(stride).get(lanes).i32(2).ops("i32.shl", "i32.sub").set(stride);
  f.countdown(rows, 1, () => {
    f.get(lanes).set(left);
    f.countdown(left, 4, () => {
      body();
      for (const [pointer] of operands) f.advance(pointer, 16);
    });
    for (const [pointer, stride] of operands) f.advanceBy(pointer, stride);
  });
}

function ternaryKernel(name: keyof typeof aluTernary): KernelRow {
  const apply = aluTernary[name];
  const { int } = ALU_FUNCTIONS[name];
  return kernel(["dst", "a", "aStride", "b", "bStride", "c", "cStride", "rows", "lanes"], {
    doc: `${name} of every three lanes.`,
    reference: (m, x) => {
      const data = view(m, int);
      for (let row = 0, to = x.dst / 4; row < x.rows; row++) {
        for (let lane = 0; lane < x.lanes; lane++) {
          const at = (base: number, stride: number): number => data[(base + row * stride) / 4 + lane] as number;
          data[to++] = apply(at(x.a, x.aStride), at(x.b, x.bStride), at(x.c, x.cStride));
        }
      }
    },
    emit: (f, x) => {
      const [a, left] = [f.local("v128"), f.local("i32")];
      byRows(
        f,
        x.rows,
        x.lanes,
        left,
        [
          [x.a, x.aStride],
          [x.b, x.bStride],
          [x.c, x.cStride],
        ],
        () => {
          f.get(x.a).memory("v128.load").set(a).get(x.dst).get(x.b).memory("v128.load").get(x.c).memory("v128.load");
          if (int) f.get(a).constantI32(0).op("i32x4.ne");
          else isTrue(f, a);
          f.op("v128.bitselect").memory("v128.store").advance(x.dst, 16);
        },
      );
    },
  });
}

function aluKernel(name: AluFunction): KernelRow {
  if (has(aluUnary, name)) return unaryKernel(name);
  if (has(aluBinary, name)) return binaryKernel(name);
  return ternaryKernel(name);
}

const names = Object.keys(ALU_FUNCTIONS).filter((name): name is AluFunction => name in ALU_FUNCTIONS);

export const aluKernelName = (name: AluFunction): string => `alu.${name}`;
export const ALU_KERNELS: Readonly<Record<string, KernelRow>> = Object.fromEntries(
  names.map((name) => [aluKernelName(name), aluKernel(name)]),
);

/**
 * Operations that one ALU does: which of its functions each is, by the class of the operands.
 */

import { type DType, DTYPES } from "../dtype.js";
import type { ALU_FUNCTIONS } from "../isa.js";

/** The functions of an ALU that an IR op is, by the class of its operands (truth values are the numbers 0 and 1). */
interface AluFunctions {
  readonly float?: keyof typeof ALU_FUNCTIONS;
  readonly int?: keyof typeof ALU_FUNCTIONS;
}

const both = (name: keyof typeof ALU_FUNCTIONS, int: keyof typeof ALU_FUNCTIONS): AluFunctions => ({
  float: name,
  int,
});
const floats = (...names: readonly (keyof typeof ALU_FUNCTIONS)[]): Readonly<Record<string, AluFunctions>> =>
  Object.fromEntries(names.map((name) => [name, { float: name }]));

/** IR ops that one ALU does. */
export const ALU_OF_OP: Readonly<Record<string, AluFunctions>> = {
  ...floats("relu", "exp", "tanh", "rsqrt", "erf", "sigmoid", "log", "sin", "cos", "floor", "round"),
  ...floats("not", "and", "or"),
  abs: both("abs", "absInt"),
  neg: both("neg", "negInt"),
  sign: both("sign", "signInt"),
  add: both("add", "addInt"),
  sub: both("sub", "subInt"),
  mul: both("mul", "mulInt"),
  div: both("div", "divInt"),
  mod: { int: "modInt" },
  bit_and: { int: "andBits" },
  bit_or: { int: "orBits" },
  bit_xor: { int: "xorBits" },
  shift_left: { int: "shiftLeft" },
  shift_right: { int: "shiftRight" },
  max: both("max", "maxInt"),
  min: both("min", "minInt"),
  eq: both("eq", "eqInt"),
  lt: both("lt", "ltInt"),
  le: both("le", "leInt"),
  select: both("select", "selectInt"),
  // Makes a number of an integer or a truth value, or an integer of a whole number.
  cast: both("copy", "copy"),
};

/** The operand whose type decides which function an op is. */
const DECIDING_OPERAND: Readonly<Record<string, number>> = { select: 1 };

/** The ALU function of a node whose operands have these types; undefined if no one ALU does it. */
export const aluFunction = (op: string, types: readonly DType[]): keyof typeof ALU_FUNCTIONS | undefined => {
  const row = ALU_OF_OP[op];
  const dtype = types[DECIDING_OPERAND[op] ?? 0];
  return dtype !== undefined && DTYPES[dtype].kind === "int" ? row?.int : row?.float;
};

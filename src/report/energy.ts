/**
 * Energy of bursts: a model by instruction class (`Energies`, ir/target.ts), calibrated to the published envelope, not measured.
 *
 * All figures are whole femtojoules, so that sums are exact in any order: the energy over time adds up to the energy of the
 * bursts to the last digit. What an execution needs, the flights of its results included, is booked at its dispatch.
 */

import { type AluFunction, type ArrayKind, arrayDepth, arrayOf, type Mnemonic } from "../ir/isa.js";
import type { TimedInstruction } from "../ir/program.js";
import { ENERGIES, type Energies, type Target } from "../ir/target.js";

/** Classes of the model; `flight` is the way of vectors on streams, `static` what flows at any time. */
export const ENERGY_CLASSES = [
  "static",
  "flight",
  "sramRead",
  "sramWrite",
  "weights",
  "array",
  "vxm",
  "sxm",
  "links",
  "dispatch",
] as const;
export type EnergyClass = (typeof ENERGY_CLASSES)[number];

const FEMTO = 1000;
const whole = (picojoules: number): number => Math.round(picojoules * FEMTO);

/** What the machine does in one execution, by class, beside dispatch and flight: a class and femtojoules. */
export interface ExecutionEnergy {
  readonly kind: EnergyClass;
  readonly femtojoules: number;
}

/** Multiply-accumulates of one execution, padding included, as the machines count them. */
export const macsOf = (target: Target, instruction: TimedInstruction): number =>
  instruction.op === "abc" ? arrayDepth(target, arrayOf(instruction)) * target.lanes : 0;

/** Lane operations of an ALU, 0 elsewhere. */
export const laneOperationsOf = (target: Target, { op }: TimedInstruction): number =>
  op === "unary" || op === "binary" || op === "ternary" ? target.lanes : 0;

/** `taken` and `given`: byte vectors that one execution takes from streams and gives to them. */
export function executionEnergy(
  target: Target,
  instruction: TimedInstruction,
  taken: number,
  given: number,
  energies: Energies = ENERGIES,
): ExecutionEnergy {
  const { lanes } = target;
  const rule = RULES[instruction.op];
  if (rule === undefined) return { kind: "dispatch", femtojoules: 0 };
  const [kind, picojoules] = rule({ target, instruction, lanes, taken, given, energies });
  return { kind, femtojoules: whole(picojoules) };
}

interface Executed {
  readonly target: Target;
  readonly instruction: TimedInstruction;
  readonly lanes: number;
  readonly taken: number;
  readonly given: number;
  readonly energies: Energies;
}
type Rule = (executed: Executed) => readonly [EnergyClass, number];

const MAC_ENERGY = { f16: "fp16Mac", i8: "int8Mac" } as const satisfies Record<ArrayKind, keyof Energies>;

const read: Rule = ({ lanes, energies }) => ["sramRead", 8 * lanes * energies.sramReadBit];
const write: Rule = ({ lanes, energies }) => ["sramWrite", 8 * lanes * energies.sramWriteBit];
const alu: Rule = ({ instruction, lanes, energies }) => ["vxm", lanes * energies[aluClass(instruction)]];
const weights: Rule = ({ lanes, taken, energies }) => ["weights", taken * lanes * energies.weightByte];
const move: Rule = ({ lanes, given, energies }) => ["sxm", given * lanes * energies.sxmByte];

/** Instructions that are not here only cost their dispatch. */
const RULES: Readonly<Partial<Record<Mnemonic, Rule>>> = {
  read,
  gather: read,
  write,
  scatter: write,
  unary: alu,
  binary: alu,
  ternary: alu,
  lw: weights,
  iwStream: weights,
  abc: ({ target, instruction, energies }) => [
    "array",
    macsOf(target, instruction) * energies[MAC_ENERGY[arrayOf(instruction)]],
  ],
  shift: move,
  select: move,
  permute: move,
  distribute: move,
  rotate: move,
  transpose: move,
  send: ({ lanes, energies }) => ["links", lanes * energies.c2cByte],
};

const PRODUCTS: ReadonlySet<AluFunction> = new Set(["mul", "mulInt"]);
const FUNCTIONS: ReadonlySet<AluFunction> = new Set([
  ...(["exp", "tanh", "rsqrt", "erf", "sigmoid", "log", "sin", "cos"] as const),
  ...(["div", "divInt", "modInt"] as const),
]);

function aluClass({ fields }: TimedInstruction): "aluAdd" | "aluMultiply" | "aluFunction" {
  const name = fields["function"] as AluFunction;
  if (PRODUCTS.has(name)) return "aluMultiply";
  return FUNCTIONS.has(name) ? "aluFunction" : "aluAdd";
}

/** Femtojoules of one byte vector for each hop, and of one dispatch. */
export const hopEnergy = ({ lanes }: Target, { streamHopByte }: Energies = ENERGIES): number =>
  whole(lanes * streamHopByte);
export const dispatchEnergy = ({ dispatch }: Energies = ENERGIES): number => whole(dispatch);
/** Femtojoules that one chip takes in a cycle whatever it does. W over MHz is microjoules, or 1e9 femtojoules. */
export const staticEnergy = ({ clock, lanes }: Target, { staticLaneWatts }: Energies = ENERGIES): number =>
  Math.round(((staticLaneWatts * lanes) / clock) * 1e9);

/** Watts of so many femtojoules in so many cycles. */
export const watts = ({ clock }: Target, femtojoules: number, cycles: number): number =>
  cycles === 0 ? 0 : (femtojoules / cycles) * clock * 1e-9;

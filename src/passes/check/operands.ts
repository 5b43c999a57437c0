/**
 * Part of the schedule checker: queues dispatch one instruction at a time, and every operand is one that the unit can take.
 *
 * A queue starts after the barrier and is busy until the last execution of a burst, except for MEM bursts, which the slice's
 * address generators run. Ranges are those of the operand kinds, held for every execution of the burst; streams are aligned
 * and within one direction; lane maps exist. What depends on other instructions is for the other parts.
 */

import { ENCODER_OWN, mayIssue, mostExecutions } from "../../ir/bursts.js";
import {
  COUNT_MAX,
  elementStreams,
  isNumberKind,
  NUMBER_RANGES,
  type NumberRange,
  OFFSETS,
  operandStreams,
} from "../../ir/operands.js";
import {
  ALU_FUNCTIONS,
  ARRAYS,
  arrayOf,
  type FieldRow,
  type InstructionRow,
  isAluFunction,
  isStreamType,
  type Mnemonic,
  type OperandKind,
  type Source,
  weightColumns,
} from "../../ir/isa.js";
import { type FieldValue, isWestward, type TimedInstruction } from "../../ir/program.js";
import { EPOCH, type Target } from "../../ir/target.js";
import { type Burst, type CheckedChip, haveSameForm, type OpSpec, raise, specOfOp, streamOf } from "./burst.js";

/** Not for a schedule: what the encoder writes, and text that is fetched, which cannot be checked before it runs. */
const REFUSED: ReadonlySet<Mnemonic> = new Set([...ENCODER_OWN, "ifetch"]);

export const checkOperands = (chip: CheckedChip): void => {
  const ranges = rangesOf(chip);
  for (const queue of chip.queues) {
    // By their fields: what differs from one of these in time alone keeps all rules but that of dispatch.
    const proved = new Map<TimedInstruction["fields"], TimedInstruction>();
    let free = chip.target.timing.barrier;
    for (const burst of queue) {
      const { instruction } = burst;
      const spec = specOfOp(chip.specs, instruction.op);
      free = checkDispatch(chip, burst, spec, free);
      const known = proved.get(instruction.fields);
      if (known !== undefined && haveSameForm(known, instruction)) continue;
      proved.set(instruction.fields, instruction);
      checkBurst(chip, burst, spec);
      for (const field of ranges.get(spec.op) ?? []) checkField(chip, burst, spec, field);
      for (const { field } of spec.takes) checkStreams(chip, burst, field);
      for (const { field } of spec.gives) checkStreams(chip, burst, field);
      OWN_RULES[spec.op]?.(chip, burst);
    }
  }
};

function refuse(chip: CheckedChip, burst: Burst, message: string): never {
  raise(chip, "LPU2211", burst, burst.instruction.cycle, message);
}

/** Returns the first cycle at which the queue may dispatch again. */
const checkDispatch = (chip: CheckedChip, burst: Burst, { op, row, generator }: OpSpec, free: number): number => {
  const { place, instruction, last } = burst;
  const { cycle } = instruction;
  if (REFUSED.has(op)) refuse(chip, burst, `expected an instruction that a schedule may hold, found '${op}'`);
  if (!mayIssue(row, place.unit)) refuse(chip, burst, `expected an instruction of unit '${place.unit}', found '${op}'`);
  if (!Number.isSafeInteger(cycle)) refuse(chip, burst, `expected a whole cycle, found ${cycle}`);
  if (cycle < free)
    raise(chip, "LPU2210", burst, cycle, `expected a dispatch at cycle ${free} or later, found cycle ${cycle}`);
  if (op === "deskew") return (Math.floor(cycle / EPOCH) + 1) * EPOCH;
  return generator ? cycle + 1 : last + 1;
};

const checkBurst = (chip: CheckedChip, burst: Burst, { op, row, takes }: OpSpec): void => {
  const { count, interval, step, tap } = burst.instruction;
  const most = mostExecutions(op);
  if (!within(count, 1, most)) refuse(chip, burst, `expected a count from 1 to ${most}, found ${count}`);
  if (!within(interval, 1, count === 1 ? 1 : COUNT_MAX))
    refuse(chip, burst, `expected an interval of at least 1 (1 for a single execution), found ${interval}`);
  const steps = count > 1 && (op === "read" || op === "write");
  const [back, ahead] = steps ? OFFSETS : [0, 0];
  if (!within(step, back, ahead))
    refuse(chip, burst, `expected a step of rows for a read or write burst and 0 otherwise, found ${step}`);
  if (tap === 0) return;
  const mask = takes.reduce(
    (bits, { field, slot }) => (row.fields[field]?.kind === "stream" ? bits | (1 << slot) : bits),
    0,
  );
  if ((tap & ~mask) !== 0) refuse(chip, burst, `expected taps within mask ${mask}, found ${tap}`);
};

interface RangedField {
  readonly name: string;
  readonly kind: OperandKind;
  readonly advances: FieldRow["advances"];
  /** Undefined of what is no number. */
  readonly range: NumberRange | undefined;
}

const rangesOf = ({ target, specs }: CheckedChip): ReadonlyMap<Mnemonic, readonly RangedField[]> =>
  new Map(
    [...specs].map(([op, { row }]) => [
      op,
      Object.entries(row.fields).map(([name, field]) => ({
        name,
        kind: field.kind,
        advances: field.advances,
        range: isNumberKind(field.kind) ? NUMBER_RANGES[field.kind](target, field) : undefined,
      })),
    ]),
  );

const checkField = (
  chip: CheckedChip,
  burst: Burst,
  { row }: OpSpec,
  { name, kind, advances, range }: RangedField,
): void => {
  const { instruction } = burst;
  const value = instruction.fields[name];
  if (range === undefined) {
    const expected = refuseWord(chip.target, kind, row, value);
    if (expected !== undefined)
      refuse(chip, burst, `operand '${name}': expected ${expected}, found ${JSON.stringify(value)}`);
    return;
  }
  const [least, greatest] = range;
  if (typeof value !== "number" || !within(value, least, greatest))
    refuse(
      chip,
      burst,
      `operand '${name}': expected a whole number from ${least} to ${greatest}, found ${JSON.stringify(value)}`,
    );
  if (advances === undefined || instruction.count === 1) return;
  const last = value + (instruction.count - 1) * advanceOf(instruction, advances);
  if (last < least || last > greatest)
    refuse(
      chip,
      burst,
      `operand '${name}': expected ${least} to ${greatest} at every execution, found ${last} at the last`,
    );
};

const advanceOf = (instruction: TimedInstruction, advances: NonNullable<FieldRow["advances"]>): number => {
  if (typeof advances === "number") return advances;
  return advances === "step" ? instruction.step : weightColumns(instruction);
};

/** What was expected of an operand that is not a plain number, if the value is not that. */
const refuseWord = (
  target: Target,
  kind: OperandKind,
  row: InstructionRow,
  value: FieldValue | undefined,
): string | undefined => {
  if (kind === "type") return typeof value === "string" && isStreamType(value) ? undefined : "a type on streams";
  if (kind === "source") return typeof value === "object" ? refuseSource(target, value) : "an operand";
  if (typeof value !== "string" || !isAluFunction(value)) return "an ALU function";
  const sources = Object.values(row.fields).filter((field) => field.kind === "source").length;
  return ALU_FUNCTIONS[value].operands === sources ? undefined : `a function of ${sources} operands`;
};

const refuseSource = ({ streams, alus, chainDepth }: Target, source: Source): string | undefined => {
  if ("stream" in source) return within(source.stream, 0, 2 * streams - 1) ? undefined : "a stream";
  if ("constant" in source) {
    const { constant } = source;
    return Object.is(Math.fround(constant), constant) || (constant | 0) === constant
      ? undefined
      : "an fp32 or int32 constant";
  }
  if (!within(source.alu, 0, alus - 1)) return `an ALU from 0 to ${alus - 1}`;
  return within(source.age, 0, chainDepth) ? undefined : `an age from 0 to ${chainDepth}`;
};

/** Streams of an operand are neighbours of one direction, aligned to the element. */
const checkStreams = (chip: CheckedChip, burst: Burst, field: string): void => {
  const { target } = chip;
  const stream = streamOf(burst.instruction.fields[field]);
  if (stream < 0) return;
  const element = elementStreams(target, burst.instruction, field);
  const width = operandStreams(target, burst.instruction, field);
  const start = stream % target.streams;
  if (start % element !== 0 || start + width > target.streams)
    refuse(
      chip,
      burst,
      `operand '${field}': expected ${width} neighbouring streams aligned to ${element}, found the first at ${start}`,
    );
};

type Rule = (chip: CheckedChip, burst: Burst) => void;

const checkDirections: Rule = (chip, burst) => {
  const [give, give2] = [Number(burst.instruction.fields["give"]), Number(burst.instruction.fields["give2"])];
  if (give >= 0 && give2 >= 0 && isWestward(chip.target, give) === isWestward(chip.target, give2))
    refuse(chip, burst, "operand 'give2': expected a stream of the other direction");
};

const checkPlane: Rule = (chip, burst) => {
  if (burst.place.index !== 0 && ARRAYS[arrayOf(burst.instruction)].joined)
    refuse(chip, burst, `expected fp16 in the queues of plane 0, found plane ${burst.place.index}`);
};

const checkColumns: Rule = (chip, burst) => {
  const columns = weightColumns(burst.instruction);
  const end = Number(burst.instruction.fields["column"]) + burst.instruction.count * columns;
  if (columns < 1 || end > chip.target.lanes)
    refuse(chip, burst, `expected columns below ${chip.target.lanes} at every execution, found ${end - 1} as the last`);
  checkPlane(chip, burst);
};

const checkInward: Rule = (chip, burst) => {
  const give = Number(burst.instruction.fields["give"]);
  if (give >= 0 && isWestward(chip.target, give) !== (burst.place.hemisphere === "E"))
    refuse(chip, burst, "operand 'give': expected an inward stream");
};

const checkLength: Rule = (chip, burst) => {
  const length = Number(burst.instruction.fields["length"]);
  if (length % chip.target.superlane !== 0)
    refuse(chip, burst, `expected a multiple of ${chip.target.superlane} lanes, found ${length}`);
};

/** Lane maps with as many entries as `lanes` says: source lanes, or (`flags`) any numbers. */
const checkMap =
  (lanes: (target: Target) => number, flags: boolean): Rule =>
  (chip, burst) => {
    const index = Number(burst.instruction.fields["map"]);
    const needed = lanes(chip.target);
    const map = chip.chip.maps[index];
    if (map === undefined || map.length < needed)
      refuse(chip, burst, `lane map ${index}: expected ${needed} lanes, found ${map?.length ?? "none"}`);
    const wrong = map.subarray(0, needed).find((source) => !within(source, -1, needed - 1));
    if (wrong !== undefined && !flags)
      refuse(chip, burst, `lane map ${index}: expected source lanes from -1 to ${needed - 1}, found ${wrong}`);
  };

/** Rules that only one instruction has. */
const OWN_RULES: Readonly<Partial<Record<Mnemonic, Rule>>> = {
  unary: checkDirections,
  binary: checkDirections,
  ternary: checkDirections,
  lw: checkColumns,
  iwStream: checkColumns,
  abc: checkPlane,
  acc: checkInward,
  config: checkLength,
  permute: checkMap(({ lanes }) => lanes, false),
  select: checkMap(({ lanes }) => lanes, true),
  distribute: checkMap(({ superlane }) => superlane, false),
};

const within = (value: number, least: number, greatest: number): boolean =>
  Number.isInteger(value) && value >= least && value <= greatest;

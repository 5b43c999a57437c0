/**
 * The tables of the project as text: what `lpu isa`, `lpu ops`, `lpu passes`, `lpu targets` print and docs/ is made of.
 *
 * Everything here is derived from the tables; a fact that is missing in this output is missing in a table. The text is
 * Markdown with padded columns, which reads as well in a terminal.
 */

import { DIAGNOSTICS } from "../diagnostics.js";
import { type DType, DTYPES, type EdgeDType, isFp8 } from "../ir/dtype.js";
import {
  ALU_FUNCTIONS,
  type FieldRow,
  ISA,
  type InstructionRow,
  MNEMONICS,
  type Mnemonic,
  OPERAND_KINDS,
  STREAM_TYPES,
} from "../ir/isa.js";
import { OPS } from "../ir/ops.js";
import { type AttributeKind, ATTRIBUTE_KINDS } from "../ir/ops/attributes.js";
import { isSystem, type System, systemOf, SYSTEMS } from "../ir/system.js";
import { ENERGIES, linkDelay, peakMacs, sramBytes, TARGETS, type Target } from "../ir/target.js";

/** Bits of each field of an instruction in program text, by field name. */
export type FieldBits = (op: Mnemonic) => Readonly<Record<string, string>>;

export function isaText(bits: FieldBits): string {
  const summary = MNEMONICS.map((op) => {
    const row: InstructionRow = ISA[op];
    return [hex(row.opcode), op, row.units === "all" ? "all" : row.units.join(", "), row.doc];
  });
  return [
    "# Instruction set",
    "",
    table(["opcode", "mnemonic", "units", "what it does"], summary),
    "",
    ...MNEMONICS.flatMap((op) => instructionLines(op, bits)),
    "## Operand kinds",
    "",
    table(
      ["kind", "meaning"],
      Object.entries(OPERAND_KINDS).map(([name, { doc }]) => [name, doc]),
    ),
    "",
    "## Types on streams",
    "",
    table(
      ["type", "streams"],
      Object.entries(STREAM_TYPES).map(([name, { bytes }]) => [name, String(bytes)]),
    ),
    "",
    "## ALU functions",
    "",
    table(
      ["code", "function", "operands", "computes in", "meaning"],
      Object.entries(ALU_FUNCTIONS).map(([name, { code, operands, int, doc }]) => {
        return [hex(code), name, String(operands), int ? "int32" : "fp32", doc];
      }),
    ),
    "",
  ].join("\n");
}

function instructionLines(op: Mnemonic, bits: FieldBits): string[] {
  const row: InstructionRow = ISA[op];
  const widths = bits(op);
  const fields = Object.entries(row.fields);
  if (fields.length === 0) return [];
  return [
    `## ${op}`,
    "",
    table(
      ["operand", "kind", "bits", "moves by", "stream", "meaning"],
      fields.map(([name, field]) => {
        return [name, field.kind, widths[name] ?? "", advance(field), timing(row, name), meaning(field)];
      }),
    ),
    "",
  ];
}

const advance = ({ advances }: FieldRow): string => (advances === undefined ? "" : String(advances));

function timing({ takes, gives }: InstructionRow, name: string): string {
  const taken = takes[name];
  const given = gives[name];
  if (given !== undefined) return `given at dispatch + ${given}`;
  if (taken === undefined) return "";
  return taken.skew === 0 ? "taken at dispatch" : `taken at dispatch ${taken.sign === -1 ? "-" : "+"} ${taken.skew}`;
}

const meaning = ({ doc, words }: FieldRow): string =>
  words === undefined ? doc : `${doc} One of: ${words.join(", ")}.`;

/** An import rule, as the frontend has it. */
export interface OperatorRow {
  readonly op: string;
  readonly domain?: string;
  readonly since?: number;
  readonly doc: string;
  readonly refuses?: string;
  readonly ignores?: Readonly<Record<string, string>>;
  readonly defaults?: Readonly<Record<string, number | string>>;
}

/** What the frontend knows of operators and element types. */
export interface OperatorTables {
  readonly rules: readonly OperatorRow[];
  readonly opsets: readonly [oldest: number, newest: number];
  readonly refused: readonly {
    readonly name: string;
    readonly operators: readonly string[];
    readonly doc: string;
    readonly hint: string;
  }[];
  /** Attributes that mean nothing to a program that only runs, with the reason. */
  readonly unused: Readonly<Record<string, string>>;
  readonly types: readonly { readonly name: string; readonly dtype: DType; readonly edge: EdgeDType }[];
  readonly otherTypes: readonly { readonly name: string; readonly why: string }[];
}

export function opsText(tables: OperatorTables): string {
  const domains = [...new Set(tables.rules.map(({ domain = "" }) => domain))].sort();
  const [oldest, newest] = tables.opsets;
  return [
    "# Operators",
    "",
    `Models of ONNX operator sets ${oldest} to ${newest}. Every operator is written in the tensor operations below; what only depends on constants and fixed inputs folds when the program is built, in any form.`,
    "What decides a shape (axes, sizes, pads, k) must be a constant, or an input that is fixed with `--fix`. An attribute or operand that a rule does not read is refused by name.",
    "",
    ...domains.flatMap((domain) => [`## ${domain === "" ? "ONNX" : domain}`, "", ruleTable(tables, domain), ""]),
    "## Element types",
    "",
    table(["type", "in files and at the edge", "computed as"], tables.types.map(typeRow)),
    "",
    "Not supported:",
    "",
    ...tables.otherTypes.map(({ name, why }) => `* ${name}: ${why}.`),
    "",
    "## What is refused and why",
    "",
    ...tables.refused.map(
      ({ name, operators, doc, hint }) =>
        `* **${name}** (${operators.map((op) => `\`${op}\``).join(", ")}). ${doc} What to do: ${hint}.`,
    ),
    "* Operators that are in no list here have no rule yet: write them out in others.",
    "",
    "Ignored because they mean nothing to a program that only runs:",
    "",
    ...Object.entries(tables.unused).map(([name, reason]) => `* \`${name}\`: ${reason}.`),
    "",
    "# Tensor operations",
    "",
    ...operationLines(),
  ].join("\n");
}

function ruleTable({ rules, opsets: [oldest, newest] }: OperatorTables, domain: string): string {
  const own = rules.filter((rule) => (rule.domain ?? "") === domain);
  const sorted = own.sort((a, b) => (a.op === b.op ? (a.since ?? 1) - (b.since ?? 1) : a.op < b.op ? -1 : 1));
  const until = (index: number): number => {
    const next = sorted[index + 1];
    return next?.op === sorted[index]?.op ? (next?.since ?? 1) - 1 : newest;
  };
  const opsets = (index: number): string => `${Math.max(oldest, sorted[index]?.since ?? 1)} to ${until(index)}`;
  const rows = sorted.map((rule, index) => [rule.op, ...(domain === "" ? [opsets(index)] : []), ruleText(rule)]);
  return table(["operator", ...(domain === "" ? ["opsets"] : []), "what it becomes; what of it is refused"], rows);
}

/** What an operator becomes, what of it is refused, and what of it is not looked at. */
function ruleText({ doc, refuses, ignores = {}, defaults = {} }: OperatorRow): string {
  const unread = Object.entries(ignores).map(
    ([name, reason]) => `${/^\d+$/.test(name) ? `operand ${name}` : `\`${name}\``} (${reason})`,
  );
  const only = Object.entries(defaults).map(([name, value]) => `\`${name}\` = ${value}`);
  return [
    doc,
    ...(refuses === undefined ? [] : [`Refused: ${refuses}`]),
    ...(unread.length === 0 ? [] : [`Not read: ${unread.join(", ")}.`]),
    ...(only.length === 0 ? [] : [`Only with ${only.join(", ")}.`]),
  ].join(" ");
}

const COMPUTED: Readonly<Record<"float" | "int" | "bool", string>> = {
  float: "f16, or f32 where range or bits ask for it",
  int: "i32; what is narrower wraps as ONNX says",
  bool: "truth values",
};
const COMPUTED_FP8 = "FP8 as weights of products, else f16, or f32 where range or bits ask for it";

function typeRow({ name, dtype, edge }: OperatorTables["types"][number]): readonly string[] {
  const { kind } = DTYPES[dtype];
  const narrowed =
    edge === dtype ? "" : `, ${kind === "int" ? "narrowed with a check of its range" : "rounded"} to ${dtype}`;
  return [name, `${edge}${narrowed}`, isFp8(dtype) ? COMPUTED_FP8 : COMPUTED[kind]];
}

function operationLines(): string[] {
  const rows = Object.entries(OPS).map(([name, row]) => {
    const attrs = Object.entries(row.attrs).map(([attr, kind]) => `${attr}: ${attributeText(kind)}`);
    const traits = "composite" in row && row.composite ? "composite" : "";
    return [`${name}(${row.operands.join(", ")})`, attrs.join("; "), traits, row.doc];
  });
  return [
    table(["operation", "attributes", "", "meaning"], rows),
    "",
    "## Attribute kinds",
    "",
    table(
      ["kind", "meaning"],
      Object.entries(ATTRIBUTE_KINDS).map(([name, kind]) => [name, kind.doc]),
    ),
    "",
  ];
}

const attributeText = (kind: AttributeKind): string => (typeof kind === "string" ? kind : kind.join(" or "));

export function passesText(pipeline: readonly { readonly name: string; readonly doc: string }[]): string {
  const rows = pipeline.map(({ name, doc }, index) => [String(index + 1), name, doc]);
  return [
    "# Passes, in order",
    "",
    "Why the order is this one is said in the list itself, in `src/passes/graph/pipeline.ts`.",
    "",
    table(["", "pass", "what it does"], rows),
    "",
  ].join("\n");
}

export function errorsText(): string {
  const rows = Object.entries(DIAGNOSTICS).map(([code, { title, doc, hint }]) => [code, title, doc, hint]);
  return [
    "# Errors",
    "",
    "1xxx: model and import. 2xxx: passes and scheduling. 3xxx: text, assembly and image. 4xxx: runtime and machine. 5xxx: command line.",
    "",
    table(["code", "title", "meaning", "what to do"], rows),
    "",
  ].join("\n");
}

/** What is known of a target's field beyond its values. */
export interface FieldNote {
  readonly source: string;
  readonly doc: string;
}

export function targetsText(notes: Readonly<Record<string, FieldNote>> = {}): string {
  const targets: readonly Target[] = Object.values(TARGETS);
  const names = targets.map(({ name }) => name);
  const first = targets[0];
  const valueRows = (fields: object, of: (target: Target) => object): string[][] =>
    Object.entries(fields)
      .filter(([, value]) => typeof value === "number" || typeof value === "boolean")
      .map(([field]) => {
        const values = targets.map((target) => String(new Map(Object.entries(of(target))).get(field)));
        return [field, ...values, notes[field]?.source ?? "", notes[field]?.doc ?? ""];
      });
  const derived: readonly (readonly [string, (target: Target) => number, string])[] = [
    ["SRAM", sramBytes, "Bytes of the whole chip."],
    ["peak", peakMacs, "fp16 multiply-accumulates a cycle."],
  ];
  return [
    "# Targets",
    "",
    ...targets.map(({ name, doc }) => `* \`${name}\`: ${doc}`),
    "",
    "Sources: P published by the makers, C quoted from the papers, U from users' programs (about one cycle), D derived, A assumed where nothing is published; of `lpu-v1`.",
    "",
    "## Counts and positions",
    "",
    table(
      ["field", ...names, "source", "meaning"],
      [
        ...valueRows(first ?? {}, (target) => target),
        ...derived.map(([name, of, doc]) => [name, ...targets.map((target) => String(of(target))), "D", doc]),
      ],
    ),
    "",
    "## Latencies, in cycles",
    "",
    table(
      ["field", ...names, "source", "meaning"],
      valueRows(first?.timing ?? {}, (target) => target.timing),
    ),
    "",
    "## Energies",
    "",
    "A model, calibrated to the published envelope (300 W at most, about 185 W in a mix), not measured; no image holds it.",
    "",
    table(
      ["field", "all targets", "source", "meaning"],
      Object.entries(ENERGIES).map(([field, value]) => [
        field,
        String(value),
        notes[field]?.source ?? "",
        notes[field]?.doc ?? "",
      ]),
    ),
    "",
  ].join("\n");
}

/** Examples of systems whose names have a number. */
const SIZES: Readonly<Record<string, readonly string[]>> = {
  "line-N": ["line-9", "line-72"],
  "dragonfly-N": ["dragonfly-264", "dragonfly-10440"],
};

/** Systems of chips of lpu-v1, and what joins them; `farthest`: wires on the way from the first chip to the one that is farthest. */
export function systemsText(farthest: (system: System) => number): string {
  const target = TARGETS["lpu-v1"];
  const rows = Object.keys(SYSTEMS)
    .flatMap((name) => SIZES[name] ?? [name])
    .filter(isSystem)
    .map((name) => {
      const system = systemOf(name, target);
      return [name, system.chips, system.links.length / 2, farthest(system)].map(String);
    });
  const { linkInterval, linkLatency } = target.timing;
  return [
    "# Systems",
    "",
    `A wire joins two links and carries a vector of ${target.lanes} bytes every ${linkInterval} cycles each way (\`${target.name}\`), which arrives ${linkDelay(target)} cycles after its Send: ${linkLatency} of them on the wire.`,
    "",
    table(
      ["system", "meaning"],
      Object.entries(SYSTEMS).map(([name, { doc }]) => [name, doc]),
    ),
    "",
    "## In numbers",
    "",
    "`hops`: wires on the shortest way to the farthest chip.",
    "",
    table(["system", "chips", "wires", "hops"], rows),
    "",
    "## Dead chips",
    "",
    "`--dead 3,9` (`dead` in code, always with a system) says which chips of a system do not work; the others keep their numbers. No wire of a dead chip is used. `--stages` take the chips that work in their order, each joined to the next: a node is left by another chip, or for another node, where the usual one is dead, so a whole node may be missing. `--tensor` takes groups of chips that work, each within a node, in their order; of a plan, nodes with too few for a group are skipped. Chip k of the program is the k-th of these. What is left and does not hold the model is refused as a smaller system would be (LPU2007, LPU2008).",
    "",
    "A node of the makers has eight chips and 28 cables, and four further links of each chip leave it (C); that two or four chips share the links that a chip has for its node is our own (A), and so is which port of a node leads where.",
    "",
  ].join("\n");
}

const hex = (value: number): string => `0x${value.toString(16).padStart(2, "0")}`;

/** A Markdown table; all columns but the last are padded. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const last = head.length - 1;
  const widths = head.map((title, column) =>
    column === last ? 3 : Math.max(3, title.length, ...cells.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => cell.padEnd(column === last ? 0 : (widths[column] ?? 0))).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...cells.map(line)].join("\n");
}

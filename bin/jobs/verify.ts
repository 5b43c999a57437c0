/**
 * The work of `lpu verify`: folders in the layout of the ONNX backend tests, built, run on the machine and compared.
 *
 * A case takes its shapes from the inputs that are given; data sets of other shapes are built again. Where the model needs the
 * values of inputs to be built (axes, shapes, branches), they are fixed to those of the data set, and the result says so. It
 * passes when the machine takes exactly the predicted cycles and every output is right: integers and truth values exactly,
 * floats within the tolerance as relative L2 error, the norm of the difference over the norm of what is expected, with
 * infinities and NaNs where they are expected and nowhere else. A case that fails, is unsupported or breaks never stops the
 * others.
 */

import type { JobContext } from "./job.js";
import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { joinChunks } from "../../src/host/build.js";
import { compile } from "../../src/compile.js";
import { at, fail, isUnsupported } from "../../src/diagnostics.js";
import { bindInputs } from "../../src/host/edge.js";
import { type OpenModel, openModel, readTensorProto, readWideProto } from "../../src/host/files.js";
import { readModel } from "../../src/frontend/source.js";
import type { NamedTensor } from "../../src/frontend/tensors.js";
import type { Graph, Shape, Tensor } from "../../src/ir/graph.js";
import { culpritOf, type NonFinite, type NonFiniteName, nonFiniteName } from "../../src/ir/nonfinite.js";
import { equalShapes, formatShape, isFloat, isWideTensor, toNumbers, type WideTensor } from "../../src/ir/tensor.js";
import { formatError } from "../../src/report/units.js";
import { type LoadedEntry, loadImage } from "../../src/runtime/run.js";
import { STAGES } from "../../src/stages.js";
import {
  type CaseResult,
  type CaseStatus,
  type OutputError,
  STATUSES,
  type VerifyResult,
  type WrongSpecial,
} from "./cases.js";
import { type ChipRequest, chipOptions } from "./options.js";
import { type Problem, problemsOf } from "../show/problems.js";
import { clock } from "../show/terminal.js";

export interface VerifyRequest extends ChipRequest {
  /** Folders that hold a model.onnx. */
  readonly cases: readonly string[];
  readonly tolerance: number;
}

export async function verifyJob(request: VerifyRequest, context: JobContext<CaseResult>): Promise<VerifyResult> {
  const cases: CaseResult[] = [];
  for (const folder of request.cases) {
    const title = basename(folder);
    context.task({ title, status: "start", at: clock() });
    const result = await verifyCase(folder, request, (step) =>
      context.task({ title: `${title}: ${step}`, status: "progress", at: clock() }),
    );
    context.task({ title, status: "gone", at: clock() });
    context.part(result);
    cases.push(result);
  }
  const totals = Object.fromEntries(
    STATUSES.map((status) => [status, cases.filter((result) => result.status === status).length]),
  );
  return { cases, totals: { passed: 0, failed: 0, unsupported: 0, error: 0, ...totals } };
}

/** Says what is being done for the case that is at work. */
type Announce = (step: string) => void;

interface CaseFacts {
  cycles: number | null;
  predictedCycles: number | null;
  mxmUtilization: number | null;
  hostWork: readonly string[];
  fixed: readonly string[];
  readonly outputs: Map<string, OutputError>;
  readonly nonFinite: Map<string, WrongSpecial>;
}

async function verifyCase(folder: string, request: VerifyRequest, announce: Announce): Promise<CaseResult> {
  const name = basename(folder);
  const facts: CaseFacts = {
    cycles: null,
    predictedCycles: null,
    mxmUtilization: null,
    hostWork: [],
    fixed: [],
    outputs: new Map(),
    nonFinite: new Map(),
  };
  const finish = (status: CaseStatus, reason: string, problems: readonly Problem[]): CaseResult => ({
    name,
    folder,
    status,
    reason,
    problems,
    ...facts,
    outputs: [...facts.outputs.values()],
    nonFinite: [...facts.nonFinite.values()],
  });
  try {
    if (dataSetsOf(folder).length === 0)
      return finish(
        "unsupported",
        "nothing to compare: there is no test_data_set_0 (lpu check looks at the model alone)",
        [],
      );
    const model = openModel(join(folder, "model.onnx"));
    try {
      const failures = await runDataSets(folder, model, request, announce, facts);
      return failures.length === 0 ? finish("passed", "", []) : finish("failed", failures.join("; "), []);
    } finally {
      model.close();
    }
  } catch (error) {
    const problems = problemsOf(error);
    const [first] = problems;
    const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
    return finish(
      problems.every(({ code }) => isUnsupported(code)) ? "unsupported" : "error",
      `${first?.code}: ${first?.message}${more}`,
      problems,
    );
  }
}

async function runDataSets(
  folder: string,
  model: OpenModel,
  request: VerifyRequest,
  announce: Announce,
  facts: CaseFacts,
): Promise<string[]> {
  const inputNames = inputsOf(model);
  const failures: string[] = [];
  let built: (Built & { readonly shapes: string }) | undefined;
  for (const dataSet of dataSetsOf(folder)) {
    const inputs = readNumbered(folder, dataSet, "input", inputNames, readWideProto);
    // Integers beyond 32 bits are none of a program's, but a model may do with their limits what is exact.
    const wide = Object.keys(inputs).filter((input) => isWideTensor(inputs[input] ?? {}));
    facts.fixed = [...new Set([...facts.fixed, ...wide])];
    const shapes = Object.fromEntries(Object.entries(inputs).map(([input, tensor]) => [input, tensor.shape]));
    const signature = JSON.stringify([shapes, facts.fixed.map((input) => valuesOf(inputs[input]))]);
    if (built?.shapes !== signature)
      built = { shapes: signature, ...buildFixing(model, inputs, shapes, request, announce, facts) };
    const current = built;
    const { loaded } = current;
    announce("Running");
    const given: Readonly<Record<string, Tensor>> = Object.fromEntries(
      Object.entries(inputs).flatMap(([input, tensor]): [string, Tensor][] =>
        facts.fixed.includes(input) || isWideTensor(tensor) ? [] : [[input, tensor]],
      ),
    );
    const { outputs, cycles } = loaded.run(bindInputs(loaded.inputs, given));
    facts.cycles = cycles;
    facts.predictedCycles = loaded.predictedCycles;
    if (cycles !== loaded.predictedCycles)
      failures.push(`expected ${loaded.predictedCycles} cycles, the machine took ${cycles}`);
    const outputNames = loaded.outputs.map((spec) => spec.name);
    for (const [output, expected] of Object.entries(
      readNumbered(folder, dataSet, "output", outputNames, readTensorProto),
    )) {
      const blame = (value: NonFiniteName): string | undefined => blamed(current, given, output, value, announce);
      const failure = compareOutput(output, outputs[output], expected, request.tolerance, facts, blame);
      if (failure !== undefined) failures.push(`${dataSet}: ${failure}`);
    }
  }
  return failures;
}

const valuesOf = (value: Tensor | WideTensor | undefined): readonly number[] =>
  value === undefined ? [] : Array.from(isWideTensor(value) ? value.words : value.data);

/** Refusals that the values of integer inputs may answer. */
const NEEDS_VALUES: ReadonlySet<string> = new Set(["LPU1011", "LPU1003", "LPU1012", "LPU2101"]);
/** Inputs of more elements decide no shape. */
const MOST_FIXED = 64;

/** Builds; and again with the inputs fixed whose values are asked for, or else with all small integer inputs. */
function buildFixing(
  model: OpenModel,
  inputs: Readonly<Record<string, Tensor | WideTensor>>,
  shapes: Readonly<Record<string, Shape>>,
  request: VerifyRequest,
  announce: Announce,
  facts: CaseFacts,
): Built {
  const values = (): Readonly<Record<string, Tensor | WideTensor>> =>
    Object.fromEntries(facts.fixed.flatMap((input) => (inputs[input] ? [[input, inputs[input]]] : [])));
  for (;;)
    try {
      return build(model, values(), shapes, request, announce, facts);
    } catch (error) {
      const wanted = wantedInputs(problemsOf(error), inputs, facts.fixed);
      if (wanted.length === 0) throw error;
      facts.fixed = [...facts.fixed, ...wanted];
    }
}

/** Small inputs that are not fixed yet: those that a problem names, or else the integers if their values may help. */
function wantedInputs(
  problems: readonly Problem[],
  inputs: Readonly<Record<string, Tensor | WideTensor>>,
  fixed: readonly string[],
): readonly string[] {
  const small = Object.entries(inputs).flatMap(([name, tensor]): [string, Tensor][] =>
    isWideTensor(tensor) || fixed.includes(name) || tensor.data.length > MOST_FIXED ? [] : [[name, tensor]],
  );
  const named = problems.flatMap((problem) => problem.inputs ?? []);
  const asked = small.filter(([name]) => named.includes(name));
  const helps = problems.some(({ code }) => NEEDS_VALUES.has(code));
  const chosen = asked.length > 0 || !helps ? asked : small.filter(([, { dtype }]) => !isFloat(dtype));
  return chosen.map(([name]) => name);
}

/** A program, and the graph that it computes. */
interface Built {
  readonly loaded: LoadedEntry;
  readonly graph: Graph;
  readonly macs: number;
}

function build(
  model: OpenModel,
  fix: Readonly<Record<string, Tensor | WideTensor>>,
  shapes: Readonly<Record<string, Shape>>,
  request: VerifyRequest,
  announce: Announce,
  facts: CaseFacts,
): Built {
  let graph: Graph = { name: "", nodes: [], inputs: [], outputs: [] };
  const compiled = compile(model.source, {
    ...chipOptions(request),
    fix,
    shapes: Object.fromEntries(Object.entries(shapes).filter(([input]) => !Object.hasOwn(fix, input))),
    onStage: ({ stage }) => announce(STAGES[stage].title),
    onPass: (_, made) => {
      graph = made;
    },
  });
  facts.mxmUtilization = compiled.report.mxmUtilization;
  facts.hostWork = compiled.report.hostWork.map(({ input, origin }) => `${origin} (rows chosen by ${input})`);
  announce("Loading image");
  return { loaded: loadImage(joinChunks(compiled.image())).entry(), graph, macs: compiled.report.macs };
}

/** What the oracle computes in about half a minute. */
const MOST_MACS = 2e9;

/** Which node made the first value of a kind on the way to an output: asked of the graph, computed in the types of the chip. */
function blamed(
  { graph, macs }: Built,
  inputs: Readonly<Record<string, Tensor>>,
  output: string,
  value: NonFiniteName,
  announce: Announce,
): string | undefined {
  if (macs > MOST_MACS) return undefined;
  announce("Looking for the node that made it");
  const culprit = culpritOf(graph, inputs, output, value);
  if (culprit?.infinityBy === undefined) return culprit?.node;
  return `${culprit.node}, of an infinity that was first made by ${culprit.infinityBy}`;
}

/** What the model takes: its graph's inputs that have no initializer, in order. */
function inputsOf(model: OpenModel): string[] {
  const { graph } = readModel(model.source);
  const initialized = new Set(graph.initializers.map(({ proto }) => proto.name));
  return graph.inputs.map((input) => input.name).filter((input) => !initialized.has(input));
}

function dataSetsOf(folder: string): string[] {
  const sets = readdirSync(folder).filter((name) => /^test_data_set_\d+$/.test(name));
  return sets.sort((a, b) => numberOf(a) - numberOf(b));
}

/** `input_K.pb` is the K-th input, unless the tensor itself carries the name of one. */
function readNumbered<T>(
  folder: string,
  dataSet: string,
  kind: "input" | "output",
  names: readonly string[],
  read: (path: string) => NamedTensor<T>,
): Record<string, T> {
  const place = join(folder, dataSet);
  const files = readdirSync(place).filter((name) => new RegExp(`^${kind}_\\d+\\.pb$`).test(name));
  const tensors = files
    .sort((a, b) => numberOf(a) - numberOf(b))
    .map((file): [string | undefined, T] => {
      const { name, tensor } = read(join(place, file));
      return [names.includes(name) ? name : names[numberOf(file)], tensor];
    });
  const known = tensors.flatMap(([name, tensor]): [string, T][] => (name === undefined ? [] : [[name, tensor]]));
  if (known.length < tensors.length || (kind === "output" && files.length === 0)) {
    fail("LPU5009", { message: `'${place}': expected ${names.length} ${kind} files, found ${files.length}` });
  }
  return Object.fromEntries(known);
}

const numberOf = (name: string): number => Number(/\d+/.exec(name.replace("test_data_set_", ""))?.[0] ?? 0);

/** What is wrong with an output, or undefined. */
function compareOutput(
  name: string,
  actual: Tensor | undefined,
  expected: Tensor,
  tolerance: number,
  facts: CaseFacts,
  blame: (value: NonFiniteName) => string | undefined,
): string | undefined {
  if (actual === undefined) return `output '${name}' is missing`;
  if (!equalShapes(actual.shape, expected.shape))
    return `output '${name}': expected shape ${formatShape(expected.shape)}, found ${formatShape(actual.shape)}`;
  const special = specialDifference(actual, expected);
  if (special !== undefined) return `output '${name}': ${special.text}${madeBy(name, special, facts, blame)}`;
  if (!isFloat(expected.dtype)) return wholeDifference(name, actual, expected, facts);
  const error = { name, ...distance(actual, expected) };
  const worst = facts.outputs.get(name);
  if (worst === undefined || !(error.relL2 <= worst.relL2)) facts.outputs.set(name, error);
  if (error.relL2 <= tolerance) return undefined;
  return `output '${name}': expected relative L2 error of at most ${formatError(tolerance)}, found ${formatError(error.relL2)}`;
}

const named = (value: number): string => (Number.isNaN(value) ? "NaN" : `${value}`);

/** Elements at which one of two tensors has an infinity or a NaN, and the other has not the same. */
interface SpecialDifference {
  readonly text: string;
  /** The first that the output has and should not. */
  readonly found: NonFinite | undefined;
}

function specialDifference(actual: Tensor, expected: Tensor): SpecialDifference | undefined {
  const [a, b] = [toNumbers(actual), toNumbers(expected)];
  const differs = (index: number): boolean =>
    !Object.is(a[index], b[index]) && !(Number.isFinite(a[index]) && Number.isFinite(b[index]));
  const places = Array.from(b.keys()).filter(differs);
  const [first] = places;
  if (first === undefined) return undefined;
  const made = places.flatMap((element) => {
    const value = nonFiniteName(at(a, element, "element"));
    return value === undefined ? [] : [{ element, value }];
  });
  const [one] = made;
  const more = places.length > 1 ? ` (and ${places.length - 1} more)` : "";
  return {
    text: `element ${first}: expected ${named(at(b, first, "element"))}, found ${named(at(a, first, "element"))}${more}`,
    found: one === undefined ? undefined : { ...one, count: made.length },
  };
}

/** Notes the first NaN or infinity that is wrong; what the text of a difference ends with. */
function madeBy(
  output: string,
  { found }: SpecialDifference,
  facts: CaseFacts,
  blame: (value: NonFiniteName) => string | undefined,
): string {
  if (found === undefined || facts.nonFinite.has(output)) return "";
  const node = blame(found.value);
  facts.nonFinite.set(output, { output, ...found, ...(node === undefined ? {} : { madeBy: node }) });
  return node === undefined ? "" : `; the first ${found.value} on the way is made by ${node}`;
}

/** Integers and truth values are right or wrong. */
function wholeDifference(name: string, actual: Tensor, expected: Tensor, facts: CaseFacts): string | undefined {
  const [a, b] = [toNumbers(actual), toNumbers(expected)];
  const places = Array.from(b.keys()).filter((index) => a[index] !== b[index]);
  const maxAbs = places.reduce(
    (most, index) => Math.max(most, Math.abs(at(a, index, "element") - at(b, index, "element"))),
    0,
  );
  const known = facts.outputs.get(name);
  if (known === undefined || known.maxAbs < maxAbs)
    facts.outputs.set(name, { name, relL2: maxAbs === 0 ? 0 : 1, maxAbs });
  const [first] = places;
  if (first === undefined) return undefined;
  return `output '${name}': ${places.length} of ${b.length} elements differ, element ${first}: expected ${b[first]}, found ${a[first]}`;
}

/** Elements that are equal count as equal, NaN and infinities too; any other NaN or infinity is infinitely far. */
export function distance(actual: Tensor, expected: Tensor): { readonly relL2: number; readonly maxAbs: number } {
  const a = toNumbers(actual);
  const b = toNumbers(expected);
  let differences = 0;
  let norm = 0;
  let maxAbs = 0;
  for (let index = 0; index < b.length; index++) {
    const left = at(a, index, "element");
    const right = at(b, index, "element");
    if (Object.is(left, right)) {
      if (Number.isFinite(right)) norm += right * right;
      continue;
    }
    const difference = Math.abs(left - right);
    const distance = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
    differences += distance * distance;
    maxAbs = Math.max(maxAbs, distance);
    if (Number.isFinite(right)) norm += right * right;
  }
  if (differences === 0) return { relL2: 0, maxAbs };
  return { relL2: Math.sqrt(differences / (norm === 0 ? 1 : norm)), maxAbs };
}

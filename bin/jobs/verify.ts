/**
 * The work of `lpu verify`: folders in the layout of the ONNX backend tests, built, run on the machine and compared.
 *
 * A case takes its shapes from the inputs that are given; data sets of other shapes are built again. Where the model needs the
 * values of inputs to be built (axes, shapes, branches), they are fixed to those of the data set, and the result says so. With
 * states, all data sets are entries of one program: a run finds in its states what the data set gives for them, and what it
 * leaves there is compared with the outputs that take their places. A case passes when the machine takes exactly the predicted
 * cycles and every output is right: integers and truth values exactly, floats within the tolerance as relative L2 error, the
 * norm of the difference over the norm of what is expected, with infinities and NaNs where they are expected and nowhere else.
 * A case that fails, is unsupported or breaks never stops the others.
 */

import type { JobContext } from "./job.js";
import { basename, join } from "node:path";
import { joinChunks } from "../../src/host/build.js";
import { compile } from "../../src/compile.js";
import { at, isUnsupported, sure } from "../../src/diagnostics.js";
import { bindInputs } from "../../src/host/edge.js";
import { type OpenModel, openModel, readTensorProto, readWideProto } from "../../src/host/files.js";
import { readModel } from "../../src/frontend/source.js";
import { pastsOf, type StateOption, type StatePairs } from "../../src/frontend/states.js";
import type { Graph, Tensor } from "../../src/ir/graph.js";
import { culpritOf, type NonFiniteName } from "../../src/ir/nonfinite.js";
import { isFloat, isWideTensor, type WideTensor } from "../../src/ir/tensor.js";
import { type LoadedEntry, type LoadedModel, loadImage, type ModelRun } from "../../src/runtime/run.js";
import { STAGES } from "../../src/stages.js";
import { type CaseResult, type CaseStatus, STATUSES, type VerifyResult } from "./cases.js";
import { commonEnd, compareOutput, type Compared } from "./compare.js";
import {
  type DataSet,
  dataSetsOf,
  givenTo,
  hasEmpty,
  inputsOf,
  optionsOf,
  readNumbered,
  signatureOf,
} from "./data-sets.js";
import { type ChipRequest, chipOptions } from "./options.js";
import { type Problem, problemsOf } from "../show/problems.js";
import { clock } from "../show/terminal.js";

export interface VerifyRequest extends ChipRequest {
  /** Inputs that stay on the chip, of every case. */
  readonly state: StateOption;
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

const nameOf = ({ name }: { readonly name: string }): string => name;

/** Says what is being done for the case that is at work. */
type Announce = (step: string) => void;

interface CaseFacts extends Compared {
  cycles: number | null;
  predictedCycles: number | null;
  mxmUtilization: number | null;
  hostWork: readonly string[];
  fixed: readonly string[];
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
  const { graph } = readModel(model.source);
  const inputNames = inputsOf(graph);
  const pairs = request.state === "auto" ? Object.fromEntries(pastsOf(graph)) : request.state;
  const hasStates = request.state === "auto" || Object.keys(pairs).length > 0;
  const names = dataSetsOf(folder);
  const failures: string[] = [];
  let built: Built | undefined;
  // Without states, one program is in memory at a time.
  for (const together of hasStates ? [names] : names.map((name) => [name])) {
    const sets = together.map((name): DataSet => {
      return { name, inputs: readNumbered(folder, name, "input", inputNames, readWideProto) };
    });
    // Integers beyond 32 bits are none of a program's, but a model may do with their limits what is exact.
    const wide = sets.flatMap(({ inputs }) => Object.keys(inputs).filter((name) => isWideTensor(inputs[name] ?? {})));
    facts.fixed = [...new Set([...facts.fixed, ...wide])];
    const isBuilt = sets.every((set) => built?.entries.has(signatureOf(set, facts.fixed)));
    const current = isBuilt && built !== undefined ? built : buildFixing(model, sets, request, announce, facts);
    built = current;
    for (const set of sets) {
      announce("Running");
      const entry = sure(current.entries.get(signatureOf(set, facts.fixed)), "entry");
      const given = givenTo(set, facts.fixed);
      const { outputs, cycles } = runSet(current.loaded, entry, given, pairs);
      facts.cycles = cycles;
      facts.predictedCycles = entry.predictedCycles;
      if (cycles !== entry.predictedCycles)
        failures.push(`expected ${entry.predictedCycles} cycles, the machine took ${cycles}`);
      for (const [output, expected] of Object.entries(
        readNumbered(folder, set.name, "output", graph.outputs.map(nameOf), readTensorProto),
      )) {
        const blame = (value: NonFiniteName): string | undefined => blamed(current, given, output, value, announce);
        const found = outputs[output];
        const isState = Object.values(pairs).includes(output);
        const [a, b] = isState && found !== undefined ? commonEnd(found, expected) : [found, expected];
        const failure = compareOutput(output, a, b, request.tolerance, facts, blame);
        if (failure !== undefined) failures.push(`${set.name}: ${failure}`);
      }
    }
  }
  return failures;
}

/** Runs an entry on states as the data set gives them, zeros where it gives no rows; what stays in them counts as outputs. */
function runSet(
  { states, reset, restore, snapshot }: LoadedModel,
  entry: LoadedEntry,
  given: Readonly<Record<string, Tensor>>,
  pairs: StatePairs,
): Pick<ModelRun, "outputs" | "cycles"> {
  const stays = new Set(states.map(nameOf));
  const isEmpty = (name: string): boolean => stays.has(name) && given[name]?.data.length === 0;
  const thatAre = (wanted: boolean): Readonly<Record<string, Tensor>> =>
    Object.fromEntries(Object.entries(given).filter(([name]) => stays.has(name) === wanted && !isEmpty(name)));
  reset();
  restore(
    bindInputs(
      states.filter(({ name }) => !isEmpty(name)),
      thatAre(true),
    ),
  );
  const { outputs, cycles } = entry.run(bindInputs(entry.inputs, thatAre(false)));
  const left = Object.entries(snapshot()).map(([name, tensor]) => [sure(pairs[name], "output"), tensor]);
  return { outputs: { ...outputs, ...Object.fromEntries(left) }, cycles };
}

/** Refusals that the values of integer inputs may answer. */
const NEEDS_VALUES: ReadonlySet<string> = new Set(["LPU1011", "LPU1003", "LPU1012", "LPU2101"]);
/** Inputs of more elements decide no shape. */
const MOST_FIXED = 64;

/** Builds; and again with the inputs fixed whose values are asked for, or else with all small integer inputs. */
function buildFixing(
  model: OpenModel,
  sets: readonly DataSet[],
  request: VerifyRequest,
  announce: Announce,
  facts: CaseFacts,
): Built {
  for (;;)
    try {
      return build(model, sets, request, announce, facts);
    } catch (error) {
      const wanted = wantedInputs(problemsOf(error), at(sets, 0, "data set").inputs, facts.fixed);
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

/** A program, and of one with a single entry the graph that it computes. */
interface Built {
  readonly loaded: LoadedModel;
  /** By the signature of their data sets. */
  readonly entries: ReadonlyMap<string, LoadedEntry>;
  readonly graph: Graph | undefined;
  readonly macs: number;
}

function build(
  model: OpenModel,
  sets: readonly DataSet[],
  request: VerifyRequest,
  announce: Announce,
  facts: CaseFacts,
): Built {
  let graph: Graph | undefined;
  const kinds = new Map(sets.map((set) => [signatureOf(set, facts.fixed), set]));
  // A past may be empty in an entry behind one in which it has rows.
  const ordered = [...kinds.values()].sort((a, b) => Number(hasEmpty(a)) - Number(hasEmpty(b)));
  const entries = ordered.map((set) => [set.name, optionsOf(set, facts.fixed)] as const);
  const compiled = compile(model.source, {
    ...chipOptions(request),
    state: request.state,
    entries: Object.fromEntries(entries),
    onStage: ({ stage }) => announce(STAGES[stage].title),
    onPass: (_, made) => {
      graph = made;
    },
  });
  facts.mxmUtilization = compiled.report.mxmUtilization;
  facts.hostWork = compiled.report.hostWork.map(({ input, origin }) => `${origin} (rows chosen by ${input})`);
  announce("Loading image");
  const loaded = loadImage(joinChunks(compiled.image()));
  return {
    loaded,
    entries: new Map([...kinds].map(([signature, { name }]) => [signature, loaded.entry(name)])),
    graph: kinds.size === 1 ? graph : undefined,
    macs: compiled.report.macs,
  };
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
  if (graph === undefined || macs > MOST_MACS) return undefined;
  announce("Looking for the node that made it");
  const culprit = culpritOf(graph, inputs, output, value);
  if (culprit?.infinityBy === undefined) return culprit?.node;
  return `${culprit.node}, of an infinity that was first made by ${culprit.infinityBy}`;
}

/**
 * The compiler on one screen: ONNX bytes in, a Program and its image out. Each step takes what the one before returned.
 *
 *   importModel     ONNX -> Graph          every unsupported node reported at once
 *   runPasses       Graph -> Graph, legal  only operations the machine has, in its types
 *   buildProgram    Graphs -> Program      for the fewest chips that have room, as they are fastest (programs.ts):
 *     deployedBy      Graphs -> Graphs       that chips share, where products are shared
 *     select          Graph -> Plan          bursts through units, storages; no addresses, no time
 *     cutPlan         Plan -> Plans          one for each chip, where they work one behind the other
 *     schedule        Plan -> Program        addresses, units, streams, cycles
 *     checkSchedule   an independent proof that it is legal and computes what the plan says, in production too
 *   encodeProgram   Program -> texts       of every queue
 *   imageChunks     Program -> image       the only thing that the runtime is ever given
 */

import { imageChunks } from "./codegen/image/image.js";
import { encodeProgram } from "./codegen/text/encode.js";
import { measureText } from "./codegen/text/measure.js";
import { deploymentsOf } from "./deployments.js";
import { at } from "./diagnostics.js";
import { type Chosen, type Devices, devicesChosen, placedResults } from "./frontend/devices.js";
import { importedEntries } from "./frontend/entries.js";
import { fewBitWeights } from "./frontend/few-bits.js";
import { importModel } from "./frontend/import.js";
import { type ModelSource, readModel } from "./frontend/source.js";
import { expectShared, type WithStates, withStates } from "./frontend/states.js";
import type { Kept } from "./ir/facts.js";
import type { Shape } from "./ir/graph.js";
import { entryPrograms, type Program } from "./ir/program.js";
import { targetOf } from "./ir/target.js";
import { weightOptions } from "./ir/weights.js";
import type { Around } from "./layouts.js";
import { type CompileOptions, entriesOf, withDevices } from "./options.js";
import { checkProperties, runPasses } from "./passes/graph/pass.js";
import { NARROW, OPTIMIZE } from "./passes/graph/pipeline.js";
import { weightFacts } from "./passes/graph/weights.js";
import { type Built, buildProgram } from "./programs.js";
import { type BuildReport, reportProgram } from "./report/report.js";
import { announcer } from "./stages.js";

export interface Compiled {
  readonly program: Program;
  readonly report: BuildReport;
  readonly image: () => Iterable<Uint8Array>;
  /** Where nodes and results are, in the terms of the model, as `annotatedModel` writes it. */
  readonly devices: () => Devices;
}

export const compile = (source: ModelSource, asked: CompileOptions = {}): Compiled => {
  const model = readModel(source);
  const options = withDevices(model, asked);
  const { verify = false, clock, onPass, state = {} } = options;
  const target = targetOf(options.target);
  const deployments = deploymentsOf(options, target);
  const passes = { verify, ...(clock && { clock }), ...(onPass && { onPass }) };
  const stage = announcer(options.onStage, { check: (problems) => supportedText(model.graph.nodes.length, problems) });

  const named = entriesOf(options);
  const shapesOf = named.map(() => new Map<string, Shape>());
  const imported = stage("receive", () =>
    importedEntries(
      named.map(([name]) => name),
      (index) => {
        const [, { bind = {}, ...entry }] = at(named, index, "entry");
        const own = at(shapesOf, index, "entry");
        return importModel(source, { bind, ...entry, onValue: (name, shape) => own.set(name, shape) }, model);
      },
    ),
  );
  const entries: WithStates[] = [];
  for (const graph of imported) entries.push(withStates(graph, state, entries));
  expectShared(entries);
  const primitive = stage("optimize", () => entries.map(({ graph }) => runPasses(graph, OPTIMIZE, { target }, passes)));
  stage("check", () => {
    for (const graph of primitive) checkProperties(graph, ["legal-ops"]);
  });
  const weights = weightOptions(options);
  const kept: (readonly Kept[])[] = [];
  const context = { target, weights, narrowed: new Map(), onKept: (all: readonly Kept[]): void => void kept.push(all) };
  const legal = stage("precision", () => primitive.map((graph) => runPasses(graph, NARROW, context, passes)));
  const around: Around = {
    statesOf: (index) => at(entries, index, "entry").states,
    placedOf: (index) => placedResults(options.devices, at(shapesOf, index, "entry")),
  };
  const built = stage("compile", () => buildProgram(legal, around, deployments, options, passes));
  const { program, sharding, idle, interval } = built;
  const texts = stage("assemble", () => encodeProgram(program));

  const main = at(entryPrograms(program), 0, "entry");
  const size = measureText(main.entry, at(texts, 0, "text"));
  const facts = weightFacts(at(legal, 0, "entry"), weights, fewBitWeights(model.graph));
  const report = reportProgram(main, size, kept[0], facts, program.entries, interval);
  return {
    program,
    report: { ...report, sharding: sharding ?? null, idle },
    image: () => imageChunks(program, texts),
    devices: () =>
      devicesChosen(
        options.devices?.configuration ?? (options.configuration || OWN),
        model.graph,
        at(shapesOf, 0, "entry"),
        chosenBy(built),
      ),
  };
};

/** The configuration of a model that has none. */
const OWN = "lpu";

const chosenBy = ({ plans, sharding, placementOf }: Built): Chosen => {
  const members = sharding?.chips ?? 1;
  return { plans: at(plans, 0, "entry").filter((_, chip) => chip % members === 0), members, placementOf };
};

/** How many nodes of a model can be imported. */
const supportedText = (nodes: number, problems: number): string => `${Math.max(0, nodes - problems)} of ${nodes} nodes`;

/**
 * What a pass is, and the one runner of passes over graphs.
 *
 * The runner verifies what goes in and comes out, drops dead nodes after every pass, and tells a listener about each: from
 * this the command line prints, dumps and times without the passes knowing. It reads no clock and writes no file; both come
 * as callbacks. When a pass fails, the error carries a reproducer: the text of the graph that went in, the pass and the target.
 */

import { CompileError, type Details, type DiagnosticCode } from "../../diagnostics.js";
import type { Kept, PlacedResult, PlacementOf, Sharding } from "../../ir/facts.js";
import type { Graph } from "../../ir/graph.js";
import { printGraph } from "../../ir/print.js";
import { eliminateDeadNodes, equalGraphs } from "../../ir/rewrite.js";
import type { Target } from "../../ir/target.js";
import { type Property, verifyGraph } from "../../ir/verify.js";
import { requireLegal } from "./legal.js";
import type { WeightOptions } from "../../ir/weights.js";
import type { ScaledWeight } from "./fp8.js";

export interface PassContext {
  readonly target: Target;
  /** What constant weights are to be; fp16 if not said. */
  readonly weights?: WeightOptions | undefined;
  /** Weights in FP8 that entries before this one have, by the keys of what they were; this one's are added, so that each is made once. */
  readonly narrowed?: Map<string, ScaledWeight> | undefined;
  /** Told what is kept in four bytes, by the pass that decides it. */
  readonly onKept?: ((kept: readonly Kept[]) => void) | undefined;
  /** Chips that share the graph; one if not said. */
  readonly chips?: number | undefined;
  /** Inputs that stay on the chips, each with the output that takes its place. */
  readonly states?: ReadonlyMap<string, string> | undefined;
  /** Graphs of entries before this one, as they are shared out: what both have lies in this one as it does there. */
  readonly before?: readonly Graph[] | undefined;
  /** Whether all chips have all of what stays. */
  readonly wholeStates?: boolean | undefined;
  /** Names of inputs and outputs that every chip is to have whole. */
  readonly whole?: ReadonlySet<string> | undefined;
  /** Whether schedules decide in the end if chips share anything, so that it may be somewhat dearer by estimates. */
  readonly isCompared?: boolean | undefined;
  /** Where the model says that results of its nodes lie. */
  readonly placed?: readonly PlacedResult[] | undefined;
  /** Constants are known by their shapes alone: nothing reads those of any size. */
  readonly shapesOnly?: boolean | undefined;
  /** Told where results of ONNX nodes lie in it, if it is shared out. */
  readonly onPlaced?: ((placementOf: PlacementOf) => void) | undefined;
  /** Told how the graph is shared out. */
  readonly onSharded?: ((sharding: Sharding) => void) | undefined;
}

/**
 * Properties of `ir/verify.ts`, and those of the machine (legal.ts): every operation is one that it has, in a form that it takes,
 * and so they are on tensors of its types.
 */
export type GraphProperty = Property | "legal-ops" | "legal";

export interface GraphPass {
  /** Also the name of its file, on the command line, and of its folder of golden tests. */
  readonly name: string;
  readonly doc: string;
  readonly run: (graph: Graph, context: PassContext) => Graph;
  readonly requires?: readonly GraphProperty[];
  readonly ensures?: readonly GraphProperty[];
}

export interface PassRecord {
  readonly pass: GraphPass;
  /** From 1; `limit` counts the same way. */
  readonly ordinal: number;
  readonly of: number;
  readonly changed: boolean;
  readonly nodes: number;
  readonly milliseconds: number;
}

export interface PassOptions {
  /** Verify the graph after every pass; properties that passes require or ensure are always checked. */
  readonly verify?: boolean;
  /** Milliseconds since some moment. */
  readonly clock?: () => number;
  /** Called after every pass with the graph that it gave. */
  readonly onPass?: (record: PassRecord, graph: Graph) => void;
  /** Run only so many passes (bisection). */
  readonly limit?: number;
}

/** A failure within a pass; `reproducer` is enough to make it happen again. */
export class PassError extends CompileError {
  readonly pass: string;
  readonly reproducer: string;
  constructor(
    code: DiagnosticCode,
    details: Details,
    others: readonly CompileError[],
    pass: string,
    reproducer: string,
    cause: unknown,
  ) {
    super(code, details, others);
    this.name = "PassError";
    this.pass = pass;
    this.reproducer = reproducer;
    this.cause = cause;
  }
}

const NO_CLOCK = (): number => 0;

export function runPasses(
  graph: Graph,
  passes: readonly GraphPass[],
  context: PassContext,
  options: PassOptions = {},
): Graph {
  const { verify = false, clock = NO_CLOCK, onPass, limit = passes.length } = options;
  let current = graph;
  for (const [index, pass] of passes.slice(0, limit).entries()) {
    const before = current;
    const start = clock();
    current = guarded(pass, before, context, () => {
      checkProperties(before, pass.requires ?? []);
      const after = eliminateDeadNodes(pass.run(before, context));
      if (verify) verifyGraph(after);
      checkProperties(after, pass.ensures ?? []);
      return after;
    });
    const milliseconds = clock() - start;
    onPass?.(
      {
        pass,
        ordinal: index + 1,
        of: passes.length,
        changed: !equalGraphs(before, current),
        nodes: current.nodes.length,
        milliseconds,
      },
      current,
    );
  }
  return current;
}

/** The banner above a printed graph. */
export const passBanner = ({ pass, ordinal, of, changed, milliseconds }: PassRecord): string =>
  `; ---- after ${pass.name} (pass ${ordinal}/${of}, ${changed ? "changed" : "unchanged"}, ${milliseconds.toFixed(1)} ms) ----`;

/** Raises if a graph lacks a property. */
export function checkProperties(graph: Graph, properties: readonly GraphProperty[]): void {
  for (const property of properties) {
    if (property === "legal" || property === "legal-ops") requireLegal(graph, property === "legal");
    else verifyGraph(graph, [property]);
  }
}

function guarded(pass: GraphPass, graph: Graph, context: PassContext, run: () => Graph): Graph {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const { target, weights, chips = 1 } = context;
    const asked = weights === undefined || weights.format === "fp16" ? [] : [`--weights=${weights.format}`];
    const shared = chips === 1 ? [] : [`--tensor=${chips}`];
    const options = [`--passes=${pass.name}`, `--target=${target.name}`, ...asked, ...shared];
    const reproducer = `; run: opt ${options.join(" ")}\n${printGraph(graph)}`;
    if (error instanceof CompileError)
      throw new PassError(error.code, error.details, error.others, pass.name, reproducer, error);
    throw new PassError(
      "LPU5000",
      { message: `pass '${pass.name}': ${error.message}` },
      [],
      pass.name,
      reproducer,
      error,
    );
  }
}

/** `lpu plan`: what a model would do on a system of chips, or its stages as jobs. */

import { fail } from "../../src/diagnostics.js";
import { SYSTEMS } from "../../src/ir/system.js";
import { weightFormat } from "../../src/ir/weights.js";
import type { JobGraph } from "../../src/jobs.js";
import {
  parseBinds,
  parseConfiguration,
  parseDead,
  parseFixes,
  parseNumbers,
  parseShapes,
  parseSystem,
  parseTarget,
} from "../arguments.js";
import { runJob } from "../jobs/jobs.js";
import { printPlan } from "../show/plan.js";
import type { TaskReporter } from "../show/stages.js";
import { EXIT, type Terminal } from "../show/terminal.js";
import { command } from "./command.js";
import { OPTIONS, POSITIONAL } from "./options.js";

export const plan = command({
  command: "plan <model>",
  doc: "Says what a model would do on a system of chips, from shapes alone: its weights may be absent. With --jobs, its stages, or those of an image, as jobs.",
  options: (argv) =>
    argv
      .positional("model", {
        ...POSITIONAL.model,
        describe: "ONNX file; with --jobs also an image, as build writes it",
      })
      .options({
        jobs: {
          type: "boolean",
          default: false,
          describe:
            "JSON for an engine of workflows: for each stage its command, files in and out, and which others it needs",
        },
        entry: {
          ...OPTIONS.entry,
          describe: "with --jobs: which entry of the image; may be left out where there is one",
        },
        system: {
          type: "string",
          describe: `chips, and what joins them: ${Object.keys(SYSTEMS).join(", ")}; the smallest that holds the model if not given`,
        },
        dead: OPTIONS.dead,
        tensor: { type: "number", describe: "chips that share each product; those of a node if not given" },
        stages: {
          type: "number",
          describe: "groups of such chips, one behind the other; as many as help if not given",
        },
        configuration: OPTIONS.configuration,
        context: {
          type: "number",
          describe: "positions that a token looks back upon, where the model leaves that open; 4096 if not given",
        },
        batch: { type: "number", describe: "sequences at once, where the model leaves that open; 1 if not given" },
        bind: OPTIONS.bind,
        shape: OPTIONS.shape,
        fix: OPTIONS.fix,
        target: OPTIONS.target,
        weights: OPTIONS.weights,
        keep: OPTIONS.keep,
        "price-chip": {
          type: "number",
          describe: "what a chip is bought for: with --price-kwh, the cost of a million tokens",
        },
        "price-kwh": { type: "number", describe: "what a kilowatt-hour costs" },
        json: OPTIONS.json,
      }),
  run: async (args, terminal) => {
    if (args.model.endsWith(".lpu")) {
      expectOnly(args);
      const { jobs } = await import("../../src/index.js");
      return printJobs(jobs(args.model, args), terminal);
    }
    if (args.entry !== undefined) fail("LPU5008", { message: "--entry: expected an image and --jobs" });
    const numbers = parseNumbers({
      "--tensor": { value: args.tensor, least: 1, whole: true },
      "--stages": { value: args.stages, least: 1, whole: true },
      "--context": { value: args.context, least: 1, whole: true },
      "--batch": { value: args.batch, least: 1, whole: true },
      "--price-chip": { value: args["price-chip"], least: 0, whole: false },
      "--price-kwh": { value: args["price-kwh"], least: 0, whole: false },
    });
    const [chip, kwh] = [numbers["--price-chip"], numbers["--price-kwh"]];
    if ((chip === undefined) !== (kwh === undefined))
      fail("LPU5008", { message: "expected both --price-chip and --price-kwh, or neither" });
    const result = await runJob(
      "plan",
      {
        model: args.model,
        system: parseSystem(args.system),
        dead: parseDead(args.dead),
        target: parseTarget(args.target),
        tensor: numbers["--tensor"],
        stages: numbers["--stages"],
        configuration: parseConfiguration(args.configuration),
        context: numbers["--context"],
        batch: numbers["--batch"],
        bind: parseBinds(args.bind),
        shapes: parseShapes(args.shape),
        fix: parseFixes(args.fix),
        weights: weightFormat(args.weights),
        keep: args.keep,
        prices: chip === undefined || kwh === undefined ? undefined : { chip, kwh },
      },
      { tasks: args.jobs ? NO_TASKS : terminal.tasks },
    );
    if (args.jobs) {
      const { plannedJobs } = await import("../../src/index.js");
      return printJobs(plannedJobs(result.plan), terminal);
    }
    terminal.result(result);
    printPlan(result, terminal);
    return EXIT.ok;
  },
});

/** An image is planned already: nothing is asked of it but its jobs. */
function expectOnly({ model: path, jobs, ...args }: Readonly<Record<string, unknown>>): void {
  const unsaid: Readonly<Record<string, unknown>> = {
    target: OPTIONS.target.default,
    weights: OPTIONS.weights.default,
  };
  const late = ["system", "tensor", "stages", "context", "batch", "bind", "shape", "fix", "target", "weights", "keep"]
    .filter((name) => ![undefined, unsaid[name]].includes(args[name]) && String(args[name]) !== "")
    .map((name) => `--${name}`);
  if (jobs !== true || late.length > 0)
    fail("LPU5008", {
      message: `'${String(path)}' is an image, and planned already: expected --jobs${late.length > 0 ? ` without ${late.join(", ")}` : ""}`,
      hint: "lpu report says what it does; give the model to plan it anew",
    });
}

/** Where stdout is for a program. */
const NO_TASKS: TaskReporter = { event: () => undefined, close: () => undefined };

/** JSON in any case: it is for a program. */
function printJobs(graph: JobGraph, terminal: Terminal): number {
  const data = { ...graph, exitStatus: EXIT };
  terminal.print(JSON.stringify(data, null, 2));
  terminal.result(data);
  return EXIT.ok;
}

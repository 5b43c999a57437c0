/** `lpu verify`: cases, built and run and compared. */

import { CompileError } from "../../src/diagnostics.js";
import { weightFormat } from "../../src/ir/weights.js";
import { parseDevices, parseStates, parseTarget } from "../arguments.js";
import { findCases } from "../jobs/cases.js";
import { runJob } from "../jobs/jobs.js";
import { EXIT } from "../show/terminal.js";
import { caseLabels, printCase, printTotals } from "../show/verify.js";
import { command } from "./command.js";
import { DEVICES, OPTIONS } from "./options.js";

export const verify = command({
  command: "verify <cases..>",
  doc: "Builds, runs and compares cases in the layout of the ONNX backend tests.",
  options: (argv) =>
    argv
      .positional("cases", {
        type: "string",
        array: true,
        demandOption: true,
        describe: "folders that are cases or hold them",
      })
      .options({
        state: OPTIONS.state,
        target: OPTIONS.target,
        ...DEVICES,
        weights: OPTIONS.weights,
        keep: OPTIONS.keep,
        tolerance: { type: "number", default: 5e-3, describe: "largest relative L2 error of an output" },
        json: OPTIONS.json,
      }),
  run: async (args, terminal) => {
    const { tolerance } = args;
    if (!(tolerance >= 0))
      throw new CompileError("LPU5008", { message: "--tolerance: expected a number of at least 0" });
    const cases = findCases(args.cases);
    const label = caseLabels(cases);
    const weights = { weights: weightFormat(args.weights), keep: args.keep };
    const state = parseStates(args.state);
    const request = { cases, state, target: parseTarget(args.target), ...parseDevices(args), ...weights, tolerance };
    const result = await runJob("verify", request, {
      tasks: terminal.tasks,
      part: (part) => printCase(part, label(part.folder), terminal),
    });
    printTotals(result, terminal);
    terminal.result(result);
    return result.totals.passed === result.cases.length ? EXIT.ok : EXIT.problem;
  },
});

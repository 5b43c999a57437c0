/** `lpu opt`: passes over the text of a graph. */

import { CompileError } from "../../src/diagnostics.js";
import { readText } from "../../src/host/files.js";
import { weightFormat } from "../../src/ir/weights.js";
import { parseNumbers, parseTarget } from "../arguments.js";
import { EXIT } from "../show/terminal.js";
import { command } from "./command.js";
import { OPTIONS } from "./options.js";

export const opt = command({
  command: "opt <text>",
  doc: "Runs passes over a graph in its text form, as --dump-dir writes it, and prints the graph, or its plan.",
  options: (argv) =>
    argv.positional("text", { type: "string", demandOption: true, describe: "text of a graph, or of a plan" }).options({
      passes: { type: "string", describe: "the only passes that run, separated by commas; all if not given" },
      target: OPTIONS.target,
      weights: OPTIONS.weights,
      keep: OPTIONS.keep,
      tensor: OPTIONS.tensor,
      plan: { type: "boolean", default: false, describe: "selects, and prints the plan" },
      json: { ...OPTIONS.json, hidden: true },
    }),
  run: async (args) => {
    const { optimize } = await import("../jobs/opt.js");
    const text = readText(args.text, "text of a graph or a plan");
    const only = args.passes?.split(",");
    const { "--tensor": chips = 1 } = parseNumbers({ "--tensor": { value: args.tensor, least: 1, whole: true } });
    if (args.plan && chips > 1)
      throw new CompileError("LPU5008", {
        message: "--plan: a plan of several chips that exchange cannot be made yet",
      });
    process.stdout.write(
      optimize(text, args.text, {
        target: parseTarget(args.target),
        weights: { format: weightFormat(args.weights), keep: args.keep },
        chips,
        plan: args.plan,
        only,
      }),
    );
    return EXIT.ok;
  },
});

/** `lpu check`: what build will do. */

import { runJob } from "../jobs/jobs.js";
import { printCheck } from "../show/check.js";
import { EXIT } from "../show/terminal.js";
import { command } from "./command.js";
import { BUILT_WITH, OPTIONS, openRequest, POSITIONAL } from "./options.js";

export const check = command({
  command: "check <model>",
  doc: "Says what build will do: all that stands in the way, and whether SRAM suffices.",
  options: (argv) => argv.positional("model", POSITIONAL.model).options({ ...BUILT_WITH, json: OPTIONS.json }),
  run: async (args, terminal) => {
    const result = await runJob("check", openRequest(args), { tasks: terminal.tasks });
    printCheck(result, terminal);
    terminal.result(result);
    return result.supported ? EXIT.ok : EXIT.problem;
  },
});

/** `lpu trace`: what every queue does, for Perfetto. */

import { dirname, resolve } from "node:path";
import { apartFrom, fileBeside } from "../../src/host/files.js";
import { formatBytes, formatCount } from "../../src/report/units.js";
import { runJob } from "../jobs/jobs.js";
import { printable } from "../show/problems.js";
import { EXIT } from "../show/terminal.js";
import { command } from "./command.js";
import { OPTIONS, POSITIONAL } from "./options.js";

export const trace = command({
  command: "trace <image>",
  doc: "Writes what every queue does as a trace for Perfetto (ui.perfetto.dev); nothing is run.",
  options: (argv) =>
    argv.positional("image", POSITIONAL.image).options({
      output: { alias: "o", type: "string", describe: "where the trace goes; beside the image if not given" },
      entry: OPTIONS.entry,
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const output = apartFrom(args.output ?? fileBeside(args.image, ".pftrace"), [args.image]);
    const result = await runJob(
      "trace",
      { image: args.image, entry: args.entry, output },
      { tasks: terminal.tasks, writes: [dirname(resolve(output))] },
    );
    terminal.result(result);
    terminal.print(
      `${printable(result.trace)}  (${formatBytes(result.bytes)}, ${formatCount(result.bursts)} bursts in ${formatCount(result.cycles)} cycles)`,
    );
    return EXIT.ok;
  },
});

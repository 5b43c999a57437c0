/** `lpu report`: where the cycles and the energy of a program go. */

import { dirname, resolve } from "node:path";
import { CompileError } from "../../src/diagnostics.js";
import { apartFrom } from "../../src/host/files.js";
import { runJob } from "../jobs/jobs.js";
import { printReport } from "../show/report.js";
import { EXIT } from "../show/terminal.js";
import { command } from "./command.js";
import { OPTIONS, POSITIONAL } from "./options.js";

export const report = command({
  command: "report <image>",
  doc: "Says where the cycles and the energy of a program go; nothing is run.",
  options: (argv) =>
    argv.positional("image", POSITIONAL.image).options({
      output: { alias: "o", type: "string", describe: "where the page goes that shows all of it, one HTML file" },
      entry: OPTIONS.entry,
      compare: { type: "string", describe: "another image: what differs, by bound, layer and node" },
      csv: { type: "string", describe: "folder for all of it as .csv files" },
      grid: {
        type: "number",
        describe: "cycles of a bin of power over time; a thousandth of the program if not given",
      },
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const { grid, csv, output, compare } = args;
    if (output !== undefined) apartFrom(output, [args.image, compare]);
    if (grid !== undefined && !(Number.isInteger(grid) && grid > 0))
      throw new CompileError("LPU5008", { message: "--grid: expected a whole number of at least 1" });
    const result = await runJob(
      "report",
      { image: args.image, entry: args.entry, page: output, csvFolder: csv, compare, grid },
      {
        tasks: terminal.tasks,
        writes: [...(csv === undefined ? [] : [csv]), ...(output === undefined ? [] : [dirname(resolve(output))])],
      },
    );
    terminal.result(result);
    printReport(result, terminal);
    return EXIT.ok;
  },
});

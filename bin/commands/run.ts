/** `lpu run`: an image on the reference machine. */

import { EARLIEST } from "../../src/runtime/disturb.js";
import { runJob } from "../jobs/jobs.js";
import { parseFault, parseInputs, parseThreads, parseWhole } from "../arguments.js";
import { printRun } from "../show/run.js";
import { EXIT } from "../show/terminal.js";
import { command } from "./command.js";
import { OPTIONS, POSITIONAL } from "./options.js";

export const run = command({
  command: "run <image>",
  doc: "Runs an image on the reference machine.",
  options: (argv) =>
    argv.positional("image", POSITIONAL.image).options({
      input: {
        alias: "i",
        type: "string",
        array: true,
        default: [] as string[],
        describe: "tensor for an input, like input_ids=ids.npy (.npy or .pb); may be repeated",
      },
      entry: OPTIONS.entry,
      stage: {
        type: "string",
        describe:
          "only this stage of chips that work one behind the other, from 0: its wires from other stages are inputs, those to others outputs",
      },
      threads: OPTIONS.threads,
      jitter: {
        type: "string",
        describe: `seed: vectors on wires come up to ${EARLIEST} cycles before the schedule counts on them, which changes nothing`,
      },
      fault: {
        type: "string",
        describe:
          "wire:CYCLE flips a bit, once, of the first vector that is sent over a wire in that cycle or later: it is found, and the run done again",
      },
      "output-dir": { type: "string", default: ".", describe: "folder for the outputs, as .npy files" },
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const outputFolder = args["output-dir"];
    const result = await runJob(
      "run",
      {
        ...{ image: args.image, entry: args.entry, inputs: parseInputs(args.input), outputFolder },
        ...{ stage: parseWhole("--stage", args.stage), threads: parseThreads(args.threads) },
        ...{ jitter: parseWhole("--jitter", args.jitter), flip: parseFault(args.fault) },
      },
      { tasks: terminal.tasks, writes: [outputFolder] },
    );
    terminal.result(result);
    printRun(result, terminal);
    return EXIT.ok;
  },
});

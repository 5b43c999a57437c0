/** `lpu score`: how well a decoder foretells a text. */

import { alignRows } from "../../src/report/summary.js";
import { runJob } from "../jobs/jobs.js";
import { scoreRows } from "../show/score.js";
import { EXIT } from "../show/terminal.js";
import { command } from "./command.js";
import { DECODER, DECODER_OPTIONS, decoderRequest } from "./decoder.js";
import { OPTIONS } from "./options.js";

const { prefill: _, batch: __, ...readerOptions } = DECODER_OPTIONS;

export const score = command({
  command: "score <model>",
  doc: "Says how well a decoder foretells a text: perplexity, with weights in FP8 beside fp16.",
  options: (argv) =>
    argv.positional("model", DECODER).options({
      text: { type: "string", demandOption: true, describe: "file of the text" },
      lines: { type: "boolean", default: false, describe: "each line of the file is a text of its own" },
      ...readerOptions,
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const { prefill: _, batch: __, ...decoder } = decoderRequest({ ...args, prefill: undefined, batch: undefined });
    const result = await runJob("score", { ...decoder, text: args.text, lines: args.lines }, { tasks: terminal.tasks });
    terminal.result(result);
    terminal.print("");
    for (const line of alignRows(scoreRows(result))) terminal.print(line);
    const scores = [result.score, ...(result.other === undefined ? [] : [result.other.score])];
    return scores.every(({ cycles, predictedCycles }) => cycles === predictedCycles) ? EXIT.ok : EXIT.internal;
  },
});

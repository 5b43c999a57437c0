/** `lpu serve`: a decoder behind OpenAI's API. */

import { alignRows } from "../../src/report/summary.js";
import { parseNumbers } from "../arguments.js";
import { runJob } from "../jobs/jobs.js";
import { printable, renderProblems } from "../show/problems.js";
import { serveLine, serveRows } from "../show/serve.js";
import { EXIT } from "../show/terminal.js";
import { command } from "./command.js";
import { DECODER, DECODER_OPTIONS, decoderRequest } from "./decoder.js";
import { OPTIONS } from "./options.js";

export const serve = command({
  command: "serve <model>",
  doc: "Serves a decoder with past and present by OpenAI's API, until it is interrupted.",
  options: (argv) =>
    argv.positional("model", DECODER).options({
      port: { type: "number", default: 8080, describe: "0 takes any that is free" },
      host: {
        type: "string",
        default: "127.0.0.1",
        describe: "address to listen on; the usual one is for this computer alone",
      },
      name: { type: "string", describe: "what clients call the model; as its folder is called, if not given" },
      pasts: {
        type: "number",
        default: 4,
        describe: "pasts that are kept for prompts which begin like one before, each as large as the states",
      },
      ...DECODER_OPTIONS,
      json: OPTIONS.json,
    }),
  run: async (args, terminal) => {
    const { host, name } = args;
    const decoder = decoderRequest(args);
    const { "--port": port, "--pasts": pasts } = parseNumbers({
      "--port": { value: args.port, least: 0, most: 65535, whole: true },
      "--pasts": { value: args.pasts, least: 0, whole: true },
    });
    const result = await runJob(
      "serve",
      { ...decoder, host, port, name, pasts },
      {
        tasks: terminal.tasks,
        part: (part) => {
          terminal.note(printable(serveLine(part)));
          if ("problems" in part && part.problems.length > 0)
            terminal.note(renderProblems(part.problems, terminal.colors));
        },
      },
    );
    terminal.result(result);
    terminal.print("");
    for (const line of alignRows(serveRows(result))) terminal.print(line);
    return result.cycles === result.predictedCycles ? EXIT.ok : EXIT.internal;
  },
});

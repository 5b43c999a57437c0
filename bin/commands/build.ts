/** `lpu build`, which is all of `lpuit`: a model to an image. */

import { dirname, resolve } from "node:path";
import type { Argv } from "yargs";
import { apartFrom, imageBeside } from "../../src/host/files.js";
import { runJob } from "../jobs/jobs.js";
import { printBuild } from "../show/build.js";
import { EXIT } from "../show/terminal.js";
import { type CommandFor, command } from "./command.js";
import { BUILT_WITH, cacheFolderOf, OPTIONS, openRequest, POSITIONAL } from "./options.js";

const options = (argv: Argv) =>
  argv.positional("model", POSITIONAL.model).options({
    output: { alias: "o", type: "string", describe: "where the image goes; beside the model if not given" },
    ...BUILT_WITH,
    annotate: {
      type: "string",
      describe: "where the model goes with what was chosen, as annotations for devices (ONNX, IR 11)",
    },
    report: { type: "string", describe: "where a page goes that shows the schedule, as lpu report writes it" },
    rebuild: OPTIONS.rebuild,
    cache: OPTIONS.cache,
    "cache-dir": OPTIONS["cache-dir"],
    "print-after": {
      type: "string",
      array: true,
      default: [] as string[],
      describe: "prints the text form after this pass, on stderr",
    },
    "dump-dir": { type: "string", describe: "writes the text form after every pass, and the plan, to this folder" },
    time: { type: "boolean", default: false, describe: "prints the time of every pass, on stderr" },
    verify: { type: "boolean", default: false, describe: "verifies the graph after every pass, and the plan" },
    json: OPTIONS.json,
  });

const buildAs = (words: string): CommandFor =>
  command({
    command: words,
    doc: "Compiles a model to an image.",
    options,
    run: async (args, terminal) => {
      const { model, rebuild, verify, time } = args;
      const image = apartFrom(args.output ?? imageBeside(model), [model]);
      const asked = openRequest(args);
      const annotated = args.annotate === undefined ? undefined : apartFrom(args.annotate, [model, image]);
      const page = args.report === undefined ? undefined : apartFrom(args.report, [model, image, annotated]);
      const cacheFolder = cacheFolderOf(args);
      const shown = { printAfter: args["print-after"], dumpFolder: args["dump-dir"], time, verify };
      const request = { ...asked, image, annotated, cacheFolder, rebuild, shown };
      const result = await runJob("build", request, {
        tasks: terminal.tasks,
        writes: [image, ...(annotated === undefined ? [] : [annotated])]
          .map((path) => dirname(resolve(path)))
          .concat(cacheFolder ?? []),
      });
      if (result.cached) terminal.note("- found in the cache (--rebuild builds again)");
      if (page !== undefined) {
        await runJob(
          "report",
          {
            image,
            entry: result.report.entries[0]?.name,
            page,
            csvFolder: undefined,
            compare: undefined,
            grid: undefined,
          },
          { tasks: terminal.tasks, writes: [dirname(resolve(page))] },
        );
      }
      printBuild(result, page, terminal);
      return EXIT.ok;
    },
  });

export const build = buildAs("build <model>");

/** Where there is no other command. */
export const buildOnly = buildAs("$0 <model>");

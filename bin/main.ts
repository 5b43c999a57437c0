/**
 * Takes arguments to an exit status: the one place where errors of any command end.
 *
 * A usage error is a coded error like any other and has its own status. The process is not ended by force, so that what
 * was written to a pipe arrives; a reader that goes away early (`lpu disasm x | head`) is no error.
 */

import { readFileSync } from "node:fs";
import yargs from "yargs";
import type { CommandFor, Execute } from "./commands/command.js";
import { CompileError } from "../src/diagnostics.js";
import { problemsOf } from "./show/problems.js";
import { EXIT, openTerminal } from "./show/terminal.js";

export async function main(name: string, commands: readonly CommandFor[], args: readonly string[]): Promise<void> {
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EPIPE") process.exit(process.exitCode);
    throw error;
  });
  process.exitCode = EXIT.ok;
  const execute: Execute = async (json, work) => {
    const terminal = openTerminal(json);
    try {
      process.exitCode = await work(terminal);
    } catch (error) {
      terminal.tasks.close();
      report(error, json);
    }
  };
  const parser = commands
    .reduce((argv, command) => argv.command(command(execute)), yargs([...args]))
    .scriptName(name)
    .parserConfiguration({
      "greedy-arrays": false,
      "dot-notation": false,
      "camel-case-expansion": false,
      "strip-aliased": true,
    })
    .version(packageVersion())
    .alias({ help: "h", version: "V" })
    .demandCommand(1, `expected ${commands.length > 1 ? "a command" : "a model"}`)
    .strict()
    .exitProcess(false)
    .wrap(Math.min(120, process.stdout.columns ?? 100))
    .fail((message, error) => {
      const [word = ""] = args;
      const isCommand = commands.length > 1 && /^[a-z]+$/.test(word);
      throw (
        error ??
        new CompileError("LPU5008", {
          message: message.charAt(0).toLowerCase() + message.slice(1),
          hint: `see ${name}${isCommand ? ` ${word}` : ""} --help`,
        })
      );
    });
  try {
    await parser.parseAsync();
  } catch (error) {
    report(error, args.includes("--json"));
  }
}

function report(error: unknown, json: boolean): void {
  const problems = problemsOf(error);
  openTerminal(json).problems(problems);
  const codes = problems.map((problem) => problem.code);
  process.exitCode = codes.includes("LPU5000") ? EXIT.internal : codes.includes("LPU5008") ? EXIT.usage : EXIT.problem;
}

function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return /"version":\s*"([^"]+)"/.exec(text)?.[1] ?? "unknown";
}

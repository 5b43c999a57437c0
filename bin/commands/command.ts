/** What a command is: how it is written, what it does in a sentence, its options, and what runs. */

import type { Argv, CommandModule } from "yargs";
import type { Terminal } from "../show/terminal.js";

/** Runs a command's work with a terminal and keeps its exit status; main.ts has the one there is. */
export type Execute = (json: boolean, work: (terminal: Terminal) => Promise<number>) => Promise<void>;

export type CommandFor = (execute: Execute) => CommandModule;

interface Command<Args> {
  readonly command: string | readonly string[];
  readonly doc: string;
  readonly options: (argv: Argv) => Argv<Args>;
  /** Its exit status; what goes wrong is thrown, and rendered in main.ts. */
  readonly run: (args: Args, terminal: Terminal) => Promise<number>;
}

/** Hides the type of a command's arguments, so that commands of all types fit in one list. */
export function command<Args>(row: Command<Args & { json: boolean }>): CommandFor {
  return (execute) => {
    const module = {
      command: row.command,
      describe: row.doc,
      builder: (argv: Argv) => row.options(argv),
      // The boundary where parsed arguments get their type: they are those that the builder declares.
      handler: (args: Args & { json: boolean }) => execute(args.json, (terminal) => row.run(args, terminal)),
    };
    return module as unknown as CommandModule;
  };
}

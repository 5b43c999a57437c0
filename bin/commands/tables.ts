/** Commands that print the tables from which everything derives: `isa`, `ops`, `passes`, `targets`, `systems`. */

import { SYSTEMS } from "../../src/ir/system.js";
import { TARGETS } from "../../src/ir/target.js";
import { EXIT } from "../show/terminal.js";
import { type CommandFor, command } from "./command.js";
import { OPTIONS } from "./options.js";

interface Table {
  readonly text: string;
  readonly data: object;
}

/** A command that prints one of them. */
const tableCommand = (name: string, doc: string, load: () => Promise<Table>): CommandFor =>
  command({
    command: name,
    doc,
    options: (argv) => argv.options({ json: { ...OPTIONS.json, describe: "the table as one JSON object" } }),
    run: async (_, terminal) => {
      const { text, data } = await load();
      terminal.print(text.trimEnd());
      terminal.result(data);
      return EXIT.ok;
    },
  });

export const isa = tableCommand("isa", "Prints the instruction set.", async () => {
  const [{ ISA }, { fieldBits }, { isaText }] = await Promise.all([
    import("../../src/ir/isa.js"),
    import("../../src/codegen/text/layout.js"),
    import("../../src/report/tables.js"),
  ]);
  return { text: isaText((op) => fieldBits(TARGETS["lpu-v1"], op)), data: ISA };
});

export const ops = tableCommand(
  "ops",
  "Prints the operators: what is supported, what is refused and why.",
  async () => {
    const [{ OPERATORS }, { OPS }, { opsText }] = await Promise.all([
      import("../../src/frontend/operators.js"),
      import("../../src/ir/ops.js"),
      import("../../src/report/tables.js"),
    ]);
    return { text: opsText(OPERATORS), data: { ...OPERATORS, operations: OPS } };
  },
);

export const passes = tableCommand("passes", "Prints the passes over graphs, in order.", async () => {
  const [{ PIPELINE }, { passesText }] = await Promise.all([
    import("../../src/passes/graph/pipeline.js"),
    import("../../src/report/tables.js"),
  ]);
  return { text: passesText(PIPELINE), data: { passes: PIPELINE } };
});

export const targets = tableCommand("targets", "Prints the machines that programs are built for.", async () => {
  const { targetsText } = await import("../../src/report/tables.js");
  return { text: targetsText(), data: TARGETS };
});

export const systems = tableCommand(
  "systems",
  "Prints the systems of several chips, and what joins them.",
  async () => {
    const [{ systemsText }, { hopsFrom }] = await Promise.all([
      import("../../src/report/tables.js"),
      import("../../src/system/routes.js"),
    ]);
    const data = Object.fromEntries(Object.entries(SYSTEMS).map(([name, { doc }]) => [name, { doc }]));
    return { text: systemsText((system) => Math.max(...hopsFrom(system, 0))), data };
  },
);

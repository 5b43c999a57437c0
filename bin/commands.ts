/**
 * The commands of `lpu`, in the order of its help: each has a file in commands/, with its options and what runs.
 *
 * A command returns its exit status; everything that goes wrong is thrown and rendered in one place (main.ts). Modules that
 * load the compiler are imported by the commands that need them, so that `lpu --help` does not.
 */

import { build, buildOnly } from "./commands/build.js";
import { check } from "./commands/check.js";
import type { CommandFor } from "./commands/command.js";
import { generate } from "./commands/generate.js";
import { asm, disasm } from "./commands/listing.js";
import { opt } from "./commands/opt.js";
import { plan } from "./commands/plan.js";
import { report } from "./commands/report.js";
import { run } from "./commands/run.js";
import { score } from "./commands/score.js";
import { serve } from "./commands/serve.js";
import { isa, ops, passes, systems, targets } from "./commands/tables.js";
import { trace } from "./commands/trace.js";
import { verify } from "./commands/verify.js";

export const COMMANDS: readonly CommandFor[] = [
  build,
  run,
  generate,
  serve,
  score,
  verify,
  check,
  plan,
  report,
  trace,
  disasm,
  asm,
  opt,
  isa,
  ops,
  passes,
  targets,
  systems,
];

/** The commands of `lpuit`: the one there is. */
export const ONE_SHOT: readonly CommandFor[] = [buildOnly];

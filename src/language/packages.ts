/** The packages that only text needs. They are optional, so each is loaded when something asks for it. */

import { fail } from "../diagnostics.js";

const VERSIONS = { "@huggingface/tokenizers": "0.2.0", "@huggingface/jinja": "0.5.11" } as const;

/** What a package exports; the caller says its type. LPU5102 without the package. */
export async function optionalPackage(name: keyof typeof VERSIONS): Promise<unknown> {
  return import(name).catch(() =>
    fail("LPU5102", {
      message: `the optional package ${name} is not installed`,
      hint: `\`npm install --no-save ${name}@${VERSIONS[name]}\`, then run it again`,
    }),
  );
}

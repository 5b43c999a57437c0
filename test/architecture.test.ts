/**
 * The shape of the source, held still: who imports whom, no cycles, and the rules of style that a machine can check.
 */

import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "@jest/globals";
import { alg, Graph } from "graphlib";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const FOLDERS = ["src", "bin"].map((folder) => join(ROOT, folder));

const COMPILER: readonly string[] = [
  "src/diagnostics.ts",
  "src/ir",
  "src/frontend",
  "src/passes/graph",
  "src/passes/select",
  "src/passes/stages",
  "src/passes/schedule",
  "src/passes/check",
  "src/codegen",
  "src/report",
  "src/stages.ts",
  "src/system",
  "src/pipeline.ts",
  "src/passes/group",
  "src/group.ts",
  "src/options.ts",
  "src/deployments.ts",
  "src/layouts.ts",
  "src/programs.ts",
];

const ALL: readonly string[] = [
  ...COMPILER,
  "src/compile.ts",
  "src/plan.ts",
  "src/planner",
  "src/jobs.ts",
  "src/runtime",
  "src/host",
  "src/language",
  "src/serve",
];

/**
 * Areas and the areas that each may import, types too. An area is a folder, or a file by its name; the houses of `passes` do
 * not know each other.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  "src/diagnostics.ts": [],
  "src/wasm": [],
  "src/ir": ["src/diagnostics.ts"],
  "src/frontend": ["src/diagnostics.ts", "src/ir"],
  "src/passes/graph": ["src/diagnostics.ts", "src/ir", "src/wasm"],
  "src/passes/select": ["src/diagnostics.ts", "src/ir"],
  "src/passes/stages": ["src/diagnostics.ts", "src/ir"],
  "src/passes/group": ["src/diagnostics.ts", "src/ir"],
  "src/passes/schedule": ["src/diagnostics.ts", "src/ir"],
  "src/passes/check": ["src/diagnostics.ts", "src/ir"],
  "src/codegen": ["src/diagnostics.ts", "src/ir"],
  "src/report": ["src/diagnostics.ts", "src/ir"],
  "src/runtime": ["src/diagnostics.ts", "src/ir", "src/codegen", "src/wasm"],
  "src/stages.ts": ["src/diagnostics.ts"],
  "src/system": ["src/diagnostics.ts", "src/ir"],
  "src/pipeline.ts": [
    "src/diagnostics.ts",
    "src/ir",
    "src/system",
    "src/passes/schedule",
    "src/passes/stages",
    "src/passes/group",
  ],
  "src/group.ts": ["src/diagnostics.ts", "src/ir", "src/passes/graph"],
  "src/options.ts": [
    "src/diagnostics.ts",
    "src/ir",
    "src/frontend",
    "src/passes/graph",
    "src/pipeline.ts",
    "src/stages.ts",
  ],
  "src/deployments.ts": ["src/diagnostics.ts", "src/ir", "src/pipeline.ts", "src/options.ts"],
  "src/layouts.ts": [
    "src/diagnostics.ts",
    "src/ir",
    "src/passes/graph",
    "src/passes/select",
    "src/passes/schedule",
    "src/pipeline.ts",
    "src/group.ts",
    "src/options.ts",
    "src/deployments.ts",
  ],
  "src/programs.ts": [
    "src/diagnostics.ts",
    "src/ir",
    "src/passes/graph",
    "src/passes/check",
    "src/pipeline.ts",
    "src/options.ts",
    "src/deployments.ts",
    "src/layouts.ts",
  ],
  "src/compile.ts": COMPILER,
  "src/planner": [
    "src/diagnostics.ts",
    "src/ir",
    "src/frontend",
    "src/system",
    "src/report",
    "src/passes/graph",
    "src/passes/select",
    "src/passes/stages",
    "src/passes/schedule",
    "src/pipeline.ts",
    "src/group.ts",
    "src/options.ts",
  ],
  "src/plan.ts": [...COMPILER, "src/compile.ts", "src/planner"],
  "src/jobs.ts": ["src/diagnostics.ts", "src/ir", "src/planner", "src/host"],
  "src/host": [...COMPILER, "src/compile.ts", "src/runtime"],
  "src/language": ["src/diagnostics.ts", "src/ir", "src/frontend"],
  "src/serve": ["src/diagnostics.ts", "src/language"],
  "src/index.ts": ALL,
  bin: [...ALL, "src/index.ts"],
};

/** What the runtime may know: the machine and its numbers, never the graph level. */
const RUNTIME_IR = ["dtype", "numerics", "functions", "graph", "target", "isa", "bursts", "program", "stage"];
const RUNTIME_CODEGEN_NOT = ["encode", "assemble", "disassemble"];

const DEFAULT = /\]\s*\?\?\s*(?:-?\d|\[\]|""|false|-?Number\.|Infinity)/g;
/** In how many places a file says what an entry of a list means that is not there: these may only become fewer. */
const DEFAULTS: Readonly<Record<string, number>> = {
  "bin/demo.ts": 1,
  "bin/show/problems.ts": 1,
  "src/codegen/image/image.ts": 1,
  "src/codegen/listing/disassemble.ts": 1,
  "src/codegen/text/bits.ts": 2,
  "src/codegen/text/decode.ts": 1,
  "src/codegen/text/operands.ts": 2,
  "src/frontend/bind.ts": 3,
  "src/frontend/problems.ts": 1,
  "src/frontend/rule.ts": 1,
  "src/host/npy.ts": 3,
  "src/ir/isa.ts": 2,
  "src/ir/operands.ts": 1,
  "src/ir/ops/alu.ts": 1,
  "src/ir/ops/elementwise.ts": 1,
  "src/ir/ranges.ts": 1,
  "src/language/sample.ts": 4,
  "src/passes/check/activity.ts": 2,
  "src/passes/check/burst.ts": 1,
  "src/passes/check/streams.ts": 1,
  "src/passes/graph/fp8.ts": 1,
  "src/passes/graph/machine-types.ts": 1,
  "src/passes/graph/precision.ts": 1,
  "src/passes/schedule/chip/resources.ts": 1,
  "src/passes/schedule/dependencies.ts": 1,
  "src/passes/schedule/repeat/instances.ts": 3,
  "src/passes/schedule/task/chain.ts": 2,
  "src/passes/select/fuse.ts": 1,
  "src/passes/select/input.ts": 1,
  "src/passes/select/layout/move.ts": 1,
  "src/passes/select/layout/view.ts": 1,
  "src/passes/select/rules/matmul.ts": 1,
  "src/passes/select/value.ts": 1,
  "src/passes/select/weights.ts": 1,
  "src/report/compare.ts": 2,
  "src/report/critical.ts": 3,
  "src/report/flights.ts": 1,
  "src/report/memory.ts": 1,
  "src/report/nodes.ts": 1,
  "src/report/overview.ts": 1,
  "src/report/page/data.ts": 1,
  "src/report/page/contents.ts": 1,
  "src/report/page/painter.ts": 5,
  "src/report/page/script.ts": 5,
  "src/report/page/words.ts": 1,
  "src/report/tables.ts": 1,
  "src/runtime/emit/buffers.ts": 1,
  "src/runtime/emit/vxm.ts": 1,
  "src/runtime/fault.ts": 1,
  "src/runtime/kernels/stream.ts": 1,
  "src/runtime/link/mxm.ts": 5,
  "src/runtime/link/tables.ts": 2,
  "src/runtime/literal/literal.ts": 1,
  "src/runtime/literal/semantics.ts": 7,
};

/** A function, or a method, whose head is on this line or begins on it. */
const FUNCTION_START =
  /^(?: {2}(?:(?:private|static|async) )*\*?(?!if|for|while|switch|return)(\w+)(?:<.*>)?\(|(?:export )?(?:async )?function\*? (\w+)|(?:export )?const (\w+) = (?:async )?(?:<.*>)?\()/;
const LONGEST_FUNCTION = 60;
/** Functions of more lines than that, each one thing that reads best in one place: this list may only become shorter. */
const LONG_FUNCTIONS: readonly string[] = [
  "bin/show/stages.ts taskReporter",
  "src/frontend/builder.ts appender",
  "src/language/model.ts languageModel",
  "src/planner/system-plan.ts figuresOf",
  "src/report/bursts.ts burstsOf",
  "src/report/critical.ts waitingIn",
  "src/runtime/kernels/direct.ts direct",
  "src/runtime/link/streams.ts replayStream",
  "src/runtime/link/tables.ts addBurst",
  "src/runtime/link/tables.ts addQueue",
];

const EXPECTED_ERRORS = /\bclass \w+ extends Error\b/;

interface SourceFile {
  /** Path from the project, with forward slashes. */
  readonly path: string;
  readonly text: string;
  /** Text without comments and strings. */
  readonly code: string;
  readonly imports: readonly { readonly path: string; readonly typeOnly: boolean }[];
}

const FILES: readonly SourceFile[] = FOLDERS.flatMap(listFiles).map((file) => {
  const text = readFileSync(file, "utf8");
  const imports = [...text.matchAll(/^(?:import|export)\s+(type\s)?[^;"]*?from\s+"(\.[^"]+)";/gms)].map(
    ([, type, path = ""]) => ({
      path: toPath(resolve(dirname(file), path.replace(/\.js$/, ".ts"))),
      typeOnly: type !== undefined,
    }),
  );
  return { path: toPath(file), text, code: stripped(text), imports };
});

function listFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .flatMap((entry) => (entry.isDirectory() ? listFiles(join(folder, entry.name)) : [join(folder, entry.name)]))
    .filter((file) => file.endsWith(".ts"))
    .sort();
}

function toPath(file: string): string {
  return relative(ROOT, file).replaceAll("\\", "/");
}

/** Comments and the contents of strings and regular expressions taken out, as well as a line at a time can. */
function stripped(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, "")
    .replace(/"(?:[^"\\\n]|\\.)*"/g, '""')
    .replace(/`(?:[^`\\]|\\.)*`/g, "``")
    .replace(/\/\/.*$/gm, "")
    .replace(/\/(?![*/\s])(?:[^/\\\n[]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/g, '""');
}

/** Names of functions of more than LONGEST_FUNCTION lines, told by the formatter's indentation. */
function longFunctions(text: string): string[] {
  const lines = text.split("\n");
  return lines.flatMap((line, start) => {
    const name = FUNCTION_START.exec(line)
      ?.slice(1)
      .find((part) => part !== undefined);
    if (name === undefined) return [];
    const margin = line.startsWith("  ") ? "  " : "";
    const closes =
      (mark: string) =>
      (other: string, index: number): boolean =>
        index > start && other.startsWith(`${margin}${mark}`);
    const head = line.endsWith("{") ? start : line.endsWith("(") ? lines.findIndex(closes(")")) : -1;
    if (head < 0 || !(lines[head] ?? "").endsWith("{")) return [];
    const end = lines.findIndex((other, index) => index > head && other.startsWith(`${margin}}`));
    return end - start + 1 > LONGEST_FUNCTION ? [name] : [];
  });
}

const areaOf = (path: string): string =>
  Object.keys(MAY_IMPORT).find((area) => path === area || path.startsWith(`${area}/`)) ?? path;

const offenders = (pattern: RegExp, allow: (line: string) => boolean = () => false): string[] =>
  FILES.flatMap(({ path, code }) =>
    code
      .split("\n")
      .filter((line) => pattern.test(line) && !allow(line))
      .map((line) => `${path}: ${line.trim()}`),
  );

describe("who imports whom", () => {
  test("every area is in the table", () => {
    const areas = new Set(FILES.map(({ path }) => areaOf(path)));
    expect([...areas].filter((area) => MAY_IMPORT[area] === undefined)).toEqual([]);
  });

  test("imports follow the table", () => {
    const wrong = FILES.flatMap(({ path, imports }) => {
      const from = areaOf(path);
      return imports
        .filter((target) => areaOf(target.path) !== from && !MAY_IMPORT[from]?.includes(areaOf(target.path)))
        .map((target) => `${path} imports ${target.path}`);
    });
    expect(wrong).toEqual([]);
  });

  test("the runtime sees the machine and the image, nothing of the compiler", () => {
    const wrong = FILES.filter(({ path }) => areaOf(path) === "src/runtime").flatMap(({ path, imports }) =>
      imports
        .filter(({ path: target }) => {
          const name = basename(target, ".ts");
          if (areaOf(target) === "src/ir") return !RUNTIME_IR.includes(name);
          return areaOf(target) === "src/codegen" && RUNTIME_CODEGEN_NOT.includes(name);
        })
        .map(({ path: target }) => `${path} imports ${target}`),
    );
    expect(wrong).toEqual([]);
  });

  test("every relative import is a file", () => {
    const known = new Set(FILES.map(({ path }) => path));
    const wrong = FILES.flatMap(({ path, imports }) =>
      imports.filter((target) => !known.has(target.path)).map((target) => `${path} imports ${target.path}`),
    );
    expect(wrong).toEqual([]);
  });

  test("no import cycles", () => {
    const graph = new Graph();
    for (const { path, imports } of FILES) for (const one of imports) graph.setEdge(path, one.path);
    expect(alg.findCycles(graph)).toEqual([]);
  });
});

describe("style", () => {
  test("no `any`", () => {
    expect(offenders(/(?::|<|\bas|,|\|)\s*any\b(?!\()/)).toEqual([]);
  });

  test("no non-null assertions", () => {
    expect(offenders(/[\w)\]]!(?![=\w])/)).toEqual([]);
  });

  test("no bare errors: fail, invariant or MachineFault", () => {
    expect(offenders(/\bnew (?:Error|TypeError|RangeError)\b/)).toEqual([]);
    expect(FILES.filter(({ code }) => EXPECTED_ERRORS.test(code)).map(({ path }) => path)).toEqual([
      "src/diagnostics.ts",
      "bin/show/problems.ts",
    ]);
  });

  // A number that stands in for an entry of a list that must be there hides a mistake: `at` raises it. A file may have as many as
  // the table says, of entries that may be missing; the others have none.
  test("a default behind an index is a real one", () => {
    const found = FILES.map(({ path, code }) => [path, code.match(DEFAULT)?.length ?? 0] as const);
    expect(found.filter(([path, count]) => count > (DEFAULTS[path] ?? 0))).toEqual([]);
  });

  test("functions are short, but for those that are named", () => {
    const long = FILES.flatMap(({ path, text }) => longFunctions(text).map((name) => `${path} ${name}`));
    expect(long.filter((name) => !LONG_FUNCTIONS.includes(name))).toEqual([]);
  });

  test("no enums, namespaces or default exports", () => {
    expect(offenders(/^\s*(?:export\s+)?(?:const\s+)?enum\s/)).toEqual([]);
    expect(offenders(/^\s*(?:export\s+)?namespace\s/)).toEqual([]);
    expect(offenders(/\bexport\s+default\b/)).toEqual([]);
  });

  test("no clock, no randomness, no environment in the compiler and the machine", () => {
    const found = offenders(/\b(?:Date\.now|new Date|Math\.random|performance\.now|process\.env)\b/);
    expect(found.filter((line) => !/^(?:bin|src\/host|src\/index\.ts)\b/.test(line))).toEqual([]);
  });

  test("no leftovers", () => {
    const marks = FILES.filter(({ text }) => /\b(?:TODO|XXX|HACK)\b/.test(text)).map(({ path }) => path);
    expect(marks).toEqual([]);
  });

  test("every file starts with a comment that says what it is", () => {
    expect(FILES.filter(({ text }) => !/^(?:#!.*\n)?\/\*\*(?:\n \*)? /.test(text)).map(({ path }) => path)).toEqual([]);
  });

  test("file names are kebab-case", () => {
    expect(FILES.filter(({ path }) => !/^[a-z0-9/-]+(?:\.d)?\.ts$/.test(path)).map(({ path }) => path)).toEqual([]);
  });
});

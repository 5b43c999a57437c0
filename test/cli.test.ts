/**
 * The command line as a user meets it: exit status, errors without traces, one JSON object, plain output in a pipe.
 */

import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "@jest/globals";
import { parseBinds, parseInputs, parseShapes } from "../bin/arguments.js";
import { type Problem, problemsOf, renderProblems } from "../bin/show/problems.js";
import { type TaskEvent, taskReporter } from "../bin/show/stages.js";
import { distance } from "../bin/jobs/compare.js";
import { buildSmallModel } from "../models/families.js";
import { writeModel } from "../models/onnx-writer.js";
import { at, CompileError, invariant, MachineFault } from "../src/diagnostics.js";
import { fileNames, readTensorFile, writeTensorFiles } from "../src/host/files.js";
import { loadImage } from "../src/runtime/run.js";
import { tensorOf } from "../src/ir/tensor.js";
import { encodeNpy } from "../src/host/npy.js";
import { formatBytes, formatCount, formatSeconds } from "../src/report/units.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "metronome-cli-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A line of a stack trace. */
const TRACE = /\n\s+at \S/;

interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function lpu(...args: string[]): Ran {
  return spawnSync(process.execPath, [join(ROOT, "dist/bin/lpu.js"), ...args], {
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, XDG_CACHE_HOME: join(folder, "cache") },
  });
}

const plain = { red: String, green: String, yellow: String, cyan: String, dim: String, bold: String };

describe("arguments", () => {
  test.each<[string[], number, string]>([
    [[], 2, "LPU5008"],
    [["frobnicate"], 2, "LPU5008"],
    [["build"], 2, "LPU5008"],
    [["build", "m.onnx", "--no-such-option"], 2, "LPU5008"],
    [["build", "m.onnx", "--bind", "seq"], 2, "LPU5008"],
    [["build", "m.onnx", "--target", "lpu-v9"], 2, "LPU5008"],
    [["build", "m.onnx", "--prefill", "4"], 2, "LPU5008"],
    [["check", "m.onnx", "--prefill", "4"], 2, "LPU5008"],
    [["build", "m.onnx", "--context", "8", "--prefill", "4,9"], 2, "LPU5008"],
    [["build", "m.onnx", "--context", "8,"], 2, "LPU5008"],
    [["check", "m.onnx", "--context", "0,8"], 2, "LPU5008"],
    [["generate", "m.onnx", "--prompt", "a", "--prefill", "4,"], 2, "LPU5008"],
    [["run", "m.lpu", "--fault", "1200"], 2, "LPU5008"],
    [["plan", "m.onnx", "--system", "node8", "--dead", "3-5"], 2, "LPU5008"],
    [["build", "m.onnx", "--weights", "fp8-e4m3:block48"], 2, "LPU5008"],
    [["verify", "no-such-folder"], 1, "LPU5001"],
    [["verify", "."], 1, "LPU5009"],
    [["build", "none.onnx"], 1, "LPU5001"],
    [["build", "m.onnx", "--report", "m.onnx"], 1, "LPU5003"],
    [["build", "m.onnx", "-o", "m.lpu", "--report", "./m.lpu"], 1, "LPU5003"],
    [["check", "none.onnx"], 1, "LPU5001"],
    [["run", "none.lpu"], 1, "LPU5001"],
    [["report", "none.lpu"], 1, "LPU5001"],
    [["trace", "none.lpu"], 1, "LPU5001"],
    [["report", "none.lpu", "--grid", "0"], 2, "LPU5008"],
    [["disasm", "none.lpu"], 1, "LPU5001"],
    [["asm", "none.txt"], 1, "LPU5001"],
    [["opt", "none.tir"], 1, "LPU5001"],
  ])("lpu %p ends with %i and says %s", (args, status, code) => {
    const ran = lpu(...args);
    expect(ran.status).toBe(status);
    expect(ran.stderr).toContain(`error ${code}: `);
    expect(ran.stderr).not.toMatch(TRACE);
  });

  test("with --json an error is one object on stdout too", () => {
    const ran = lpu("build", "none.onnx", "--json");
    expect(ran.status).toBe(1);
    expect(JSON.parse(ran.stdout)).toMatchObject({ errors: [{ code: "LPU5001" }] });
  });

  test("all that is wrong with a list is said at once", () => {
    expect(
      lpu("build", "m.onnx", "--bind", "seq", "--bind", "batch=0", "--bind", "a=1,b=x").stderr.match(/error LPU5008/g),
    ).toHaveLength(3);
  });

  test("lists", () => {
    expect(parseBinds(["batch=1,seq=128", "past + seq=4"])).toEqual({ batch: 1, seq: 128, "past + seq": 4 });
    expect(parseShapes(["ids=1x128", "s=4"])).toEqual({ ids: [1, 128], s: [4] });
    expect(parseInputs(["x=a=b,c.npy"])).toEqual({ x: "a=b,c.npy" });
  });

  test("--help and --version are no errors", () => {
    expect(lpu("--help")).toMatchObject({ status: 0, stderr: "" });
    expect(lpu("--version").stdout.trim()).toMatch(/^\d+\.\d+\.\d+$/);
  });
});

describe("bad files", () => {
  test.each(["build", "check", "run", "report", "trace", "disasm", "asm"])(
    "lpu %s of random bytes is a coded error and leaves nothing behind",
    (command) => {
      const place = mkdtempSync(join(folder, "bad-"));
      const file = join(place, "bad.bin");
      writeFileSync(file, Buffer.from(Array.from({ length: 4096 }, (_, index) => (index * 7919) & 255)));
      const ran = lpu(command, file);
      expect(ran.status).toBe(1);
      expect(ran.stderr).toMatch(/^error LPU[1-4]\d{3}: /m);
      expect(ran.stderr).not.toMatch(TRACE);
      expect(ran.stderr).not.toContain("internal");
      expect(readdirSync(place)).toEqual(["bad.bin"]);
    },
  );
});

describe("texts of graphs and plans", () => {
  const reproducer = `; run: opt --passes=canonicalize --target=tiny
graph @g(%0 "x": f16[2,4]) {
  %1 = constant() {value=dense<[2]>} : f16[]
  %2 = mul(%0, %1) : f16[2,4]
  %3 = mul(%2, %1) : f16[2,4]
  return %3 "y"
}
`;

  test("opt runs a reproducer, prints the plan of a graph, and reads what it printed", () => {
    writeFileSync(join(folder, "reproducer.tir"), reproducer);
    const graph = lpu("opt", "reproducer.tir", "--passes=canonicalize", "--target=tiny");
    expect(graph.stderr).toBe("");
    expect(graph.stdout).toContain("value=dense<[4]>");
    const plan = lpu("opt", "reproducer.tir", "--target=tiny", "--plan");
    expect(plan.stdout).toContain("a0 = mul(v0, 4)");
    writeFileSync(join(folder, "plan.txt"), plan.stdout);
    expect(lpu("opt", "plan.txt", "--target=tiny").stdout).toBe(plan.stdout);
    writeFileSync(join(folder, "wrong.txt"), plan.stdout.replace("a0 -> 1/0", "a1 -> 1/0"));
    expect(lpu("opt", "wrong.txt", "--target=tiny").stderr).toContain("error LPU2225: task 0");
  });

  test("opt names a pass that is none, and the place of what does not parse", () => {
    writeFileSync(join(folder, "reproducer.tir"), reproducer);
    expect(lpu("opt", "reproducer.tir", "--tensor=7").stderr).toContain("error LPU2106: no product");
    expect(lpu("opt", "reproducer.tir", "--tensor=2", "--plan").stderr).toContain("error LPU5008: --plan");
    expect(lpu("opt", "reproducer.tir", "--tensor=0").stderr).toContain("error LPU5008: --tensor");
    expect(lpu("opt", "reproducer.tir", "--passes=optimise").stderr).toContain("error LPU2102: unknown pass");
    writeFileSync(join(folder, "cut.tir"), reproducer.slice(0, -3));
    expect(lpu("opt", "cut.tir").stderr).toMatch(/error LPU3010: expected .}.*\n {2}at {5}cut\.tir:6:\d/);
  });
});

describe("a model all the way", () => {
  const model = join(folder, "bert.onnx");
  const image = join(folder, "bert.lpu");
  let built: Record<string, unknown> = {};

  test("build gives the figures of the image", () => {
    writeModel(buildSmallModel("bert"), model);
    const ran = lpu("build", model, "--json");
    expect([ran.status, ran.stderr.includes("error")]).toEqual([0, false]);
    built = JSON.parse(ran.stdout);
    expect(built).toMatchObject({ image, cached: false, target: "lpu-v1" });
    for (const key of ["cycles", "macs", "mxmUtilization", "sramBytes", "instructions"])
      expect([key, Number(built[key]) > 0]).toEqual([key, true]);
    expect(Object.keys(Object(built["seconds"]))).toEqual([
      "receive",
      "optimize",
      "check",
      "precision",
      "compile",
      "assemble",
    ]);
    expect(ran.stderr.match(/✔/g)).toHaveLength(6);
  });

  test("the same build is found in the cache, also from another folder, and --rebuild makes the same bytes", () => {
    const again = JSON.parse(lpu("build", model, "-o", "again.lpu", "--json").stdout);
    const rebuilt = JSON.parse(lpu("build", model, "-o", "rebuilt.lpu", "--rebuild", "--json").stdout);
    expect([again.cached, rebuilt.cached]).toEqual([true, false]);
    expect([again.sha256, rebuilt.sha256]).toEqual([built["sha256"], built["sha256"]]);
    expect(readFileSync(join(folder, "again.lpu")).equals(readFileSync(image))).toBe(true);
    expect(JSON.parse(lpu("build", model, "-o", "tiny.lpu", "--target", "unit-latency", "--json").stdout).cached).toBe(
      false,
    );
  });

  test("disasm and asm give the same image", () => {
    expect(lpu("disasm", image, "-o", "bert.txt").status).toBe(0);
    const assembled = lpu("asm", "bert.txt", "-o", "bert-again.lpu", "--json");
    expect(JSON.parse(assembled.stdout)).toMatchObject({ sha256: built["sha256"] });
  });

  test("run says all that is wrong with its inputs, and nothing runs", () => {
    writeFileSync(join(folder, "short.npy"), encodeNpy({ dtype: "f32", shape: [1], bytes: new Uint8Array(4) }));
    const ran = lpu(
      "run",
      image,
      "--input",
      "input_idz=short.npy",
      "--input",
      "attention_mask=none.npy",
      "--output-dir",
      "no-out",
    );
    expect(ran.status).toBe(1);
    expect(ran.stderr).toMatch(/LPU5001.*LPU5004.*LPU5005/s);
    expect(existsSync(join(folder, "no-out"))).toBe(false);
  });

  test("run writes what the machine gives, in exactly the predicted cycles", () => {
    const missing = lpu("run", image, "--json");
    const specs = [...missing.stderr.matchAll(/hint +expected '(.+)' (\w+)\[([\d,]*)\]/g)].map(
      ([, name = "", dtype = "", shape = ""]) => ({ name, dtype, shape: shape.split(",").map(Number) }),
    );
    expect(specs.length).toBeGreaterThan(0);
    const inputs = specs.flatMap(({ name, dtype, shape }) => {
      const bytes = new Uint8Array(shape.reduce((product, extent) => product * extent, dtype === "i64" ? 8 : 4));
      writeFileSync(join(folder, `${name}.npy`), encodeNpy({ dtype: dtype === "i64" ? dtype : "f32", shape, bytes }));
      return ["--input", `${name}=${name}.npy`];
    });
    const ran = lpu("run", image, ...inputs, "--output-dir", "out", "--json");
    expect([ran.status, ran.stderr.includes("error")]).toEqual([0, false]);
    const result = JSON.parse(ran.stdout);
    expect(result.cycles).toBe(built["cycles"]);
    expect(result.predictedCycles).toBe(result.cycles);
    for (const { shape, file } of result.outputs) expect(readTensorFile(join(folder, file)).shape).toEqual(shape);
  });

  const hasMake = ["make", "jq"].every((tool) => spawnSync(tool, ["--version"]).status === 0);
  (hasMake ? test : test.skip)(
    "stages are jobs, which make runs as docs/CHIPS.md says, or none of a job is left",
    () => {
      const jobs = join(folder, "jobs");
      mkdirSync(join(jobs, "stage-1"), { recursive: true });
      expect(lpu("build", model, "-o", "jobs/model.lpu", "--stages", "2", "--no-cache").status).toBe(0);
      const [, makefile = ""] = /```make\n(.*?)```/s.exec(readFileSync(join(ROOT, "docs/CHIPS.md"), "utf8")) ?? [];
      writeFileSync(join(jobs, "Makefile"), makefile);
      writeFileSync(join(jobs, "lpu"), `#!/bin/sh\nexec ${process.execPath} ${join(ROOT, "dist/bin/lpu.js")} "$@"\n`, {
        mode: 0o755,
      });
      for (const { name } of loadImage(readFileSync(image)).entry().inputs)
        copyFileSync(join(folder, `${name}.npy`), join(jobs, `${name}.npy`));
      const env = { ...process.env, PATH: `${jobs}:${process.env["PATH"]}` };
      const made = (): number | null => spawnSync("make", { cwd: jobs, env }).status;
      const outputs = readdirSync(join(folder, "out"));
      // What cannot be written whole leaves nothing.
      mkdirSync(join(jobs, "stage-1", at(outputs, 0, "output")));
      expect(made()).toBe(2);
      expect(readdirSync(join(jobs, "stage-1"))).toEqual(outputs);
      rmdirSync(join(jobs, "stage-1", at(outputs, 0, "output")));
      expect(made()).toBe(0);
      for (const name of outputs)
        expect(readFileSync(join(jobs, "stage-1", name)).equals(readFileSync(join(folder, "out", name)))).toBe(true);
      const [first, second] = JSON.parse(lpu("plan", "jobs/model.lpu", "--jobs").stdout).jobs;
      expect([first.needs, second.needs]).toEqual([[], ["stage-0"]]);
      expect(second.cycles).toBeGreaterThan(first.cycles);
      expect(lpu("plan", "jobs/model.lpu", "--jobs", "--tensor", "2").stderr).toContain("LPU5008");
    },
  );

  test("report says where all cycles go, and its tables add up to the same", () => {
    const report = JSON.parse(lpu("report", image, "-o", "r.html", "--csv", "csv", "--grid", "50", "--json").stdout);
    const total = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);
    const rows = (name: string): Record<string, number>[] => {
      const [head = "", ...lines] = readFileSync(join(folder, "csv", name), "utf8")
        .trimEnd()
        .split("\n");
      return lines.map((line) => {
        const cells = line.split(",");
        return Object.fromEntries(head.split(",").map((column, index) => [column, Number(cells[index])]));
      });
    };
    const cycles = Number(built["cycles"]);
    const cyclesOf = (parts: readonly { readonly cycles: number }[]): number => total(parts.map((part) => part.cycles));
    expect(report.cycles).toBe(cycles);
    expect([report.bounds, report.layers, report.nodes].map(cyclesOf)).toEqual([cycles, cycles, cycles]);
    expect(total(report.bounds.map(({ share }: { share: number }) => share))).toBeCloseTo(1, 12);
    expect(rows("bursts.csv")).toHaveLength(report.bursts);
    expect(total(rows("bounds.csv").map(({ from = 0, to = 0 }) => to - from))).toBe(cycles);
    const power = rows("power.csv");
    const units = ["static", "mem", "vxm", "mxm", "sxm"].map((unit) => `${unit} femtojoules`);
    expect(total(power.map((bin) => total(units.map((unit) => bin[unit] ?? 0))))).toBe(report.energy.femtojoules);
    expect(power).toHaveLength(Math.ceil(cycles / 50));
    expect(readFileSync(join(folder, "r.html"), "utf8")).toContain(`<dd>${formatCount(cycles)} (`);
    expect(lpu("report", image).stdout).toContain("calibrated to the published envelope, not measured");
  });

  test("build writes the same page as report", () => {
    expect(JSON.parse(lpu("build", model, "-o", "paged.lpu", "--report", "b.html", "--json").stdout).page).toBe(
      "b.html",
    );
    expect(lpu("report", "paged.lpu", "-o", "p.html").status).toBe(0);
    expect(readFileSync(join(folder, "b.html")).equals(readFileSync(join(folder, "p.html")))).toBe(true);
  });

  test("trace writes the same trace beside the image every time", () => {
    expect(JSON.parse(lpu("trace", image, "--json").stdout)).toMatchObject({ cycles: built["cycles"] });
    expect(lpu("trace", image, "-o", "again.pftrace").status).toBe(0);
    const [first, again] = ["bert.pftrace", "again.pftrace"].map((name) => readFileSync(join(folder, name)));
    expect(first?.equals(again ?? Buffer.alloc(0))).toBe(true);
  });

  test("run, report and trace take an entry by its name, which only an image of several needs", () => {
    const listing = lpu("disasm", image).stdout;
    const main = listing.slice(listing.indexOf(".entry"));
    writeFileSync(join(folder, "two.lst"), listing + main.replace('"main"', '"second"'));
    expect(lpu("asm", "two.lst").status).toBe(0);
    expect(lpu("disasm", "two.lpu").stdout).toBe(`${listing}\n${main.replace('"main"', '"second"')}`);
    for (const command of ["run", "report", "trace"]) {
      const { status, stderr } = lpu(command, "two.lpu");
      expect([status, stderr]).toEqual([1, expect.stringContaining("LPU4034: expected the name of an entry")]);
      expect(stderr).toContain("name one of 'main', 'second'");
    }
    const { stdout } = lpu("report", "two.lpu", "--entry", "second", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ cycles: built["cycles"] });
  });

  test("build and check take states, and say what is wrong with them", () => {
    for (const command of ["build", "check"]) {
      const { status, stdout, stderr } = lpu(command, model, "--state", "attention_mask=last_hidden_state");
      expect([status, stdout + stderr]).toEqual([1, expect.stringContaining("LPU1014: state 'attention_mask'")]);
      expect(lpu(command, model, "--state", "auto").status).toBe(1);
    }
  });

  test("build and check take the context of a decoder, and say what is none", () => {
    for (const command of ["build", "check"]) expect(lpu(command, model, "--context", "4").stderr).toContain("LPU5104");
  });

  test("check counts nodes", () => {
    expect(JSON.parse(lpu("check", model, "--json").stdout)).toMatchObject({ supported: true, problems: [] });
    expect(lpu("check", model).stdout).toMatch(/(\d+) of \1 nodes are supported/);
  });
});

describe("problems", () => {
  test("are rendered with all that they know, and nothing reaches the terminal that a name may hide", () => {
    const error = new CompileError(
      "LPU2001",
      { message: "needs 2 MiB, has 1", node: "fc\x1b[2J (MatMul)", notes: ["one", "two"], hint: "less" },
      [new CompileError("LPU5001", { message: "gone", at: "offset 3" })],
    );
    expect(renderProblems(problemsOf(error), plain)).toBe(
      [
        "error LPU2001: needs 2 MiB, has 1",
        "  node   fc\\x1b[2J (MatMul)",
        "  note   one",
        "  note   two",
        "  hint   less",
        "error LPU5001: gone",
        "  at     offset 3",
        "  hint   check the path and the permissions",
      ].join("\n"),
    );
  });

  test("a fault names cycle, unit, instruction and node; a broken invariant is one line", () => {
    const fault = new MachineFault(
      "LPU2001",
      { cycle: 12, unit: "mem.w3", instruction: "read 4, e0", origin: "fc (MatMul)" },
      "nothing there",
    );
    expect(problemsOf(fault)[0]).toMatchObject({ node: "fc (MatMul)", notes: ["cycle 12, unit mem.w3", "read 4, e0"] });
    let internal: readonly Problem[] = [];
    try {
      invariant(false, "two halves\nmeet");
    } catch (error) {
      internal = problemsOf(error);
    }
    expect(internal).toMatchObject([{ code: "LPU5000", message: "internal error: internal: two halves" }]);
  });
});

describe("reports", () => {
  test("a pipe gets plain lines, a terminal a line that is redrawn and never cleared", () => {
    const events: TaskEvent[] = [
      { title: "Optimizing", status: "start", at: 1000 },
      { title: "Optimizing", status: "progress", fraction: 0.5, at: 1500 },
      { title: "Optimizing", status: "done", detail: "7 nodes", at: 3500 },
      { title: "Compiling", status: "start", at: 3500 },
    ];
    const shown = (isTTY: boolean): string => {
      let text = "";
      const reporter = taskReporter({ isTTY, columns: 40, write: (part) => (text += part) }, plain, () => 3600);
      for (const event of events) reporter.event(event);
      reporter.close();
      return text;
    };
    expect(shown(false)).toBe("✔ Optimizing (7 nodes)  2.50 s\n✖ Compiling  100 ms\n");
    expect(shown(true)).toContain("\r\x1b[K✔ Optimizing (7 nodes)  2.50 s\n");
    expect(shown(true)).not.toContain("\x1b[2J");
  });

  test("numbers have units and no more digits than they need", () => {
    expect([
      formatCount(1234567),
      formatBytes(1536),
      formatBytes(230686720),
      formatSeconds(0.00321),
      formatSeconds(125),
    ]).toEqual(["1,234,567", "1.50 KiB", "220 MiB", "3.21 ms", "2 min 5 s"]);
  });

  test("distance counts equal infinities as equal and a lost one as infinite", () => {
    const values = (...numbers: number[]) => tensorOf("f32", [numbers.length], numbers);
    expect(distance(values(3, 5), values(3, 4))).toEqual({ relL2: 0.2, maxAbs: 1 });
    expect(
      distance(values(1, Number.NEGATIVE_INFINITY, Number.NaN), values(1, Number.NEGATIVE_INFINITY, Number.NaN)),
    ).toEqual({ relL2: 0, maxAbs: 0 });
    expect(distance(values(1, 2), values(1, Number.NaN)).relL2).toBe(Number.POSITIVE_INFINITY);
    expect(distance(values(0.5), values(0))).toEqual({ relL2: 0.5, maxAbs: 0.5 });
  });

  test("files of tensors are all written, or none is", () => {
    mkdirSync(join(folder, "whole", "b.npy"), { recursive: true });
    const tensor = tensorOf("f32", [1], [1]);
    const files = ["a", "b"].map((name) => ({
      path: join(folder, "whole", `${name}.npy`),
      tensor,
      dtype: "f32" as const,
    }));
    expect(() => writeTensorFiles(files)).toThrow(/LPU5003.*b\.npy/);
    expect(readdirSync(join(folder, "whole"))).toEqual(["b.npy"]);
  });

  test("names of outputs become names of files that stay in the folder", () => {
    const names = fileNames(["logits", "../../etc/passwd", "present.0/key", "present.0:key", "", "LOGITS"]);
    expect(names).toEqual([
      "logits.npy",
      "__.._etc_passwd.npy",
      "present.0_key.npy",
      "present.0_key-2.npy",
      "output.npy",
      "LOGITS-2.npy",
    ]);
    for (const name of names) expect(basename(name)).toBe(name);
  });
});

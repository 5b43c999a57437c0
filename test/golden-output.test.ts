/**
 * Outputs of the committed models bit for bit, listings small enough to read, and what is said about bad input: all with
 * committed expectations. Inputs are seeded with integer arithmetic only, so every host must give the same files.
 */

import { afterAll, describe, expect, test } from "@jest/globals";
import { renderProblems } from "../bin/show/problems.js";
import { joinChunks } from "../src/host/build.js";
import { listing } from "../src/codegen/listing/disassemble.js";
import { hashOf } from "../src/host/files.js";
import type { Graph, Tensor } from "../src/ir/graph.js";
import { chipsOf } from "../src/ir/group.js";
import type { Plan } from "../src/ir/plan.js";
import { sharedPlan } from "../src/group.js";
import { select } from "../src/passes/select/select.js";
import { parseGraph } from "../src/ir/parse.js";
import { TARGETS } from "../src/ir/target.js";
import { formatShape } from "../src/ir/tensor.js";
import { peersOf, pipelineOf, pipelineProgram } from "../src/pipeline.js";
import { loadImage } from "../src/runtime/run.js";
import { BAD_INPUTS, problemsOfBadInput, removeBadFiles } from "./bad-inputs.js";
import { COMMITTED, compileCommitted } from "./committed.js";
import { planOf } from "./compiled.js";
import { check, goldenFiles } from "./golden.js";

const FIRST_ELEMENTS = 8;
const HASH_DIGITS = 16;

function outputLines(name: string, { dtype, shape, data }: Tensor): string[] {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const hex = Array.from({ length: Math.min(FIRST_ELEMENTS, data.length) }, (_, index) =>
    Buffer.from(bytes.slice(index * data.BYTES_PER_ELEMENT, (index + 1) * data.BYTES_PER_ELEMENT).reverse()).toString(
      "hex",
    ),
  );
  return [
    `  ${name} ${dtype}${formatShape(shape)} sha256 ${hashOf([bytes]).slice(0, HASH_DIGITS)}`,
    `    ${hex.join(" ")}`,
  ];
}

test("outputs of the committed models", () => {
  check("outputs.txt", () =>
    COMMITTED.flatMap((model) => {
      const loaded = loadImage(joinChunks(compileCommitted(model, "lpu-v1").image())).entry();
      const { outputs } = loaded.run(model.inputs());
      return [model.name, ...Object.entries(outputs).flatMap(([name, tensor]) => outputLines(name, tensor))];
    }).join("\n"),
  );
});

describe("listings", () => {
  test.each(goldenFiles("listing", ".tir"))("%s", (path) =>
    check(path, (command, input) => {
      const graph = parseGraph(input);
      const [stages, tensor] = ["stages", "tensor"].map((name) =>
        Number(new RegExp(`--${name}=(\\d+)`).exec(command)?.[1] ?? 1),
      );
      const pipeline = pipelineOf({ stages, tensor }, TARGETS.tiny);
      // What chips share is written as they share it.
      const layOut = (own: Graph): Plan => select(own, TARGETS.tiny, new Map(), [], peersOf(pipeline));
      const plan =
        chipsOf(graph) > 1 ? sharedPlan(graph, TARGETS.tiny, new Map(), layOut).plan : planOf(graph, TARGETS.tiny);
      const { program } = pipelineProgram([{ name: "main", plan }], pipeline);
      return [...listing(program, { data: false })].join("\n");
    }),
  );
});

describe("bad input", () => {
  afterAll(removeBadFiles);
  const plain = { red: String, green: String, yellow: String, cyan: String, dim: String, bold: String };
  const said = Object.keys(BAD_INPUTS).map((name) => ({ name, problems: problemsOfBadInput(name) }));

  test("what is said about it", () => {
    check("errors.txt", () =>
      said.map(({ name, problems }) => `${name}\n${renderProblems(problems, plain).replace(/^/gm, "  ")}`).join("\n\n"),
    );
  });

  test("is always an error, and never an internal one", () => {
    const wrong = said.filter(
      ({ problems }) => problems.length === 0 || problems.some(({ code }) => code === "LPU5000"),
    );
    expect(wrong.map(({ name }) => name)).toEqual([]);
  });
});

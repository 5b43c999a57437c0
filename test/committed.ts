/** The models that are committed, as goldens and end-to-end tests take them: their sources, bindings and seeded inputs. */

import { readFileSync } from "node:fs";
import { SMALL_MODELS } from "../models/families.js";
import { seededIntegers } from "../models/weights.js";
import { type Compiled, compile } from "../src/compile.js";
import type { CompileOptions } from "../src/options.js";
import { bytesSource, type ModelSource } from "../src/frontend/source.js";
import type { Tensor } from "../src/ir/graph.js";
import type { TargetName } from "../src/ir/target.js";
import { tensorOf } from "../src/ir/tensor.js";
import { type SmallName, smallInputs, smallSource } from "./compiled.js";

interface CommittedModel {
  readonly name: string;
  readonly source: () => ModelSource;
  readonly bind: NonNullable<CompileOptions["bind"]>;
  readonly inputs: () => Readonly<Record<string, Tensor>>;
}

const isSmall = (name: string): name is SmallName => name in SMALL_MODELS;

/** Positions of the storyteller's window here; its only named dimension. */
const STORY = { s70: 16 };
const STORY_VOCABULARY = 512;
const storyteller = (): ModelSource =>
  bytesSource("storyteller", readFileSync(new URL("../../models/storyteller/model.onnx", import.meta.url)));

export const COMMITTED: readonly CommittedModel[] = [
  ...Object.keys(SMALL_MODELS)
    .filter(isSmall)
    .map((name) => ({ name, source: () => smallSource(name), bind: {}, inputs: () => smallInputs(name) })),
  {
    name: "storyteller",
    source: storyteller,
    bind: STORY,
    inputs: () => ({
      input_ids: tensorOf("i32", [1, STORY.s70], seededIntegers("input_ids", 1, STORY.s70, STORY_VOCABULARY)),
    }),
  },
];

export const compileCommitted = (
  { source, bind }: CommittedModel,
  target: TargetName,
  chips: Pick<CompileOptions, "system" | "tensor"> = {},
): Compiled => compile(source(), { bind, target, ...chips });

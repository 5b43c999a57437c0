/**
 * A language model as people have it: a file or a folder of Hugging Face, with what lies beside the model.
 */

import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fail } from "../diagnostics.js";
import { attempt, readText } from "./files.js";

export interface ModelFolder {
  readonly model: string;
  /** Contents of tokenizer.json and tokenizer_config.json, if there are any. */
  readonly tokenizer: { readonly definition: object; readonly config: object } | undefined;
  /** What generation_config.json, or else config.json, says ends a text. */
  readonly ends: readonly number[];
}

/** Where exporters put a decoder in a folder, in the order in which it is looked for. */
const MODELS = ["model.onnx", "decoder_with_past_model.onnx", "onnx/model.onnx", "onnx/decoder_with_past_model.onnx"];

/**
 * `path` is a model or a folder; `tokenizer` a tokenizer.json that lies elsewhere.
 *
 * @throws LPU5001 for a folder without a model and for what cannot be read; LPU5107 for what is not JSON.
 */
export function openFolder(path: string, tokenizer?: string): ModelFolder {
  const isFolder = attempt("LPU5001", `model '${path}' cannot be read`, () => statSync(path)).isDirectory();
  const model = isFolder ? modelIn(path) : path;
  const places = [dirname(model), isFolder ? path : dirname(dirname(model))];
  const beside = (name: string): string | undefined =>
    places.map((folder) => join(folder, name)).find((file) => existsSync(file));
  const own = tokenizer ?? beside("tokenizer.json");
  const config =
    tokenizer === undefined ? beside("tokenizer_config.json") : join(dirname(tokenizer), "tokenizer_config.json");
  const said = [beside("generation_config.json"), beside("config.json")].map((file) => endsOf(readJson(file)));
  return {
    model,
    tokenizer: own === undefined ? undefined : { definition: readJson(own) ?? {}, config: readJson(config) ?? {} },
    ends: said.find((ends) => ends.length > 0) ?? [],
  };
}

function modelIn(folder: string): string {
  const found = MODELS.map((name) => join(folder, name)).find((file) => existsSync(file));
  if (found !== undefined) return found;
  const [only, ...others] = readdirSync(folder).filter((name) => name.endsWith(".onnx"));
  if (only !== undefined && others.length === 0) return join(folder, only);
  return fail("LPU5001", {
    message: `folder '${folder}': expected a model, found ${only === undefined ? "no .onnx file" : `${others.length + 1} .onnx files`}`,
    hint: `name the model itself; in a folder it is ${MODELS.join(", ")}, or the only .onnx file`,
  });
}

function readJson(file: string | undefined): object | undefined {
  if (file === undefined || !existsSync(file)) return undefined;
  const text = readText(file, "file");
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return fail("LPU5107", { message: `file '${file}': expected an object in JSON` });
}

function endsOf(config: object | undefined): readonly number[] {
  const value: unknown = config !== undefined && "eos_token_id" in config ? config.eos_token_id : [];
  return (Array.isArray(value) ? value : [value]).filter((token): token is number => Number.isInteger(token));
}

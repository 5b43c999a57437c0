/**
 * A language model as people have it: a file, a folder of Hugging Face or one of onnxruntime-genai, with what lies beside the model.
 */

import { existsSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fail } from "../diagnostics.js";
import type { ModelSource } from "../frontend/source.js";
import { attempt, openModel, readText } from "./files.js";

/** A file and the object in it. */
export interface JsonFile {
  readonly file: string;
  readonly content: object;
}

export interface ModelFolder {
  readonly model: string;
  /** What the folder is called, or the file by itself. */
  readonly name: string;
  /** Contents of tokenizer.json, tokenizer_config.json and chat_template.jinja, if there are any. */
  readonly tokenizer: TokenizerFiles | undefined;
  /** Those that say how text is written with the model, the one that holds first. */
  readonly settings: readonly JsonFile[];
}

export interface TokenizerFiles {
  readonly definition: object;
  readonly config: object;
  readonly template: string | undefined;
}

/** Where exporters put a decoder in a folder, in the order in which it is looked for. */
const MODELS = [
  "model.onnx",
  "decoder_with_past_model.onnx",
  "onnx/model.onnx",
  "onnx/decoder_with_past_model.onnx",
  "model-past.onnx",
];

/** The file of onnxruntime-genai, which says where the model is. */
const GENAI = "genai_config.json";

const SETTINGS = ["generation_config.json", GENAI, "config.json"];

/**
 * `path` is a model or a folder; `tokenizer` a tokenizer.json that lies elsewhere; of several models in a folder it is the first
 * that `isWanted`, or the first.
 *
 * @throws LPU5001 for a folder without a model and for what cannot be read; LPU5107 for what is not JSON.
 */
export function openFolder(path: string, tokenizer?: string, isWanted?: (source: ModelSource) => boolean): ModelFolder {
  const isFolder = attempt("LPU5001", `model '${path}' cannot be read`, () => statSync(path)).isDirectory();
  const model = isFolder ? modelIn(path, isWanted) : path;
  const places = [dirname(model), isFolder ? path : dirname(dirname(model))];
  const beside = (name: string): string | undefined =>
    places.map((folder) => join(folder, name)).find((file) => existsSync(file));
  const own = tokenizer ?? beside("tokenizer.json");
  const besideTokenizer = (name: string): string | undefined =>
    tokenizer === undefined ? beside(name) : existing(join(dirname(tokenizer), name));
  return {
    model,
    name: basename(resolve(path)).replace(/\.(onnx|lpu)$/, ""),
    tokenizer: own === undefined ? undefined : tokenizerFiles(own, besideTokenizer),
    settings: SETTINGS.flatMap((name) => {
      const file = beside(name);
      const content = readJson(file);
      return file === undefined || content === undefined ? [] : [{ file, content }];
    }),
  };
}

const existing = (file: string): string | undefined => (existsSync(file) ? file : undefined);

function tokenizerFiles(file: string, beside: (name: string) => string | undefined): TokenizerFiles {
  const template = beside("chat_template.jinja");
  return {
    definition: jsonIn(file),
    config: readJson(beside("tokenizer_config.json")) ?? {},
    template: template === undefined ? undefined : readText(template, "file"),
  };
}

function modelIn(folder: string, isWanted: (source: ModelSource) => boolean = () => true): string {
  const named = genaiModel(join(folder, GENAI));
  const found = [...(named === undefined ? [] : [named]), ...MODELS]
    .map((name) => join(folder, name))
    .filter((file) => existsSync(file));
  const [first] = found;
  if (first !== undefined) return (found.length > 1 ? found.find((file) => isSo(file, isWanted)) : undefined) ?? first;
  const [only, ...others] = readdirSync(folder).filter((name) => name.endsWith(".onnx"));
  if (only !== undefined && others.length === 0) return join(folder, only);
  return fail("LPU5001", {
    message: `folder '${folder}': expected a model, found ${only === undefined ? "no .onnx file" : `${others.length + 1} .onnx files`}`,
    hint: `name the model itself; in a folder it is ${MODELS.join(", ")}, what ${GENAI} names, or the only .onnx file`,
  });
}

function isSo(file: string, is: (source: ModelSource) => boolean): boolean {
  const model = openModel(file);
  try {
    return is(model.source);
  } finally {
    model.close();
  }
}

/** `model.decoder.filename`, if the file is there and says it. */
function genaiModel(file: string): string | undefined {
  const found = ["model", "decoder", "filename"].reduce<unknown>(
    (value, name) =>
      typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined,
    readJson(file),
  );
  return typeof found === "string" ? found : undefined;
}

const readJson = (file: string | undefined): object | undefined =>
  file === undefined || !existsSync(file) ? undefined : jsonIn(file);

function jsonIn(file: string): object {
  const text = readText(file, "file");
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return fail("LPU5107", { message: `file '${file}': expected an object in JSON` });
}

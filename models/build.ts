#!/usr/bin/env node
/**
 * Command line of the model builders: `node dist/models/build.js bert --layers 12 --hidden 768 --seq 128 -o bert.onnx`.
 *
 * The first word is a family, a preset, or `small`, which writes the committed models. Options, defaults and help come
 * from the tables in families.ts and sizes.ts. Nothing else is printed on stdout than one line per file written.
 */

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import yargs from "yargs";
import { hideBin } from "yargs/helpers";
import { problemsOf, renderProblems } from "../bin/show/problems.js";
import { colorsOf } from "../bin/show/terminal.js";
import { fail } from "../src/diagnostics.js";
import { makeFolder } from "../src/host/files.js";
import { buildModel, buildSmallModel, FAMILIES, type FamilyName, OPSETS, PRESETS, SMALL_MODELS } from "./families.js";
import { type OnnxModel, writeModel } from "./onnx-writer.js";
import { isSizeName, SIZES, type SizeName } from "./sizes.js";

/** Where the committed models are, from dist/models. */
const SMALL_FOLDER = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "models", "small");

type SizeTable = Readonly<Partial<Record<SizeName, number>>>;

interface Choice {
  readonly family: FamilyName;
  readonly doc: string;
  readonly sizes: SizeTable;
  readonly opset: number;
  readonly title: string;
}

/** Families and presets by the word that chooses them; every size that the family takes has its default here. */
function choices(): Map<string, Choice> {
  const table = new Map<string, Choice>();
  for (const [name, family] of Object.entries(FAMILIES)) {
    if (isFamily(name))
      table.set(name, { family: name, doc: family.doc, sizes: family.defaults, opset: family.opset, title: "" });
  }
  for (const [name, preset] of Object.entries(PRESETS)) {
    const base = FAMILIES[preset.family];
    table.set(name, {
      ...preset,
      sizes: { ...base.defaults, ...preset.sizes },
      opset: base.opset,
      title: `${preset.family} with `,
    });
  }
  return table;
}

const canHavePast = (name: FamilyName): boolean => "past" in FAMILIES[name];

const isFamily = (name: string): name is FamilyName => name in FAMILIES;

function main(words: readonly string[]): void {
  const table = choices();
  const [first = ""] = words;
  if (first !== "" && !first.startsWith("-") && first !== "small" && !table.has(first)) {
    fail("LPU5101", {
      message: `no model is called '${first}'`,
      hint: `there are ${[...table.keys(), "small"].join(", ")}`,
    });
  }
  const parser = yargs(words)
    .scriptName("build")
    .usage(
      "$0 <model> [sizes] -o model.onnx\n\nWrites ONNX transformers of any size with seeded weights, in plain operators.",
    )
    .version(false)
    .strict()
    .demandCommand(1, "name a model: a family, a preset, or 'small'")
    .fail((message: string, error: unknown) => {
      if (error instanceof Error) throw error;
      fail("LPU5101", {
        message: lowerFirst(message),
        hint: "`node dist/models/build.js --help` lists models and options",
      });
    })
    .command(
      "small",
      "Writes the committed small models.",
      (command) =>
        command.option("output-dir", {
          type: "string",
          default: SMALL_FOLDER,
          defaultDescription: "models/small",
          describe: "Folder to write to.",
        }),
      (args) => writeSmall(args.outputDir),
    );
  for (const [name, choice] of table) {
    parser.command(
      name,
      `${choice.title}${choice.doc}`,
      (command) => {
        for (const [size, fallback] of Object.entries(choice.sizes)) {
          if (isSizeName(size))
            command.option(size, { type: "number", describe: `${SIZES[size].doc} [default: ${fallback}]` });
        }
        if (canHavePast(choice.family))
          command.option("past", {
            type: "boolean",
            default: false,
            describe:
              "A decoder with past_key_values.N.key and .value, present.N.key and .value, attention_mask and position_ids; the lengths are left open.",
          });
        return command
          .option("weights", {
            type: "boolean",
            default: true,
            describe: "Write weights. With --no-weights they are said to lie in a file that is not there.",
          })
          .option("seed", { type: "number", default: 1, describe: "Seed of the weights." })
          .option("opset", {
            type: "number",
            default: choice.opset,
            describe: `ONNX opset, ${OPSETS.least} to ${OPSETS.most}; from 17 on LayerNormalization is one operator.`,
          })
          .option("output", { alias: "o", type: "string", default: `${name}.onnx`, describe: "File to write." });
      },
      (args) => {
        const sizes = Object.entries(args).filter(
          (entry): entry is [SizeName, number] => isSizeName(entry[0]) && typeof entry[1] === "number",
        );
        const past = "past" in args && args["past"] === true;
        if (past && sizes.some(([size]) => size === "seq"))
          fail("LPU5101", {
            message: "seq: a decoder with a past leaves open how many tokens it takes",
            hint: "leave --seq out, and bind sequence_length when it is built, or give lpu build --context",
          });
        const preset: SizeTable = name in PRESETS ? presetSizes(name) : {};
        write(
          buildModel(
            choice.family,
            { ...preset, ...Object.fromEntries(sizes) },
            { opset: args.opset, seed: args.seed, past },
          ),
          args.output,
          args.weights,
        );
      },
    );
  }
  parser.parseSync();
}

const presetSizes = (name: string): SizeTable => Object.entries(PRESETS).find(([key]) => key === name)?.[1].sizes ?? {};

function writeSmall(folder: string): void {
  for (const name of Object.keys(SMALL_MODELS)) {
    if (isSmall(name)) write(buildSmallModel(name), join(folder, `${name}.onnx`));
  }
}

const isSmall = (name: string): name is keyof typeof SMALL_MODELS => name in SMALL_MODELS;

function write(model: OnnxModel, file: string, weights = true): void {
  makeFolder(dirname(file));
  const written = writeModel(model, file, weights ? {} : { absent: true });
  const external =
    written.external === undefined
      ? ""
      : `, weights in ${written.external.file} (${written.external.bytes} bytes${weights ? "" : ", not written"})`;
  console.log(`${file}: ${model.nodes.length} nodes, opset ${model.opset}, ${written.bytes} bytes${external}`);
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

try {
  main(hideBin(process.argv));
} catch (error) {
  console.error(renderProblems(problemsOf(error), colorsOf(process.stderr)));
  process.exitCode = 1;
}

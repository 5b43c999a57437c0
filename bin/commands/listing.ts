/** `lpu disasm` and `lpu asm`: an image to a listing, and back. */

import { apartFrom, imageBeside, readText, readWhole, textChunks, writeAtomically } from "../../src/host/files.js";
import { formatBytes } from "../../src/report/units.js";
import { printable } from "../show/problems.js";
import { EXIT } from "../show/terminal.js";
import { command } from "./command.js";
import { OPTIONS, POSITIONAL } from "./options.js";

export const disasm = command({
  command: "disasm <image>",
  doc: "Prints an image as a listing that asm can read.",
  options: (argv) =>
    argv.positional("image", POSITIONAL.image).options({
      output: { alias: "o", type: "string", describe: "file for the listing; stdout if not given" },
      data: {
        type: "boolean",
        default: true,
        describe: "with constants and tables; --no-data leaves them out, and asm cannot read the listing",
      },
      json: { ...OPTIONS.json, hidden: true },
    }),
  run: async (args) => {
    const { listing } = await import("../../src/codegen/listing/disassemble.js");
    const { readImage } = await import("../../src/codegen/image/image.js");
    const lines = listing(readImage(readWhole(args.image, "image")), { data: args.data });
    if (args.output === undefined) for (const chunk of textChunks(lines)) process.stdout.write(chunk);
    else writeAtomically(apartFrom(args.output, [args.image]), textChunks(lines));
    return EXIT.ok;
  },
});

export const asm = command({
  command: "asm <listing>",
  doc: "Assembles a listing to an image.",
  options: (argv) =>
    argv
      .positional("listing", { type: "string", demandOption: true, describe: "listing, as disasm prints it" })
      .options({
        output: { alias: "o", type: "string", describe: "where the image goes; beside the listing if not given" },
        json: OPTIONS.json,
      }),
  run: async (args, terminal) => {
    const { assemble } = await import("../../src/codegen/listing/assemble.js");
    const bytes = assemble(readText(args.listing, "listing"), args.listing);
    const image = apartFrom(args.output ?? imageBeside(args.listing), [args.listing]);
    const written = writeAtomically(image, [bytes]);
    terminal.result({ image, sha256: written.sha256, imageBytes: written.bytes });
    terminal.print(`${printable(image)}  (${formatBytes(written.bytes)}, sha256 ${written.sha256.slice(0, 12)})`);
    return EXIT.ok;
  },
});

/**
 * A model file to an image, by way of the cache: what `lpuit()` and the command line share.
 *
 * The image goes to the cache first where there is one, and is read or copied from there; without a cache it is made when
 * it is asked for. The compiler itself knows nothing of files, caches or clocks.
 */

import { type CacheOptions, cacheKey, findBuild, storeBuild } from "./cache.js";
import { compile } from "../compile.js";
import type { Devices } from "../frontend/devices.js";
import { DEFAULT_TARGET } from "../ir/target.js";
import { DEFAULT_WEIGHTS } from "../ir/weights.js";
import type { CompileOptions } from "../options.js";
import { chunksOf, copyAtomically, type OpenModel, openFile, type Written, writeAtomically } from "./files.js";
import type { BuildReport } from "../report/report.js";
import type { OnStage } from "../stages.js";

export interface BuildContext {
  /** Where builds are kept; none when undefined. */
  readonly cacheFolder?: string | undefined;
  /** Builds even if there is one. */
  readonly rebuild?: boolean | undefined;
  /** Milliseconds, for the times of the stages. */
  readonly now: () => number;
}

export interface Build {
  readonly report: BuildReport;
  readonly cached: boolean;
  /** Seconds of each stage; of the first build if this one was found. */
  readonly seconds: Readonly<Record<string, number>>;
  readonly image: () => Iterable<Uint8Array>;
  readonly writeImage: (path: string) => Written;
  /** Where nodes and results are; undefined for a build that was found. */
  readonly devices?: (() => Devices) | undefined;
}

export function buildModel(model: OpenModel, options: CompileOptions, context: BuildContext): Build {
  const { cacheFolder } = context;
  const key = cacheFolder === undefined ? "" : cacheKey(model, cacheOptions(model, options));
  if (cacheFolder !== undefined && context.rebuild !== true) {
    const found = findBuild(cacheFolder, key, model);
    if (found !== undefined)
      return { ...found, cached: true, ...fromFile(found.path, { sha256: found.sha256, bytes: found.imageBytes }) };
  }
  const times = stageTimes(context.now, options.onStage);
  const compiled = compile(model.source, { ...options, onStage: times.onStage });
  const { report, devices } = compiled;
  const made = { report, devices, cached: false, seconds: times.seconds };
  if (cacheFolder !== undefined) {
    const stored = storeBuild(
      cacheFolder,
      key,
      compiled.image(),
      () => ({ report: compiled.report, seconds: times.seconds }),
      model,
    );
    if (stored !== undefined)
      return { ...made, ...fromFile(stored.path, { sha256: stored.sha256, bytes: stored.imageBytes }) };
  }
  return { ...made, image: compiled.image, writeImage: (path) => writeAtomically(path, compiled.image()) };
}

const cacheOptions = (model: OpenModel, options: CompileOptions): CacheOptions => ({
  name: options.name ?? model.source.name,
  target: options.target ?? DEFAULT_TARGET,
  system: options.system ?? "",
  dead: options.dead ?? [],
  chips: options.chips ?? 0,
  stages: String(options.stages ?? ""),
  tensor: options.tensor ?? 0,
  configuration: options.configuration ?? "",
  bind: options.bind ?? {},
  shapes: options.shapes ?? {},
  fix: options.fix ?? {},
  last: options.last ?? [],
  state: options.state ?? {},
  entries: options.entries ?? {},
  weights: options.weights ?? DEFAULT_WEIGHTS,
  keep: options.keep ?? [],
});

function fromFile(path: string, written: Written): Pick<Build, "image" | "writeImage"> {
  return {
    image: function* () {
      const file = openFile(path, "cached image");
      try {
        yield* chunksOf(file);
      } finally {
        file.close();
      }
    },
    writeImage: (to) => {
      copyAtomically(path, to);
      return written;
    },
  };
}

function stageTimes(
  now: () => number,
  listener: OnStage | undefined,
): { readonly seconds: Record<string, number>; readonly onStage: OnStage } {
  const seconds: Record<string, number> = {};
  const started: Record<string, number> = {};
  return {
    seconds,
    onStage: (event) => {
      if (event.status === "start") started[event.stage] = now();
      else if (event.status !== "progress") seconds[event.stage] = (now() - (started[event.stage] ?? now())) / 1000;
      listener?.(event);
    },
  };
}

/** All of an image in one piece. */
export function joinChunks(chunks: Iterable<Uint8Array>): Uint8Array {
  const parts = [...chunks];
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * Finished builds, kept by content: the same model bytes, dimensions, target and compiler find the image that was made before.
 *
 * The key hashes everything that the image depends on but external data, whose names are only known after a build: an entry lists the
 * external files that its build read with their hashes, and only fits while those are the same. An entry whose image does
 * not have its recorded hash is no entry. A cache that cannot be written is no reason for a build to fail.
 */

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, statSync, utimesSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { CompileError } from "../diagnostics.js";
import { chunksOf, hashOf, isSystemError, makeFolder, type OpenModel, openFile, writeAtomically } from "./files.js";
import type { EntryOptions } from "../options.js";
import type { FixedValue } from "../frontend/fix.js";
import type { StateOption } from "../frontend/states.js";
import { contentKey, isWideTensor } from "../ir/tensor.js";
import type { BuildReport } from "../report/report.js";

/** What the image depends on beside the model. */
export interface CacheOptions {
  readonly name: string;
  readonly target: string;
  /** Empty where they are not given. */
  readonly system: string;
  readonly dead: readonly number[];
  readonly chips: number;
  readonly stages: string;
  readonly tensor: number;
  readonly configuration: string | false;
  readonly bind: Readonly<Record<string, number>>;
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  readonly fix: Readonly<Record<string, FixedValue>>;
  readonly last: readonly string[];
  readonly state: StateOption;
  readonly entries: Readonly<Record<string, EntryOptions>>;
  readonly weights: string;
  readonly keep: readonly string[];
}

export interface CacheEntry {
  readonly report: BuildReport;
  readonly sha256: string;
  readonly imageBytes: number;
  /** Seconds of each stage when it was built. */
  readonly seconds: Readonly<Record<string, number>>;
  readonly external: Readonly<Record<string, string>>;
}

export interface CachedBuild extends CacheEntry {
  readonly path: string;
}

const FORMAT = 1;
/** Past this, the entries that were not used for longest go. */
const MAX_BYTES = 4 * 2 ** 30;
const IMAGE = "image.lpu";
const ENTRY = "entry.json";

export function defaultCacheFolder(): string {
  const base = process.env["XDG_CACHE_HOME"];
  return join(base === undefined || base === "" ? join(homedir(), ".cache") : base, "metronome");
}

function fixKey(value: FixedValue): unknown {
  if ("data" in value) return contentKey(value);
  return isWideTensor(value) ? [value.shape, value.unsigned, Array.from(value.words)] : value.map(String);
}

export function cacheKey(model: OpenModel, options: CacheOptions): string {
  const { source } = model;
  const sorted = <Value>(record: Readonly<Record<string, Value>>): [string, Value][] =>
    Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));
  const facts = [
    FORMAT,
    compilerVersion(),
    options.name,
    options.target,
    options.system,
    options.dead,
    options.chips,
    options.stages,
    options.tensor,
    options.configuration,
    sorted(options.bind),
    sorted(options.shapes),
    sorted(options.fix).map(([name, value]) => [name, fixKey(value)]),
    options.last,
    options.state === "auto" ? "auto" : sorted(options.state),
    Object.entries(options.entries).map(([name, { bind = {}, shapes = {}, fix = {}, last = [] }]) => [
      name,
      sorted(bind),
      sorted(shapes),
      sorted(fix).map(([input, value]) => [input, fixKey(value)]),
      last,
    ]),
    options.weights,
    options.keep,
  ];
  const hash = createHash("sha256").update(JSON.stringify(facts));
  const buffer = new Uint8Array(1 << 20);
  for (let offset = 0; offset < source.size; offset += buffer.length)
    hash.update(source.read(offset, Math.min(buffer.length, source.size - offset), buffer));
  return hash.digest("hex");
}

export function findBuild(folder: string, key: string, model: OpenModel): CachedBuild | undefined {
  try {
    const entry = readEntry(join(folder, key, ENTRY));
    if (
      entry === undefined ||
      !Object.entries(entry.external).every(([location, hash]) => externalHash(model, location) === hash)
    )
      return undefined;
    const path = join(folder, key, IMAGE);
    const image = openFile(path, "cached image");
    try {
      if (image.size !== entry.imageBytes || hashOf(chunksOf(image)) !== entry.sha256) return undefined;
    } finally {
      image.close();
    }
    const now = new Date();
    utimesSync(join(folder, key, ENTRY), now, now);
    return { ...entry, path };
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}

/** `finish` is asked for the entry after the image is written. Undefined when the cache cannot be written. */
export function storeBuild(
  folder: string,
  key: string,
  image: Iterable<Uint8Array>,
  finish: () => Pick<CacheEntry, "report" | "seconds">,
  model: OpenModel,
): CachedBuild | undefined {
  const place = join(folder, key);
  try {
    makeFolder(place);
    const { sha256, bytes } = writeAtomically(join(place, IMAGE), image);
    const external = Object.fromEntries(
      [...model.used.keys()].sort().map((location) => [location, externalHash(model, location) ?? ""]),
    );
    const entry: CacheEntry = { ...finish(), sha256, imageBytes: bytes, external };
    writeAtomically(join(place, ENTRY), [new TextEncoder().encode(`${JSON.stringify(entry)}\n`)]);
    trim(folder, key);
    return { ...entry, path: join(place, IMAGE) };
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}

const isRefusal = (error: unknown): boolean =>
  (error instanceof CompileError && (error.code === "LPU5001" || error.code === "LPU5003")) || isSystemError(error);

function externalHash(model: OpenModel, location: string): string | undefined {
  if (model.source.external?.size(location) === undefined) return undefined;
  const file = model.used.get(location);
  return file === undefined ? undefined : hashOf(chunksOf(file));
}

/** The boundary where JSON becomes an entry: it was written by `storeBuild` of this very compiler, or the key would differ. */
function readEntry(path: string): CacheEntry | undefined {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as CacheEntry;
  } catch {
    return undefined;
  }
}

function trim(folder: string, kept: string): void {
  const entries = readdirSync(folder)
    .filter((key) => /^[0-9a-f]{64}$/.test(key))
    .map((key) => ({ key, ...statusOf(join(folder, key)) }))
    .sort((a, b) => b.used - a.used);
  let total = 0;
  for (const { key, bytes } of entries) {
    total += bytes;
    if (total > MAX_BYTES && key !== kept) rmSync(join(folder, key), { recursive: true, force: true });
  }
}

function statusOf(place: string): { readonly bytes: number; readonly used: number } {
  try {
    return { bytes: statSync(join(place, IMAGE)).size, used: statSync(join(place, ENTRY)).mtimeMs };
  } catch {
    return { bytes: 0, used: 0 };
  }
}

let version: string | undefined;

/** The package's version and a hash of its compiled sources, so that a changed compiler never finds an old build. */
function compilerVersion(): string {
  if (version === undefined) {
    const root = dirname(dirname(fileURLToPath(import.meta.url)));
    const hash = createHash("sha256");
    for (const file of sourceFiles(root)) hash.update(file.slice(root.length)).update(readFileSync(file));
    version = `${packageVersion()}-${hash.digest("hex").slice(0, 12)}`;
  }
  return version;
}

function packageVersion(): string {
  const text = readFileSync(new URL("../../../package.json", import.meta.url), "utf8");
  return /"version":\s*"([^"]+)"/.exec(text)?.[1] ?? "0";
}

function sourceFiles(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return sourceFiles(path);
      return entry.name.endsWith(".js") ? [path] : [];
    });
}

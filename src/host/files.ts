/**
 * Files: the one place outside `bin` that touches the disk, for those who give paths instead of bytes.
 *
 * A model and its external data are read by position, never whole, so their size does not matter; external data must lie in
 * the model's own folder, also after symbolic links are followed. Whatever is written goes to a temporary file in the same folder
 * and is renamed when it is complete, so that a path never holds half of anything. Every refusal of the system is a coded error.
 */

import { createHash, type Hash } from "node:crypto";
import {
  closeSync,
  existsSync,
  constants,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, extname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { threadId } from "node:worker_threads";
import { CompileError, fail } from "../diagnostics.js";
import { fileFromTensor, wideFromFile } from "./edge.js";
import { bytesSource, type ExternalFiles, type ModelSource, readModel } from "../frontend/source.js";
import { decodeTensorProto, decodeWide, type NamedTensor } from "../frontend/tensors.js";
import type { EdgeDType } from "../ir/dtype.js";
import type { Tensor } from "../ir/graph.js";
import { narrowTensor, type WideTensor } from "../ir/tensor.js";
import { decodeNpy, encodeNpy } from "./npy.js";

const CHUNK = 1 << 22;

/** A model whose file stays open until `close`, because its weights are read when they are needed. */
export interface OpenModel {
  readonly source: ModelSource;
  /** External files that were read so far, by location. */
  readonly used: ReadonlyMap<string, OpenFile>;
  readonly close: () => void;
}

export interface OpenFile {
  readonly path: string;
  readonly size: number;
  /** Into memory of its own, or that of `into`, which is at least as long. */
  readonly read: (offset: number, length: number, into?: Uint8Array) => Uint8Array;
  readonly close: () => void;
}

export function openModel(path: string): OpenModel {
  const file = openFile(path, "model");
  const used = new Map<string, OpenFile>();
  const external = externalFiles(path, used);
  return {
    source: { name: basename(path, extname(path)), size: file.size, read: file.read, external },
    used,
    close: () => {
      for (const other of [file, ...used.values()]) other.close();
    },
  };
}

/** A model that is in memory; it has no external data. */
export function memoryModel(name: string, bytes: Uint8Array): OpenModel {
  return { source: bytesSource(name, bytes), used: new Map(), close: () => undefined };
}

/** Bytes that are kept are copies in memory of their own: nothing is cached here. */
export function openFile(path: string, what: string): OpenFile {
  const refused = `${what} '${path}' cannot be read`;
  // Looked at before it is opened, because opening a pipe would wait for its other end.
  const status = attempt("LPU5001", refused, () => statSync(path));
  if (!status.isFile())
    fail("LPU5001", {
      message: `${what} '${path}': expected a file, found ${status.isDirectory() ? "a folder" : "something else"}`,
    });
  const descriptor = attempt("LPU5001", refused, () => openSync(path, "r"));
  const read = (offset: number, length: number, into?: Uint8Array): Uint8Array => {
    // All of it is filled below or the read fails, so it need not be zeros first.
    const bytes = into?.subarray(0, length) ?? new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
    for (let done = 0; done < length; ) {
      const count = attempt("LPU5001", refused, () => readSync(descriptor, bytes, done, length - done, offset + done));
      if (count === 0)
        fail("LPU5001", {
          message: `${what} '${path}': expected ${offset + length} bytes, found ${offset + done}`,
          hint: "the file changed while it was read",
        });
      done += count;
    }
    return bytes;
  };
  return { path, size: status.size, read, close: () => closeSync(descriptor) };
}

export function readWhole(path: string, what: string): Uint8Array {
  const file = openFile(path, what);
  try {
    return file.read(0, file.size);
  } finally {
    file.close();
  }
}

export function readText(path: string, what: string): string {
  const bytes = readWhole(path, what);
  if (bytes.length > MAX_TEXT)
    fail("LPU5001", {
      message: `${what} '${path}': expected at most ${MAX_TEXT} bytes of text, found ${bytes.length}`,
    });
  return new TextDecoder().decode(bytes);
}
/** What a string can hold. */
const MAX_TEXT = 2 ** 29 - 24;

export function* chunksOf(file: OpenFile): Generator<Uint8Array> {
  for (let offset = 0; offset < file.size; offset += CHUNK)
    yield file.read(offset, Math.min(CHUNK, file.size - offset));
}

export function hashOf(chunks: Iterable<Uint8Array>): string {
  const hash = createHash("sha256");
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest("hex");
}

/** The path of a result. LPU5003 if it is that of something that is read for it. */
export function apartFrom(output: string, inputs: readonly (string | undefined)[]): string {
  const read = inputs.find((input) => input !== undefined && sameFile(input, output));
  if (read === undefined) return output;
  return fail("LPU5003", {
    message: `'${output}' is another file of the same command`,
    hint: "choose another name for the result",
  });
}

const sameFile = (one: string, other: string): boolean =>
  resolve(one) === resolve(other) ||
  (existsSync(one) && existsSync(other) && realpathSync(one) === realpathSync(other));

export interface Written {
  readonly bytes: number;
  readonly sha256: string;
}

/** Files that this process was writing in a folder, which may not be there yet, when it was interrupted. Its threads share its id. */
export function removeUnfinished(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    if (name.startsWith(".") && name.includes(`.${process.pid}-`) && name.endsWith(".tmp"))
      rmSync(join(folder, name), { force: true });
  }
}

export function writeAtomically(path: string, chunks: Iterable<Uint8Array>): Written {
  return viaTemporary(path, (temporary) => {
    const descriptor = openSync(temporary, "wx");
    try {
      return writeChunks(descriptor, chunks);
    } finally {
      closeSync(descriptor);
    }
  });
}

/** Shares the blocks of the original where the file system can. */
export function copyAtomically(from: string, to: string): void {
  viaTemporary(to, (temporary) => copyFileSync(from, temporary, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL));
}

const TEXT_CHUNK = 1 << 18;

/** Lines as bytes, a few thousand at a time. */
export function* textChunks(lines: Iterable<string>): Generator<Uint8Array> {
  const encoder = new TextEncoder();
  let text = "";
  for (const line of lines) {
    text += `${line}\n`;
    if (text.length < TEXT_CHUNK) continue;
    yield encoder.encode(text);
    text = "";
  }
  yield encoder.encode(text);
}

/** LPU5008 where the files that a model has weights in would not lie beside a copy of it. */
export function expectBeside({ source, used }: OpenModel, file: string): void {
  for (const { proto } of readModel(source).graph.initializers)
    for (const { key, value } of proto.externalData) if (key === "location") source.external?.size(value);
  for (const [location, { path }] of used)
    if (realPath(resolve(dirname(file), location)) !== path)
      fail("LPU5008", {
        message: `'${file}': expected '${location}' beside it, in which the model has weights`,
        hint: "write it into the model's folder",
      });
}

/** Where an image goes when nobody says where: beside the model. */
export const imageBeside = (modelPath: string): string => fileBeside(modelPath, ".lpu");

/** The path with another extension. */
export const fileBeside = (path: string, extension: string): string =>
  `${path.slice(0, path.length - extname(path).length)}${extension}`;

/** Makes a folder and those above it. */
export function makeFolder(path: string): void {
  attempt("LPU5003", `folder '${path}' cannot be made`, () => makeFolders(resolve(path)));
}

/** One after another: Node's `recursive` never ends where a folder that is there says that it is not, as those of /proc do. */
function makeFolders(path: string): void {
  if (isFolder(path)) return;
  makeFolders(dirname(path));
  try {
    mkdirSync(path);
  } catch (error) {
    if (!isFolder(path)) throw error;
  }
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;

/** A tensor from a .npy array or a TensorProto in a .pb file, narrowed to what the machine keeps it in. */
export const readTensorFile = (path: string): Tensor => narrowTensor(readWideFile(path));

/** The same, where integers beyond 32 bits may be of use. */
export function readWideFile(path: string): Tensor | WideTensor {
  const extension = extname(path).toLowerCase();
  if (extension === ".npy") return wideFromFile(decodeNpy(readWhole(path, "tensor"), path), `'${path}'`);
  if (extension === ".pb") return readProto(path, decodeWide).tensor;
  return fail("LPU5002", { message: `'${path}': expected a file that ends in .npy or .pb` });
}

export const readTensorProto = (path: string): NamedTensor => readProto(path, decodeTensorProto);
export const readWideProto = (path: string): NamedTensor<Tensor | WideTensor> => readProto(path, decodeWide);

/** What the frontend says about bad bytes does not know the file, so it is said here. */
function readProto<T>(path: string, decode: (bytes: Uint8Array) => T): T {
  try {
    return decode(readWhole(path, "tensor"));
  } catch (error) {
    if (!(error instanceof CompileError) || error.code === "LPU5001") throw error;
    const { message, ...details } = error.details;
    return fail(error.code, { ...details, message: `'${path}': ${message}` });
  }
}

/** Names of tensors are not names of files: anything unusual becomes `_`, and equal names get a number. */
export function fileNames(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    const plain =
      name
        .replace(/[^\w.-]+/g, "_")
        .replace(/^\.+/, "_")
        .slice(0, 100) || "output";
    let file = `${plain}.npy`;
    for (let number = 2; taken.has(file.toLowerCase()); number++) file = `${plain}-${number}.npy`;
    taken.add(file.toLowerCase());
    return file;
  });
}

/** Tensors in files that appear when all of them are written whole, and not at all if one cannot be. */
export function writeTensorFiles(
  files: readonly { readonly path: string; readonly tensor: Tensor; readonly dtype: EdgeDType }[],
): void {
  const unfinished = new Set(files.map(({ path }) => temporaryOf(path)));
  const refused = (path: string, action: () => void): void => attempt("LPU5003", `'${path}' cannot be written`, action);
  try {
    for (const { path, tensor, dtype } of files)
      refused(path, () => writeFileSync(temporaryOf(path), encodeNpy(fileFromTensor(tensor, dtype)), { flag: "wx" }));
    for (const { path } of files) {
      refused(path, () => renameSync(temporaryOf(path), path));
      unfinished.add(path);
    }
    unfinished.clear();
  } finally {
    for (const path of unfinished) rmSync(path, { force: true });
  }
}

export function writeTensorFile(path: string, tensor: Tensor, declared: EdgeDType): void {
  writeAtomically(path, [encodeNpy(fileFromTensor(tensor, declared))]);
}

/** Runs something that asks the system; its refusal becomes an error with this code. */
export function attempt<Result>(code: "LPU5001" | "LPU5003", message: string, action: () => Result): Result {
  try {
    return action();
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return fail(code, { message: `${message}: ${SYSTEM_ERRORS[error.code] ?? error.code}` });
  }
}

/** Told by its fields, because the system's errors may be of another realm than this module. */
export const isSystemError = (error: unknown): error is { readonly code: string; readonly syscall: string } =>
  typeof error === "object" &&
  error !== null &&
  "code" in error &&
  typeof error.code === "string" &&
  "syscall" in error;

const SYSTEM_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: "no such file or folder",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EISDIR: "it is a folder",
  ENOTDIR: "part of the path is not a folder",
  EEXIST: "it exists already",
  ENOSPC: "the disk is full",
  EROFS: "the file system is read-only",
  EMFILE: "too many open files",
  ENAMETOOLONG: "the name is too long",
  ELOOP: "too many symbolic links",
};

const temporaryOf = (path: string): string => join(dirname(path), `.${basename(path)}.${process.pid}-${threadId}.tmp`);

function viaTemporary<Result>(path: string, write: (temporary: string) => Result): Result {
  const temporary = temporaryOf(path);
  try {
    return attempt("LPU5003", `'${path}' cannot be written`, () => {
      const result = write(temporary);
      renameSync(temporary, path);
      return result;
    });
  } finally {
    rmSync(temporary, { force: true });
  }
}

function writeChunks(descriptor: number, chunks: Iterable<Uint8Array>): Written {
  const hash: Hash = createHash("sha256");
  let bytes = 0;
  for (const chunk of chunks) {
    for (let done = 0; done < chunk.length; ) done += writeSync(descriptor, chunk, done, chunk.length - done);
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** Files beside the model. A missing one has no size; what to say about it, and about the path itself, is the frontend's. */
function externalFiles(modelPath: string, used: Map<string, OpenFile>): ExternalFiles {
  const open = (location: string): OpenFile | undefined => {
    const known = used.get(location);
    if (known !== undefined) return known;
    const path = resolve(dirname(modelPath), location);
    if (isAbsolute(location) || !isInside(dirname(resolve(modelPath)), path)) refuse(location);
    const real = realPath(path);
    if (real === undefined) return undefined;
    // Model stores keep links in one folder to files in another: the model's real folder is its own as well.
    if (!homesOf(modelPath).some((home) => isInside(home, real))) refuse(location);
    const file = openFile(real, "external data");
    used.set(location, file);
    return file;
  };
  return {
    size: (location) => open(location)?.size,
    read: (location, offset, length, into) => {
      const file = open(location);
      if (file === undefined)
        return fail("LPU5001", { message: `external data '${location}' cannot be read: no such file` });
      return file.read(offset, length, into);
    },
  };
}

const refuse = (location: string): never =>
  fail("LPU1006", {
    message: `external data '${location}' is not in the model's folder`,
    hint: "keep external data beside the model, named by a relative path",
  });

const homesOf = (modelPath: string): readonly string[] => [
  realpathSync(dirname(resolve(modelPath))),
  dirname(realpathSync(modelPath)),
];

function isInside(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== "" && way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

function realPath(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

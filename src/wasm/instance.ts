/** Functions that are assembled and loaded at once, with a memory of their own, for one thread. */

import { wasm } from "./api.js";
import { assembleModule, type NamedFunction } from "./emitter.js";

export type Kernel = (argument: number) => void;

export interface Instance {
  /** All of its memory. */
  readonly buffer: ArrayBufferLike;
  /** The functions by their names. */
  readonly kernels: Readonly<Record<string, Kernel>>;
}

/** Functions with so many pages of memory; undefined where the host does not know what they use. */
export const instanceOf = (functions: readonly NamedFunction[], pages: number): Instance | undefined => {
  const bytes = assembleModule(functions);
  if (!wasm.validate(bytes)) return undefined;
  const memory = new wasm.Memory({ initial: pages, maximum: pages, shared: false });
  const { exports } = new wasm.Instance(new wasm.Module(bytes), { env: { memory } });
  // Boundary: what the module exports is what was just emitted, functions (i32) -> ().
  return { buffer: memory.buffer, kernels: exports as Readonly<Record<string, Kernel>> };
};

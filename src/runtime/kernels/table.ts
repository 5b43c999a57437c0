/**
 * What a kernel is: named int32 arguments, a plain TypeScript reference that is its definition, and, where speed matters, an
 * emitter of the same thing in WebAssembly SIMD.
 *
 * A call is a block of int32 words in machine memory, so every kernel, of either kind, is a function of one pointer and the
 * machine's loop is the same for all. Addresses are bytes; strides are bytes between vectors. The two implementations write
 * the same bytes, except that neither promises the payload of a NaN before it is made canonical.
 */

import { wasm, type WasmMemory } from "../../wasm/api.js";
import type { FunctionBody, Local } from "../../wasm/emitter.js";

/** Views of one WebAssembly memory. Rebuilt never: the memory does not grow. */
export interface MachineMemory {
  readonly wasm: WasmMemory;
  readonly u8: Uint8Array;
  readonly i8: Int8Array;
  readonly u16: Uint16Array;
  readonly i16: Int16Array;
  readonly i32: Int32Array;
  readonly f32: Float32Array;
  readonly f64: Float64Array;
}

/** What emitted code depends on beside its arguments. */
export interface EmitOptions {
  /** Relaxed SIMD is there: fused multiply-add. */
  readonly fma: boolean;
  /** K of one fp16 pass. */
  readonly halfLanes: number;
}

export interface KernelRow {
  readonly arguments: readonly string[];
  readonly reference: (memory: MachineMemory, values: Readonly<Record<string, number>>, options: EmitOptions) => void;
  readonly emit:
    | ((body: FunctionBody, locals: Readonly<Record<string, Local>>, options: EmitOptions) => void)
    | undefined;
  readonly doc: string;
}

interface TypedRow<Name extends string> {
  readonly reference: (memory: MachineMemory, values: Readonly<Record<Name, number>>, options: EmitOptions) => void;
  readonly emit?: (body: FunctionBody, locals: Readonly<Record<Name, Local>>, options: EmitOptions) => void;
  readonly doc: string;
}

/** A row whose implementations know its arguments by name. */
export function kernel<const Name extends string>(names: readonly Name[], row: TypedRow<Name>): KernelRow {
  return { arguments: names, reference: row.reference, emit: row.emit, doc: row.doc };
}

/** `shared`: other threads may have views of it too. */
export function createMemory(bytes: number, shared = false): MachineMemory {
  const pages = Math.ceil(bytes / 65536);
  return memoryOf(new wasm.Memory({ initial: pages, maximum: pages, shared }));
}

export function memoryOf(memory: WasmMemory): MachineMemory {
  const { buffer } = memory;
  return {
    wasm: memory,
    u8: new Uint8Array(buffer),
    i8: new Int8Array(buffer),
    u16: new Uint16Array(buffer),
    i16: new Int16Array(buffer),
    i32: new Int32Array(buffer),
    f32: new Float32Array(buffer),
    f64: new Float64Array(buffer),
  };
}

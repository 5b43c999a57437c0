/**
 * All kernels, and how they become functions of one pointer over a machine memory.
 *
 * `compileKernels` makes the emitted module, which all threads of a machine share; `bindKernels` binds it to a memory and takes
 * the reference for every kernel that has no emitter, or for all where SIMD is missing or unwanted. Fused multiply-add (relaxed
 * SIMD) is used where a probe validates, after asking the engine for it; it changes no bits, because products of fp16 values
 * are exact in float64.
 */

import { setFlagsFromString } from "node:v8";
import type { EmitOptions, KernelRow, MachineMemory } from "./table.js";
import { ALU_KERNELS } from "./alu.js";
import { DIRECT_KERNELS } from "./direct.js";
import { MATRIX_KERNELS } from "./matrix.js";
import { STREAM_KERNELS } from "./stream.js";
import { wasm, type WasmModule } from "../../wasm/api.js";
import { assembleModule, FunctionBody } from "../../wasm/emitter.js";

export const KERNELS: Readonly<Record<string, KernelRow>> = {
  ...MATRIX_KERNELS,
  ...DIRECT_KERNELS,
  ...STREAM_KERNELS,
  ...ALU_KERNELS,
};
export const KERNEL_NAMES: readonly string[] = Object.keys(KERNELS);

/** A kernel over one memory: its arguments are int32 words at the pointer. */
export type BoundKernel = (pointer: number) => void;

/** What the kernels run on. `fma`: SIMD with fused multiply-add; `plain`: the references. */
export const ENGINES = ["fma", "simd", "plain"] as const;
export type Engine = (typeof ENGINES)[number];

/** The fastest engine that this host has. */
export function bestEngine(): Engine {
  if (!wasm.validate(probe(false))) return "plain";
  if (wasm.validate(probe(true))) return "fma";
  setFlagsFromString("--experimental-wasm-relaxed-simd");
  return wasm.validate(probe(true)) ? "fma" : "simd";
}

function probe(fma: boolean): Uint8Array<ArrayBuffer> {
  const body = new FunctionBody();
  const value = body.local("v128");
  body.get(value).get(value);
  if (fma) body.get(value).op("f64x2.relaxed_madd");
  else body.op("f64x2.mul");
  body.set(value);
  return assembleModule([{ name: "probe", body }]);
}

/** All kernels, before they have a memory. */
export interface KernelCode {
  readonly options: EmitOptions;
  /** Of those that have an emitter; undefined where none is wanted. */
  readonly module: WasmModule | undefined;
}

const EMITTED = Object.entries(KERNELS).filter(([, { emit }]) => emit !== undefined);

/** `shared`: of memories that threads share. */
export function compileKernels(engine: Engine, halfLanes: number, shared = false): KernelCode {
  const options: EmitOptions = { fma: engine === "fma", halfLanes };
  return { options, module: engine === "plain" || halfLanes % 8 !== 0 ? undefined : compileModule(options, shared) };
}

function compileModule(options: EmitOptions, shared: boolean): WasmModule {
  const functions = EMITTED.map(([name, row]) => {
    const body = new FunctionBody();
    const locals: Record<string, number> = {};
    row.arguments.forEach((argument, index) => {
      const local = body.local("i32");
      locals[argument] = local;
      body
        .get(0)
        .memory("i32.load", index * 4)
        .set(local);
    });
    row.emit?.(body, locals, options);
    return { name, body };
  });
  return new wasm.Module(assembleModule(functions, shared));
}

/** Functions in the order of KERNEL_NAMES. */
export function bindKernels(memory: MachineMemory, { options, module }: KernelCode): readonly BoundKernel[] {
  const exports = module === undefined ? {} : new wasm.Instance(module, { env: { memory: memory.wasm } }).exports;
  // Boundary: what the module exports is what was just emitted, functions (i32) -> ().
  const emitted = new Map(Object.entries(exports) as [string, BoundKernel][]);
  return KERNEL_NAMES.map((name) => emitted.get(name) ?? bindReference(KERNELS[name] as KernelRow, memory, options));
}

/** The reference as a function of a pointer; the record of arguments is made once. */
function bindReference(row: KernelRow, memory: MachineMemory, options: EmitOptions): BoundKernel {
  const values: Record<string, number> = Object.fromEntries(row.arguments.map((name) => [name, 0]));
  return (pointer) => {
    row.arguments.forEach((name, index) => {
      values[name] = memory.i32[pointer / 4 + index] as number;
    });
    row.reference(memory, values, options);
  };
}

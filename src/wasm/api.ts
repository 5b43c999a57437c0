/**
 * The part of the WebAssembly API that the machine uses, typed here because the project builds without the browser's library.
 */

export interface WasmMemory {
  readonly buffer: ArrayBufferLike;
}

/** Compiled code, which threads can share. */
export type WasmModule = object;

interface WasmApi {
  readonly Memory: new (limits: {
    readonly initial: number;
    readonly maximum: number;
    readonly shared: boolean;
  }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => WasmModule;
  readonly Instance: new (
    module: WasmModule,
    imports: { readonly env: { readonly memory: WasmMemory } },
  ) => { readonly exports: Readonly<Record<string, unknown>> };
  readonly validate: (bytes: Uint8Array<ArrayBuffer>) => boolean;
}

declare const WebAssembly: WasmApi;
export const wasm: WasmApi = WebAssembly;

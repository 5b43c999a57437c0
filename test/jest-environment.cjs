/**
 * jest's Node environment, with the host's own binary types.
 *
 * jest runs tests in a realm of its own, whose Float32Array is not the host's. ONNX Runtime's binding and shared memory
 * accept only the host's, so those globals are handed through.
 */
const { TestEnvironment } = require("jest-environment-node");

const HOST_TYPES = [
  "Float32Array",
  "Float64Array",
  "Int8Array",
  "Uint8Array",
  "Uint8ClampedArray",
  "Int16Array",
  "Uint16Array",
  "Int32Array",
  "Uint32Array",
  "BigInt64Array",
  "BigUint64Array",
  "ArrayBuffer",
  "SharedArrayBuffer",
  "DataView",
  "WebAssembly",
  "Atomics",
];

module.exports = class extends TestEnvironment {
  constructor(config, context) {
    super(config, context);
    for (const name of HOST_TYPES) this.global[name] = globalThis[name];
  }
};

/**
 * Tests run as ES modules on the compiled output: no transform, one environment of our own (see there why).
 */
// biome-ignore lint/style/noDefaultExport: jest reads its configuration from the default export.
export default {
  testEnvironment: "./test/jest-environment.cjs",
  testMatch: ["<rootDir>/dist/test/**/*.test.js"],
  transform: {},
  testTimeout: 180_000,
  // On two cores jest would use one.
  maxWorkers: "100%",
};

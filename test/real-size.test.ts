/**
 * An export of real size, as it is: weights and golden outputs are made from the fixtures' recipe, and the case is verified by
 * the command line. The others are measured by `npm run bench -- --only real-size`.
 */

import { execFile, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "@jest/globals";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const MATERIALIZE = join(ROOT, "..", "shared", "fixtures", "real-size", "materialize.mjs");
/** The smallest of those that hid something: an all-ones mask gave NaN, rows of padding do. */
const CASES = ["minilm-s128-pad"];

const present = existsSync(MATERIALIZE);
if (!present) console.log("skipped: fixtures not present");

const folder = mkdtempSync(join(tmpdir(), "lpu-real-size-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const verify = (name: string): Promise<string> =>
  new Promise((resolve) => {
    const argv = [join(ROOT, "dist", "bin", "lpu.js"), "verify", join(folder, name), "--json"];
    execFile(process.execPath, argv, { maxBuffer: 2 ** 28 }, (_, stdout) => resolve(stdout));
  });

(present ? test : test.skip).each(CASES)(
  "%s",
  async (name) => {
    const made = spawnSync(process.execPath, [MATERIALIZE, folder, name], { cwd: ROOT, encoding: "utf8" });
    expect({ status: made.status, stderr: made.stderr }).toEqual({ status: 0, stderr: "" });
    // boundary: the command line's documented JSON
    const { cases } = JSON.parse(await verify(name)) as { cases: { name: string; status: string; reason?: string }[] };
    expect(cases.map(({ name: of, status, reason }) => ({ of, status, reason }))).toEqual([
      { of: name, status: "passed", reason: expect.anything() },
    ]);
  },
  600_000,
);

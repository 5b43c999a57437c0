/**
 * `npm run fuzz -- --minutes 5 [--seed 1] [--kind model]`: mutates models, images and listings and makes random graphs, for as long
 * as it is told to. Whatever ends otherwise than in success or a coded error (a raw exception, a broken invariant, a crash, more
 * than 20 seconds) is saved as a folder that makes it happen again, and reported once however often it occurs.
 *
 * Cases run in a child process, because a hang or a crash is among the things that are looked for. A case is its kind and
 * its number: `--case N --kind K` runs one here, `--case N --kind K --files DIR` with files that were changed by hand.
 */

import { type ChildProcess, fork } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { FUZZ_KINDS, type Files, type FuzzKindName, type Outcome, runCase } from "./fuzz-kinds.js";

const LIMIT_SECONDS = 20;
const HEAP_MEGABYTES = 2048;

const { values: options } = parseArgs({
  options: {
    minutes: { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
    kind: { type: "string", multiple: true },
    case: { type: "string" },
    files: { type: "string" },
    out: { type: "string", default: ".cache/fuzz" },
    child: { type: "boolean", default: false },
  },
});

const isKind = (name: string): name is FuzzKindName => name in FUZZ_KINDS;
const kinds = (options.kind ?? Object.keys(FUZZ_KINDS)).filter(isKind);

interface Case {
  readonly kind: FuzzKindName;
  readonly seed: number;
}

/** What the child is asked for: to run a case, or to write smaller files that fail like it. */
interface Request extends Case {
  readonly shrink: boolean;
}

const folderOf = ({ kind, seed }: Case): string => join(options.out, `${kind}-${seed}`);

/** In the child: cases in, outcomes out. */
function serve(): void {
  process.on("message", ({ kind, seed, shrink }: Request) => {
    if (!shrink) return process.send?.(runCase(kind, seed));
    for (const [name, bytes] of Object.entries(FUZZ_KINDS[kind].shrink?.(seed) ?? {}))
      writeFileSync(join(folderOf({ kind, seed }), name), bytes);
    return process.send?.({ finding: false, text: "shrunk" });
  });
}

function runOne(seed: number): void {
  for (const kind of kinds) {
    const { finding, text } = runCase(kind, seed, options.files === undefined ? undefined : readFiles(options.files));
    console.log(`${kind} ${seed}: ${finding ? "FINDING " : ""}${text}`);
    if (finding) process.exitCode = 1;
  }
}

const readFiles = (folder: string): Files =>
  Object.fromEntries(readdirSync(folder).map((name) => [name, new Uint8Array(readFileSync(join(folder, name)))]));

async function fuzz(): Promise<void> {
  const end = Date.now() + Number(options.minutes) * 60_000;
  const findings = new Map<string, { readonly first: string; count: number }>();
  const outcomes = new Map<string, number>();
  let child = startChild();
  let cases = 0;
  for (let seed = Number(options.seed); Date.now() < end; seed++) {
    for (const kind of kinds) {
      const outcome = await ask(child, { kind, seed, shrink: false });
      cases++;
      if (isGone(child)) child = startChild();
      if (!outcome.finding) {
        const word = `${kind}: ${outcome.text.replace(/:.*/s, "")}`;
        outcomes.set(word, (outcomes.get(word) ?? 0) + 1);
        continue;
      }
      const key = `${kind}: ${signature(outcome.text)}`;
      const known = findings.get(key);
      if (known !== undefined) {
        known.count++;
        continue;
      }
      findings.set(key, { first: save({ kind, seed }, outcome.text), count: 1 });
      await ask(child, { kind, seed, shrink: true });
      if (isGone(child)) child = startChild();
    }
  }
  child.kill("SIGKILL");
  for (const [word, count] of [...outcomes].sort()) console.log(`${String(count).padStart(8)}  ${word}`);
  for (const [key, { first, count }] of findings) console.log(`FINDING x${count}  ${key}\n  ${first}`);
  console.log(`${cases} cases, ${findings.size} findings`);
  process.exitCode = findings.size === 0 ? 0 : 1;
}

const startChild = (): ChildProcess =>
  fork(fileURLToPath(import.meta.url), ["--child", "--out", options.out], {
    execArgv: [`--max-old-space-size=${HEAP_MEGABYTES}`, "--stack-trace-limit=30"],
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });

const isGone = (child: ChildProcess): boolean =>
  child.exitCode !== null || child.signalCode !== null || !child.connected;

/** An outcome, or the finding that there is none: the child is then gone. */
function ask(child: ChildProcess, given: Request): Promise<Outcome> {
  return new Promise((resolve) => {
    const finish = (outcome: Outcome): void => {
      clearTimeout(timer);
      child.removeAllListeners();
      resolve(outcome);
    };
    const timer = setTimeout(() => {
      child.kill("SIGKILL");
      child.once("exit", () => finish({ finding: true, text: `no end after ${LIMIT_SECONDS} seconds` }));
    }, LIMIT_SECONDS * 1000);
    child.once("message", (outcome: Outcome) => finish(outcome));
    child.once("exit", (code, signal) => {
      if (signal !== "SIGKILL") finish({ finding: true, text: `the process died (${signal ?? code})` });
    });
    child.send(given);
  });
}

/** What makes two findings the same: the message without its numbers and names, and where it was raised. */
function signature(trace: string): string {
  const [message = ""] = trace.split("\n", 1);
  const frames = trace
    .split("\n")
    .filter((line) => /dist\/(src|bin)\//.test(line) && !/diagnostics|fault\.js/.test(line));
  const place = frames.slice(0, 1).map((line) => line.trim().replace(/\(?file:.*\/dist\/(.*?):\d+\)?$/, "$1"));
  return [
    message
      .replace(/'[^']*'|"[^"]*"|\[.*\]/g, "_")
      .replace(/-?\d+(\.\d+)?(e[+-]?\d+)?/g, "N")
      .slice(0, 160),
    ...place,
  ].join(" | ");
}

/** Writes the files of a case and what came of it; returns the folder. */
function save({ kind, seed }: Case, trace: string): string {
  const folder = folderOf({ kind, seed });
  mkdirSync(join(folder, "files"), { recursive: true });
  for (const [name, bytes] of Object.entries(FUZZ_KINDS[kind].make(seed)))
    writeFileSync(join(folder, "files", name), bytes);
  const again = `npm run fuzz -- --kind ${kind} --case ${seed}`;
  writeFileSync(join(folder, "README.txt"), `${again}\n${again} --files ${join(folder, "files")}\n\n${trace}\n`);
  return folder;
}

// Last, because what it calls must be there.
if (options.child) serve();
else if (options.case !== undefined) runOne(Number(options.case));
else await fuzz();

/**
 * The page of a report in a real browser: it shows the figures of the JSON, asks for nothing, and does what a person asks of it.
 *
 * Needs Chromium (Debian's package; `.ci/run` installs it); without one the tests are skipped, and say so.
 */

import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type Browser, chromium, type Page } from "playwright-core";
import { printInstruction } from "../src/codegen/listing/print.js";
import { textChunks, writeAtomically } from "../src/host/files.js";
import { chosenEntry, queueName } from "../src/ir/program.js";
import type { Activity } from "../src/report/activity.js";
import { type Analysis, analysisOf } from "../src/report/analysis.js";
import type { Overview } from "../src/report/overview.js";
import { pageData } from "../src/report/page/data.js";
import { htmlLines } from "../src/report/page/html.js";
import { readFragment } from "../src/report/page/view.js";
import { formatCount, formatShare } from "../src/report/units.js";
import { compileSmall } from "./compiled.js";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
if (CHROMIUM === undefined) console.log("skipped: no Chromium on this machine");

/** Nothing but the page: no sandbox for root, and none of the browser's own traffic. */
const ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"];

(CHROMIUM === undefined ? describe.skip : describe)("the page in Chromium", () => {
  const folder = mkdtempSync(join(tmpdir(), "lpu-page-"));
  const file = join(folder, "bert.html");
  const complaints: string[] = [];
  const requests: string[] = [];
  let browser: Browser;
  let page: Page;
  let analysis: Analysis;
  let activity: Activity;
  let overview: Overview;

  beforeAll(async () => {
    analysis = analysisOf(chosenEntry(compileSmall("bert", "lpu-v1").program));
    ({ activity, overview } = analysis);
    writeAtomically(file, textChunks(htmlLines(pageData(analysis, undefined, printInstruction))));
    browser = await chromium.launch({ executablePath: CHROMIUM as string, args: ARGUMENTS });
    page = await browser.newPage({ viewport: { width: 1600, height: 1700 } });
    page.on("console", (message) => complaints.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(pathToFileURL(file).href);
  });

  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const fragment = async (): Promise<Readonly<Record<string, string>>> => {
    await page.waitForTimeout(250);
    return readFragment(new URL(page.url()).hash);
  };

  test("shows the figures of the overview", async () => {
    const cells = (selector: string): Promise<string[][]> =>
      page.$$eval(selector, (rows) =>
        rows.map((row) => Array.from(row.children, (cell) => (cell as HTMLElement).innerText.trim())),
      );
    const bounds = await cells("aside table:not([id]) tr");
    expect(bounds.slice(0, overview.bounds.length).map((row) => row.slice(0, 3))).toEqual(
      overview.bounds.map(({ name, cycles, share }) => [name, formatCount(cycles), formatShare(share)]),
    );
    const layers = await cells("#layers tbody tr");
    expect(layers.map((row) => row.slice(0, 2))).toEqual(
      overview.layers.map(({ name, cycles }) => [name, formatCount(cycles)]),
    );
    expect(await page.innerText("header")).toContain(`${formatCount(overview.cycles)} (`);
  });

  test("a click on a burst names its instruction, its node and its partners", async () => {
    const { bursts, program, cycles } = activity;
    const burst = bursts.instructions.findIndex(({ op }) => op === "acc");
    const name = queueName(program.target, bursts.queue[burst] as number);
    const box = await page.locator("#time").boundingBox();
    if (box === null) throw new Error("no timeline");
    const middle = ((bursts.cycle[burst] as number) + (bursts.last[burst] as number)) / 2;
    const x = box.x + 116 + (middle / cycles) * (box.width - 116);
    let tip = "";
    for (let y = box.y + 40; y < box.y + box.height && !tip.startsWith(name); y += 9) {
      await page.mouse.move(x, y);
      tip = await page.locator("#tip").innerText();
      if (tip.startsWith(name)) await page.mouse.click(x, y);
    }
    const detail = await page.innerText("#detail");
    expect(detail).toContain(program.origins[bursts.origin[burst] as number]);
    expect(detail).toContain(`cycles ${formatCount(bursts.cycle[burst] as number)} to`);
    expect(detail).toMatch(/Takes from \([1-9]/);
    const marked = await page.locator('#layers tr[aria-selected="true"]').allInnerTexts();
    expect(marked).toHaveLength(1);
    expect(detail).toContain(marked[0]?.split("\t")[0]?.trim());
    expect((await fragment())["burst"]).toBe(String(burst));
  });

  test("the plot of SRAM says what lies there", async () => {
    const { grid } = analysis.power;
    const { born, until, owner } = activity.memory.lives;
    const bin = Math.floor(activity.cycles / 2 / grid);
    const rows = new Map<string, number>();
    for (let live = 0; live < born.length; live++) {
      if ((born[live] as number) > bin * grid || (until[live] as number) <= bin * grid) continue;
      const node = activity.program.origins[activity.bursts.origin[owner[live] as number] as number] ?? "from the host";
      rows.set(node, (rows.get(node) ?? 0) + 1);
    }
    const box = await page.locator("#time").boundingBox();
    if (box === null) throw new Error("no timeline");
    await page.mouse.move(
      box.x + 116 + (((bin + 0.5) * grid) / activity.cycles) * (box.width - 116),
      box.y + box.height - 20,
    );
    const said = (await page.innerText("#tip")).split("\n");
    expect(said[0]).toBe(`in SRAM at cycle ${formatCount(bin * grid)}, beside constants:`);
    const kibibytes = (vectors: number): string =>
      formatCount(Math.round((vectors * activity.program.target.lanes) / 1024));
    expect(said.slice(1).sort()).toEqual(
      [...rows]
        .map(([node, vectors]) => `${kibibytes(vectors)} KiB ${node}`)
        .sort()
        .slice(0, 8),
    );
  });

  test("the wheel zooms in, search finds a layer, and Enter shows it", async () => {
    const box = await page.locator("#time").boundingBox();
    if (box === null) throw new Error("no timeline");
    await page.mouse.move(box.x + box.width / 2, box.y + 100);
    await page.mouse.wheel(0, -400);
    const zoomed = await fragment();
    expect(Number(zoomed["to"]) - Number(zoomed["from"])).toBeLessThan(activity.cycles);
    await page.fill("#search", "layer.1/");
    const wanted = activity.program.origins.filter((name) => name.includes("layer.1/")).length;
    expect(await page.innerText("#hits")).toBe(`${wanted} nodes`);
    await page.press("#search", "Enter");
    const own = Array.from(activity.bursts.cycle).filter((_, burst) =>
      (activity.program.origins[activity.bursts.origin[burst] as number] ?? "").includes("layer.1/"),
    );
    const shown = await fragment();
    expect(Number(shown["from"])).toBeLessThan(Math.min(...own));
    expect(shown["q"]).toBe("layer.1/");
  });

  test("an address brings back what it kept", async () => {
    const kept = await fragment();
    const other = await browser.newPage({ viewport: { width: 1600, height: 1700 } });
    await other.goto(page.url());
    expect(await other.inputValue("#search")).toBe(kept["q"]);
    expect(await other.innerText("#detail")).toBe(await page.innerText("#detail"));
    await other.close();
  });

  test.each([
    [1600, 1700],
    [820, 1180],
  ])("at %d x %d nothing is cut off", async (width, height) => {
    await page.setViewportSize({ width, height });
    await page.waitForFunction(() => {
      const canvas = document.getElementById("time");
      return canvas?.clientWidth === canvas?.parentElement?.clientWidth;
    });
    const wide = await page.evaluate(() =>
      Array.from(document.querySelectorAll("body, main, section, aside"), (box) => box.scrollWidth - box.clientWidth),
    );
    expect(Math.max(...wide)).toBeLessThanOrEqual(0);
    const picture = await page.screenshot({ fullPage: true });
    expect(picture.readUInt32BE(16)).toBe(width);
  });

  test("the timeline is drawn in many colours", async () => {
    const colours = await page.evaluate(() => {
      const canvas = document.getElementById("time") as HTMLCanvasElement;
      const { data } = (canvas.getContext("2d") as CanvasRenderingContext2D).getImageData(
        0,
        0,
        canvas.width,
        canvas.height,
      );
      return new Set(new Uint32Array(data.buffer)).size;
    });
    expect(colours).toBeGreaterThan(20);
  });

  test("nothing was asked of any network, and nothing complained", () => {
    expect(new Set(requests)).toEqual(new Set([pathToFileURL(file).href]));
    expect(complaints).toEqual([]);
    expect(readFileSync(file, "utf8").length).toBeLessThan(15e6);
  });
});

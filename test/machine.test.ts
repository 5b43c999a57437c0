/** The linked machine: it does what the literal machine does, on every engine, on legal programs and on broken ones. */

import { describe, expect, test } from "@jest/globals";
import { CompileError, MachineFault } from "../src/diagnostics.js";
import { parseAssembly } from "../src/codegen/listing/assemble.js";
import { createMachine } from "../src/runtime/machine.js";
import { writeImage } from "../src/codegen/image/image.js";
import type { Tensor } from "../src/ir/graph.js";
import { tensorOf } from "../src/ir/tensor.js";
import { clearState, fetchOutput } from "../src/runtime/binding.js";
import { loadImage, loadProgram } from "../src/runtime/run.js";
import { chosenEntry, entryPrograms } from "../src/ir/program.js";
import { TARGETS, type Target } from "../src/ir/target.js";
import { bestEngine, type Engine, ENGINES } from "../src/runtime/kernels/kernels.js";
import { runLiteral } from "../src/runtime/literal/literal.js";
import { placeConstants, Sram } from "../src/runtime/sram.js";
import type { MachineProgram } from "../src/runtime/program.js";
import { getF32, getRow, machineOf, type ProgramOptions, programOf, setF16, setF32, setRow } from "./machine-text.js";
import { mutate, randomProgram } from "./random-program.js";

const { tiny } = TARGETS;
const { lanes } = tiny;
const engines = ENGINES.slice(ENGINES.indexOf(bestEngine()));
type Prepare = (sram: Sram) => void;
const nothing: Prepare = () => undefined;

/** How a run ended: the code of its fault, or a digest of cycles, counters and all SRAM that was written. */
interface Outcome {
  readonly fault: string;
  readonly cycle: number;
  readonly state: string;
  readonly sram: Sram | undefined;
}

function outcome(run: () => { cycles: readonly number[]; counters: readonly object[]; sram: Sram }): Outcome {
  try {
    const { cycles, counters, sram } = run();
    const rows: string[] = [];
    sram.written.forEach((written, row) => {
      if (written === 1)
        rows.push(
          `${row}:${Buffer.from(sram.bytes.subarray(row * sram.target.lanes, (row + 1) * sram.target.lanes)).toString("hex")}`,
        );
    });
    const counted = counters.map((counter) =>
      Object.entries(counter).map(([name, value]) => [
        name,
        typeof value === "object" ? Object.entries(value).sort() : value,
      ]),
    );
    return { fault: "none", cycle: 0, state: `${JSON.stringify({ cycles, counted })}\n${rows.join("\n")}`, sram };
  } catch (error) {
    if (error instanceof MachineFault) return { fault: error.code, cycle: error.cycle, state: "", sram: undefined };
    if (error instanceof CompileError) return { fault: error.code, cycle: 0, state: "", sram: undefined };
    throw error;
  }
}

function literally(program: MachineProgram, prepare: Prepare): Outcome {
  return outcome(() => {
    const sram = new Sram(program.target, program.chips.length);
    placeConstants(sram, program.chips);
    prepare(sram);
    return runLiteral(program, sram);
  });
}

function linked(program: MachineProgram, prepare: Prepare, engine: Engine, runs = 1): Outcome {
  return outcome(() => {
    const machine = machineOf(program, { engine, placeInputs: prepare });
    for (let run = 1; ; run++) {
      machine.reset();
      prepare(machine.sram);
      const result = machine.execute();
      if (run === runs) return { ...result, sram: machine.sram };
    }
  });
}

/** Both machines agree; what SRAM holds then. */
function agree(program: MachineProgram, prepare: Prepare = nothing, which: readonly Engine[] = engines): Sram {
  const literal = literally(program, prepare);
  for (const engine of which)
    expect(linked(program, prepare, engine)).toMatchObject({ fault: literal.fault, state: literal.state });
  expect(literal.fault).toBe("none");
  return literal.sram ?? new Sram(program.target, program.chips.length);
}

const agreeText = (lines: string, prepare: Prepare = nothing, options: ProgramOptions = {}): Sram =>
  agree(programOf(lines, options), prepare);

const random = (...of: Parameters<typeof randomProgram>): MachineProgram => chosenEntry(randomProgram(...of));

const ramp = (start: number, step = 1): number[] => Array.from({ length: lanes }, (_, lane) => start + step * lane);

describe("random programs", () => {
  const targets: readonly Target[] = [tiny, { ...tiny, timing: TARGETS["unit-latency"].timing }];
  for (const target of targets) {
    test(`both machines agree (vxmAlu ${target.timing.vxmAlu})`, () => {
      for (let seed = 1; seed <= 40; seed++)
        agree(random(seed, { target }), nothing, seed % 8 === 0 ? engines : [bestEngine()]);
    });
  }

  test("both machines agree on long ones", () => {
    for (let seed = 1; seed <= 4; seed++) agree(random(seed, { figures: 250, horizon: 1500 }));
  });

  test("both machines agree at full width", () => {
    agree(random(3, { target: TARGETS["lpu-v1"], figures: 40, horizon: 300 }));
  });

  test("changed programs end in the same fault", () => {
    for (let seed = 1; seed <= 150; seed++) {
      const program = chosenEntry(mutate(randomProgram(seed), seed));
      const [a, b] = [literally(program, nothing), linked(program, nothing, bestEngine())];
      expect({ seed, fault: b.fault, cycle: b.cycle, state: b.state }).toEqual({
        seed,
        fault: a.fault,
        cycle: a.cycle,
        state: a.state,
      });
    }
  });
});

describe("linking", () => {
  test("is a function of the program", () => {
    const first = machineOf(random(5)).linked;
    const second = machineOf(random(5)).linked;
    expect(first.kernels).toEqual(second.kernels);
    expect(first.words).toEqual(second.words);
    expect(first.pointers).toEqual(second.pointers);
  });

  test("a burst is one operation, however long", () => {
    const lines = (count: number): string =>
      `mem.w0 40 read 0 e0 x${count} +1\nvxm.0 46 unary neg e0 i8 e4 as=i8 x${count}\nmem.e0 50 write 0 e4 x${count} +1`;
    const operations = (count: number): number =>
      machineOf(programOf(lines(count)), { placeInputs: (sram) => sram.markWritten(0, "W", 0, 0, count) }).linked
        .operations;
    expect(operations(100)).toBe(operations(2));
  });

  test("runs of one machine are alike", () => {
    // Overwrites its own input, a constant row, and adds to accumulators.
    const program = random(12, { figures: 60, horizon: 500 });
    const once = linked(program, nothing, bestEngine());
    expect(linked(program, nothing, bestEngine(), 3)).toMatchObject({ fault: once.fault, state: once.state });
  });

  test("rows that are overwritten are put back before the next run", () => {
    const base = programOf("mem.w0 40 read 0 e0\nvxm.0 46 unary neg e0 i8 e4 w4 as=i8\nmem.w0 50 write 0 w4");
    const [chip] = base.chips;
    const constants = [{ hemisphere: "W", slice: 0, row: 0, rows: 1, bytes: () => Uint8Array.from(ramp(1)) }] as const;
    const program = { ...base, chips: [{ queues: chip?.queues ?? [], maps: [], constants }] };
    const once = linked(program, nothing, bestEngine());
    expect(getRow(once.sram ?? new Sram(tiny, 1), "w0:0")).toEqual(ramp(1).map((value) => -value & 255));
    expect(linked(program, nothing, bestEngine(), 2).state).toBe(once.state);
  });
});

describe("what blocks cannot do at once", () => {
  test("a burst that reads what it has written a moment ago", () => {
    // Row r + 1 becomes row r plus 1, through the VXM, seven times: read and write bursts of one slice feed each other.
    const trip = 1 + 1 + 4 + 3 + 1;
    const sram = agreeText(
      `mem.e0 40 read 0 w0 x7 /${trip + 2} +1
       vxm.0 46 binary addInt w0 u8 1 i32 e0 as=u8 x7 /${trip + 2}
       mem.e0 50 write 1 e0 x7 /${trip + 2} +1`,
      (sram) => setRow(sram, "e0:0", ramp(5)),
    );
    expect(getRow(sram, "e0:7")).toEqual(ramp(12));
  });

  test("a running sum in one ALU", () => {
    const sram = agreeText(
      `vxm.0 43 unary copy 0 f32 as=f32
       mem.w0 40 read 0 e0 x5 /3 +1
       vxm.0 46 binary add e0 u8 alu0@0 f32 e4 as=u8 x5 /3
       mem.e0 50 write 0 e4 x5 /3 +1`,
      (sram) => {
        for (let row = 0; row < 5; row++) setRow(sram, `w0:${row}`, ramp(row));
      },
    );
    expect(getRow(sram, "e0:4")).toEqual(ramp(10, 5));
  });

  test("a row that is overwritten before its reader's consumer has run", () => {
    // The value of row 0 is on its way to the far side when row 0 is written anew.
    const sram = agreeText(
      `mem.w12 40 read 0 e0
       mem.w13 41 read 0 e1
       mem.w12 42 write 0 e1
       mem.e12 49 write 5 e0`,
      (sram) => {
        setRow(sram, "w12:0", ramp(1));
        setRow(sram, "w13:0", ramp(100));
      },
    );
    expect(getRow(sram, "e12:5")).toEqual(ramp(1));
  });

  test("operands that come from several bursts", () => {
    const sram = agreeText(
      `mem.w0 40 read 0 e0 x3 /2 +1
       mem.w1 41 read 8 e0 x3 /2 +1
       vxm.0 46 unary neg e0 i8 e4 as=i8 x6
       mem.e0 50 write 0 e4 x6 +1`,
      (sram) => {
        for (let row = 0; row < 3; row++) {
          setRow(sram, `w0:${row}`, ramp(row));
          setRow(sram, `w1:${row + 8}`, ramp(50 + row));
        }
      },
    );
    expect(getRow(sram, "e0:3")).toEqual(ramp(51).map((value) => -value & 255));
  });
});

describe("products", () => {
  const half = lanes / 2;
  /** Loads `columns` columns of weights with a window of lanes, multiplies rows 0..3 and writes fp32 sums. */
  const program = (columns: number, first: number, kept: number): string =>
    `mem.e0 55 read 0 e0 x${columns} +1
     mem.e1 55 read 0 e1 x${columns} +1
     mxm.e0.weights 60 lw e0 low 1 3 ${first} ${kept} 0 x${columns}
     mxm.e0.weights ${61 + columns} iw
     mem.e4 ${61 + columns + 3 - 5} read 100 e8 x4 +1
     mem.e5 ${61 + columns + 3 - 5} read 100 e9 x4 +1
     mxm.e0.activations ${61 + columns + 3} abc e8 low x4
     mxm.e0.accumulate ${61 + columns + 16} acc 0 set w12 x4
     ${[0, 1, 2, 3].map((byte) => `mem.e${8 + byte} ${61 + columns + 16 + 34 + 5} write 0 w${12 + byte} x4 +1`).join("\n")}`;
  const weights: Prepare = (sram) => {
    for (let row = 0; row < 12; row++) setF16(sram, `e0:${row}`, ramp(row - 4, 0.25));
  };
  const sums = (sram: Sram, row: number): number[] => getF32(sram, `e8:${row}`);

  for (const [columns, first, kept] of [
    [1, 0, half],
    [4, 0, half],
    [9, 2, 3],
    [8, 3, 5],
    [5, 0, 1],
  ] as const) {
    test(`${columns} columns, lanes ${first} to ${first + kept - 1}`, () => {
      const sram = agreeText(program(columns, first, kept), (sram) => {
        weights(sram);
        for (let row = 0; row < 4; row++) setF16(sram, `e4:${100 + row}`, ramp(row, 0.5));
      });
      const [, , , fourth = 0] = sums(sram, 1);
      let expected = 0;
      for (let k = first; k < first + kept; k++) expected += (1 + 0.5 * k) * (-4 + 0.25 * k);
      expect(fourth).toBe(Math.fround(expected));
    });
  }

  test("infinities meet the zeros that were never loaded", () => {
    const sram = agreeText(program(4, 2, 3), (sram) => {
      weights(sram);
      for (let row = 0; row < 4; row++)
        setF16(
          sram,
          `e4:${100 + row}`,
          ramp(1).map((value, k) => (k === row * 2 ? Number.POSITIVE_INFINITY : value)),
        );
    });
    // Row 0 has its infinity at k = 0, outside of the window; row 1 at k = 2, within.
    expect(sums(sram, 0).every(Number.isNaN)).toBe(true);
    expect(sums(sram, 1)[0]).toBeNaN();
    expect(sums(sram, 1)[3]).toBe(Number.NEGATIVE_INFINITY);
  });
});

describe("what only a run can tell", () => {
  const gather = (ops: string): string => `mem.w4 40 read 1 e2\nmem.w5 40 read 1 e3\nmem.w0 42 ${ops}`;
  const address =
    (row: number): Prepare =>
    (sram) => {
      setRow(
        sram,
        "w4:1",
        ramp(0, 0).map(() => row & 255),
      );
      setRow(
        sram,
        "w5:1",
        ramp(0, 0).map(() => row >> 8),
      );
      setRow(sram, "w0:7", ramp(70));
      setRow(sram, "w8:0", ramp(9));
    };

  test("a gather reads the row that its map says", () => {
    expect(getRow(agreeText(`${gather("gather e1 e2")}\nmem.e0 46 write 0 e1`, address(7)), "e0:0")).toEqual(ramp(70));
  });

  for (const [row, fault] of [
    [8, "LPU4005"],
    [5000, "LPU4014"],
  ] as const) {
    test(`a gather of row ${row} is ${fault}`, () => {
      const program = programOf(gather("gather e1 e2"));
      const [a, b] = [literally(program, address(row)), linked(program, address(row), bestEngine())];
      expect([a.fault, b.fault]).toEqual([fault, fault]);
      expect(b.cycle).toBe(a.cycle);
    });
  }
});

describe("entries of one program", () => {
  // Both read row 0, a constant. The first overwrites it, and writes row 5.
  const LISTING = `.target tiny
    .constant mem.w0 row=0 rows=1 hex ${"07".repeat(lanes)}
    .entry "negate"
    mem.w0:
      40 read 0 e0
      41 read 0 e0
      50 write 0 w4
      51 write 5 w5
    vxm.0:
      46 unary neg e0 i8 e4 w4 as=i8
    vxm.1:
      47 unary neg e0 i8 w5 as=i8
    .entry "copy"
    mem.w0:
      40 read 0 e0
    mem.e0:
      43 write 9 e0`;
  const program = parseAssembly(LISTING);

  test("run on one SRAM, in any order, and give what each gives alone", () => {
    const { sram, programs } = createMachine(entryPrograms(program));
    const alone = entryPrograms(program).map((one) => literally(one, nothing));
    for (const index of [0, 1, 1, 0, 1]) {
      const loaded = programs[index];
      loaded?.reset();
      expect(loaded?.execute().cycles).toEqual(program.entries[index]?.cycles);
      expect(getRow(sram, index === 0 ? "w0:0" : "e0:9")).toEqual(ramp(index === 0 ? -7 & 255 : 7, 0));
      for (const row of index === 0 ? ["w0:0", "w0:5"] : ["w0:0", "e0:9"])
        expect(getRow(sram, row)).toEqual(getRow(alone[index]?.sram ?? new Sram(tiny, 1), row));
    }
  });

  test("do not see the rows that another has written", () => {
    const [negate, copy] = entryPrograms(
      parseAssembly(LISTING.replace("40 read 0 e0\n    mem.e0", "40 read 5 e0\n    mem.e0")),
    );
    expect(() => createMachine([negate, copy].flatMap((one) => one ?? []))).toThrow(
      /^LPU4005: .*row 5 was never written/,
    );
  });
});

describe("states", () => {
  // Two states of one byte vector: "count" grows by one a run of either entry, "last" is what the count was before.
  const place = (slice: number): string =>
    JSON.stringify([
      {
        ...{ dtype: "u8", factors: [{ dim: 0, divide: 1, extent: lanes, row: 0, column: 1 }] },
        ...{ rows: 1, columns: lanes, ways: 1 },
        panels: [{ planes: [{ chip: 0, hemisphere: "W", slice, row: 7 }] }],
      },
    ]);
  const body = `mem.w0:
      40 read 7 e0
      50 write 7 w4
    mem.w1:
      50 write 7 w8
    vxm.0:
      46 binary addInt e0 u8 1 i32 w4 as=u8
    vxm.1:
      46 binary addInt e0~ u8 0 i32 w8 as=u8`;
  const program = parseAssembly(`.target tiny
    .state "count" u8 [${lanes}] ${place(0)}
    .state "last" u8 [${lanes}] ${place(1)}
    .entry "step"
    .output "count then" u8 [${lanes}] ${place(0)}
    ${body}
    .entry "again"
    ${body}`);

  test("stay from run to run, of any entry, until they are reset or put back", () => {
    const model = loadImage(writeImage(program));
    const numbers = (): unknown => Object.values(model.snapshot()).map(({ data }) => [data[0], data[lanes - 1]]);
    expect(numbers()).toEqual([
      [0, 0],
      [0, 0],
    ]);
    const { outputs } = model.entry("step").run({});
    expect(outputs["count then"]?.data[3]).toBe(1);
    model.entry("again").run({});
    const kept = model.snapshot();
    expect(numbers()).toEqual([
      [2, 2],
      [1, 1],
    ]);
    model.entry("again").run({});
    expect(numbers()).toEqual([
      [3, 3],
      [2, 2],
    ]);
    model.restore(kept);
    model.entry("step").run({});
    expect(numbers()).toEqual([
      [3, 3],
      [2, 2],
    ]);
    model.reset();
    expect(numbers()).toEqual([
      [0, 0],
      [0, 0],
    ]);
  });

  test("that do not fit are refused before any is put back", () => {
    const model = loadProgram(program);
    const row = (value: number, length = lanes): Tensor => tensorOf("u8", [length], new Uint8Array(length).fill(value));
    expect(() => model.restore({ count: row(9), last: row(1, 3) })).toThrow(/^LPU4030/);
    expect(() => model.restore({ count: row(9), first: row(1) })).toThrow(/^LPU4031: expected a state/);
    expect(model.snapshot()["count"]?.data[0]).toBe(0);
  });

  test("are on the literal machine what they are on the linked one", () => {
    const sram = new Sram(tiny, 1);
    for (const state of program.states) clearState(state, sram);
    const model = loadProgram(program);
    for (const entry of ["step", "again", "again"]) {
      runLiteral(chosenEntry(program, entry), sram);
      model.entry(entry).run({});
      expect(program.states.map((state) => fetchOutput(state, sram))).toEqual(Object.values(model.snapshot()));
    }
  });
});

test("text that is fetched from constant rows runs", () => {
  const base = programOf("mem.w0 48 read 0 e0\nmem.w1 48 read 0 e1\nvxm.0 50 ifetch e0");
  const text = Uint8Array.of(2, 0, 0x05, 8 | (1 << 5));
  const row = (bytes: Uint8Array) => () => Uint8Array.from({ length: lanes }, (_, lane) => bytes[lane] ?? 0);
  const constants = [text, Uint8Array.of()].map((bytes, slice) => ({
    hemisphere: "W" as const,
    slice,
    row: 0,
    rows: 1,
    bytes: row(bytes),
  }));
  const [chip] = base.chips;
  const program = { ...base, chips: [{ queues: chip?.queues ?? [], maps: [], constants }] };
  agree(program);
  expect(machineOf(program).linked.counters[0]?.executions).toMatchObject({ ifetch: 1, config: 1 });
});

test("vectors cross from chip to chip", () => {
  const sram = agreeText(
    `0:mem.e0 40 read 0 e0 x3 /27 +1
     0:sxm.e0 45 send e0 0 x3 /27
     1:sxm.w3 300 receive 1 e0 x3 /27
     1:mem.w0 308 write 4 e0 x3 /27 +1`,
    (sram) => {
      for (let row = 0; row < 3; row++) setRow(sram, `0:e0:${row}`, ramp(row));
    },
    { chips: 2, links: [{ fromChip: 0, fromLink: 0, toChip: 1, toLink: 1 }] },
  );
  expect(getRow(sram, "1:w0:6")).toEqual(ramp(2));
});

test("conversions and chains of every kind agree", () => {
  const types = ["f16", "f32", "i32", "i16", "u16", "i8", "u8", "bool"] as const;
  const width = { f16: 2, f32: 4, i32: 4, i16: 2, u16: 2, i8: 1, u8: 1, bool: 1 } as const;
  for (const from of types) {
    for (const to of types) {
      const reads = Array.from({ length: width[from] }, (_, byte) => `mem.w${byte} 40 read 0 e${4 + byte} x4 +1`).join(
        "\n",
      );
      const writes = (slice: number, cycle: number, stream: number): string =>
        Array.from(
          { length: width[to] },
          (_, byte) => `mem.e${slice + byte} ${cycle} write 8 e${stream + byte} x4 +1`,
        ).join("\n");
      agreeText(
        `${reads}
         vxm.0 46 unary copy e4 ${from} e8 as=${to} x4
         vxm.1 49 binary addInt alu0@0 f32 1 i32 as=i32 x4
         vxm.2 53 unary neg alu1@1 f32 e16 as=${to} x4
         ${writes(0, 50, 8)}\n${writes(4, 58, 16)}`,
        (sram) => {
          for (let row = 0; row < 4; row++) {
            if (from === "f32") setF32(sram, `w0:${row}`, ramp(row * 1000 - 300.5, 97.25));
            else
              for (let byte = 0; byte < width[from]; byte++)
                setRow(
                  sram,
                  `w${byte}:${row}`,
                  ramp(row * 67 + byte * 31, 29).map((value) => value & 255),
                );
          }
        },
      );
    }
  }
});

/**
 * Targets: one frozen record of counts, depths, widths, positions and latencies for each machine, and nothing computed.
 *
 * Sources are marked as in the makers' material: P published, C quoted from the papers, U from users' programs (about one
 * cycle), D derived, A our own assumption where nothing is published. The one place where such a figure is written.
 *
 * Geometry: positions lie on a line, west negative. The VXM is at 0; slice s of a hemisphere at 1 + floor(s / slicesPerHop)
 * outward; SXM at `sxm`, MXM at `mxm`. Eastward streams add one to the position each cycle, westward ones subtract one.
 */

export interface Timings {
  /** Cycles from dispatch until the result is on the unit's stream register (d_func), or until it may be used. */
  readonly memRead: number;
  /** A row written by a Write dispatched at t may be read by a Read dispatched at t + memWrite or later. */
  readonly memWrite: number;
  /** Gather dispatch until the rows are on the stream register. */
  readonly memGather: number;
  /** A stream operand of an ALU is taken from the VXM's stream register this many cycles before the ALU's dispatch. */
  readonly vxmEntry: number;
  /** Dispatch of an ALU until its result can be chained, or stands on the VXM's stream register. */
  readonly vxmAlu: number;
  /** Dispatch of an SXM operation until its result is on the SXM's stream register; one for each kind. */
  readonly sxmShift: number;
  /** As sxmShift, of select. */
  readonly sxmSelect: number;
  /** As sxmShift, of permute. */
  readonly sxmPermute: number;
  /** As sxmShift, of distribute. */
  readonly sxmDistribute: number;
  /** As sxmShift, of rotate. */
  readonly sxmRotate: number;
  /** As sxmShift, of transpose. */
  readonly sxmTranspose: number;
  /** A stream operand of ABC (LW, IW) passes the MXM's stream register this many cycles after dispatch. */
  readonly mxmActivationSkew: number;
  /** As mxmActivationSkew, of LW and IW. */
  readonly mxmWeightSkew: number;
  /** Last LW dispatch until an IW of that buffer may be dispatched. */
  readonly mxmLoad: number;
  /** IW dispatch until activations (by ABC dispatch) meet the new weights; earlier ones still meet the old. */
  readonly mxmInstall: number;
  /** ABC dispatch until the product vector is at the accumulator, where an ACC must be dispatched on exactly that cycle. */
  readonly mxmMultiply: number;
  /** ACC dispatch until the sum is on the MXM's stream register. */
  readonly mxmAccumulate: number;
  /** Ifetch dispatch until the text may be dispatched. */
  readonly ifetch: number;
  /** Notify until every queue that waits in Sync goes on. */
  readonly barrier: number;
  /** Send dispatch until the vector goes out on the link. */
  readonly c2cSend: number;
  /** Receive dispatch until the vector is on the SXM's stream register. */
  readonly c2cReceive: number;
  /** A vector going out on a link of one chip until Receive may be dispatched on the other. */
  readonly linkLatency: number;
  /** Cycles that a vector takes up a link: from one Send on it to the next. */
  readonly linkInterval: number;
}

/** Cycles of every chip's aligned counter, for which `deskew` waits (P). */
export const EPOCH = 256;

export interface Target {
  readonly name: string;
  readonly doc: string;
  /** MHz. */
  readonly clock: number;
  /** Elements of a vector, one byte of each on a stream. */
  readonly lanes: number;
  /** Lanes of one superlane. */
  readonly superlane: number;
  /** Streams in each direction. */
  readonly streams: number;
  /** SRAM slices of one hemisphere. */
  readonly slices: number;
  /** SRAM slices that share one stream register. */
  readonly slicesPerHop: number;
  /** Rows of one bank, each `lanes` bytes; a slice has two banks. */
  readonly rowsPerBank: number;
  /** Distance of the SXM from the VXM, in hops. */
  readonly sxm: number;
  /** Distance of the MXM from the VXM, in hops. */
  readonly mxm: number;
  /** MXM planes of one hemisphere; in fp16 they work as one pair. */
  readonly planes: number;
  /** Rows of fp32 (int32) partial sums that one plane's accumulator holds; a pair holds planes x this. */
  readonly accumulatorRows: number;
  /** VXM ALUs of each lane. */
  readonly alus: number;
  /** How many cycles after its production a chained ALU result can still be taken. */
  readonly chainDepth: number;
  /** SXM queues of one hemisphere. */
  readonly sxmQueues: number;
  /** Chip-to-chip links. */
  readonly links: number;
  /** Bytes that one queue can dispatch in a cycle. */
  readonly dispatchBytes: number;
  /** PCIe model of the makers' own tool: bytes / this (GB/s) + `pcieMicroseconds` each way. */
  readonly pcieGBs: number;
  /** Fixed part of a PCIe transfer. */
  readonly pcieMicroseconds: number;
  readonly timing: Timings;
}

const LPU_V1: Target = Object.freeze({
  name: "lpu-v1",
  doc: "The first Tensor Streaming Processor: 320 lanes, 64 streams, 220 MiB of SRAM, 900 MHz.",
  clock: 900, // P
  lanes: 320, // C
  superlane: 16, // C
  streams: 32, // C
  slices: 44, // C
  slicesPerHop: 4, // U
  rowsPerBank: 4096, // C
  sxm: 12, // U: slice s is 11 - floor(s / 4) hops from the outer edge of MEM
  mxm: 19, // U: MXM out -> VXM 19 cycles
  planes: 2, // C
  accumulatorRows: 256, // A
  alus: 16, // P
  chainDepth: 63, // A
  sxmQueues: 14, // C
  links: 16, // C
  dispatchBytes: 16, // A
  pcieGBs: 24, // P
  pcieMicroseconds: 10, // P
  timing: Object.freeze({
    memRead: 1, // U
    memWrite: 2, // U
    memGather: 2, // U
    vxmEntry: 4, // U
    vxmAlu: 3, // U
    sxmShift: 44, // U: 4 in, 36 across superlanes, 4 out
    sxmSelect: 10, // A: 4 in, 2, 4 out
    sxmPermute: 44, // U
    sxmDistribute: 10, // U: 4 in, 2, 4 out
    sxmRotate: 44, // U
    sxmTranspose: 12, // U: 4 in, 4, 4 out
    mxmActivationSkew: 2, // U: MEM edge -> MXM 9 = 7 hops + 2
    mxmWeightSkew: 3, // U: weight path one more
    mxmLoad: 1, // A
    mxmInstall: 3, // U
    mxmMultiply: 13, // U
    mxmAccumulate: 34, // U
    ifetch: 4, // A
    barrier: 35, // C
    c2cSend: 4, // A
    c2cReceive: 4, // A
    linkLatency: 216, // C
    linkInterval: 27, // D: 320 bytes in 30 ns, the one figure that explains every published bisection
  }),
});

const TINY: Target = Object.freeze({
  ...LPU_V1,
  name: "tiny",
  doc: "A small machine whose programs and registers fit on a screen: 16 lanes, 32 slices, 2048 rows a bank.",
  lanes: 16,
  superlane: 4,
  slices: 16,
  slicesPerHop: 4,
  rowsPerBank: 2048,
  sxm: 5,
  mxm: 8,
  accumulatorRows: 32,
  links: 2,
});

const UNIT_LATENCY: Target = Object.freeze({
  ...LPU_V1,
  name: "unit-latency",
  doc: "lpu-v1 with every latency at its least: separates what a schedule loses to latency from what it loses to resources.",
  timing: Object.freeze({
    memRead: 1,
    memWrite: 1,
    memGather: 1,
    vxmEntry: 0,
    vxmAlu: 1,
    sxmShift: 1,
    sxmSelect: 1,
    sxmPermute: 1,
    sxmDistribute: 1,
    sxmRotate: 1,
    sxmTranspose: 1,
    mxmActivationSkew: 0,
    mxmWeightSkew: 0,
    mxmLoad: 1,
    mxmInstall: 1,
    mxmMultiply: 1,
    mxmAccumulate: 1,
    ifetch: 1,
    barrier: 1,
    c2cSend: 1,
    c2cReceive: 1,
    linkLatency: 1,
    linkInterval: 1,
  }),
});

export const TARGETS = { "lpu-v1": LPU_V1, tiny: TINY, "unit-latency": UNIT_LATENCY } as const satisfies Record<
  string,
  Target
>;
export type TargetName = keyof typeof TARGETS;

/** The machine that programs are for where none is named. */
export const DEFAULT_TARGET: TargetName = "lpu-v1";

export const targetOf = (name: TargetName | undefined): Target => TARGETS[name ?? DEFAULT_TARGET];

/**
 * Energy of each instruction class, in picojoules, and what flows while nothing happens. None of it is part of the machine's
 * meaning, so no image holds it. Nothing is published for each instruction: these figures are set so that a full-rate int8
 * matmul stays within 300 W and a mix with little more than half of its switching draws about 185 W, which is published.
 * Everything that is made of them is a model, calibrated to that envelope, not measured.
 */
export interface Energies {
  /** pJ for each bit of a row that is read. */
  readonly sramReadBit: number;
  /** pJ for each bit of a row that is written. */
  readonly sramWriteBit: number;
  /** pJ for each byte that a stream carries one hop on. */
  readonly streamHopByte: number;
  /** pJ for each byte of weights that enters a plane's buffer. */
  readonly weightByte: number;
  /** pJ for each fp16 multiply-accumulate, with its fp32 sum; zeros of padding count. */
  readonly fp16Mac: number;
  /** pJ for each int8 multiply-accumulate, with its int32 sum. */
  readonly int8Mac: number;
  /** pJ a lane for each sum, comparison, choice, conversion or bitwise function of an ALU. */
  readonly aluAdd: number;
  /** pJ a lane for each product of an ALU. */
  readonly aluMultiply: number;
  /** pJ a lane for each quotient or transcendental function of an ALU. */
  readonly aluFunction: number;
  /** pJ for each byte that the SXM moves. */
  readonly sxmByte: number;
  /** pJ for each byte that a link carries, at its sender. */
  readonly c2cByte: number;
  /** pJ for each execution that a queue dispatches. */
  readonly dispatch: number;
  /** W that a chip takes at any time, for each of its lanes. */
  readonly staticLaneWatts: number;
}

/** lpu-v1 and its relatives: one process, one design. */
export const ENERGIES: Energies = Object.freeze({
  sramReadBit: 0.3, // P
  sramWriteBit: 0.3, // A: as a read
  streamHopByte: 0.5, // A: about 0.6 mm of wire a hop
  weightByte: 0.5, // A
  fp16Mac: 1.4, // A: four times int8, whose array it shares
  int8Mac: 0.35, // A
  aluAdd: 1, // A
  aluMultiply: 2, // A
  aluFunction: 8, // A
  sxmByte: 1.5, // A
  c2cByte: 48, // A: 6 pJ a bit
  dispatch: 20, // A
  staticLaneWatts: 0.234375, // A: 75 W of 320 lanes
});

export type Hemisphere = "W" | "E";
/** Position of slice s (0 innermost) of a hemisphere, in hops from the VXM; west is negative. */
export const slicePosition = (target: Target, hemisphere: Hemisphere, slice: number): number =>
  side(hemisphere) * (1 + Math.floor(slice / target.slicesPerHop));
export const sxmPosition = (target: Target, hemisphere: Hemisphere): number => side(hemisphere) * target.sxm;
export const mxmPosition = (target: Target, hemisphere: Hemisphere): number => side(hemisphere) * target.mxm;
const side = (hemisphere: Hemisphere): number => (hemisphere === "W" ? -1 : 1);

/** K values of one fp16 pass of a plane pair: half the lanes ([1 x 160] x [160 x 320] a cycle, C). */
export const halfLanes = (target: Target): number => target.lanes / 2;
/** Bytes of vectors that all streams of both hemispheres, of one direction, pass on in a cycle. */
export const streamBytes = ({ streams, lanes }: Target): number => 2 * streams * lanes;
/** fp16 multiply-accumulates of the whole chip in one cycle. */
export const peakMacs = (target: Target): number => 2 * halfLanes(target) * target.lanes;
/** Send dispatch on one chip until Receive may be dispatched on the other. */
export const linkDelay = ({ timing }: Target): number => timing.c2cSend + timing.linkLatency;
/** From SRAM of one chip over a wire into SRAM of the other. */
export const hopCycles = (target: Target): number => {
  const { c2cReceive, memRead, memWrite } = target.timing;
  return memRead + 2 * target.sxm + linkDelay(target) + c2cReceive + memWrite;
};
export const sramBytes = (target: Target): number => 2 * target.slices * 2 * target.rowsPerBank * target.lanes;

/**
 * Everything that can be said to a user about something wrong, and what to do about it, as one table, and the ways to say it.
 *
 * `fail(code, ...)` raises a CompileError about the user's input; `MachineFault` is what the machine raises when a program
 * breaks a hardware rule; `invariant` is for states that cannot happen, `at` for lists that cannot be too short, and `sure` for
 * what must have been found. A bare `throw new Error` is not allowed in src. Codes are stable: 1xxx frontend, 2xxx passes and
 * scheduling, 3xxx text, assembly and image, 4xxx runtime and machine, 50xx files and arguments, 51xx language models and what
 * commands run, 52xx the server.
 */

/** What to do about a fault that is not the user's. */
const REPORT = "this is a fault of the compiler and not of your input: please report it with the command and the model";
const SCHEDULER =
  "this is a fault of the scheduler and not of your input: please report it with the model, its dimensions and the target";
const PROGRAM =
  "programs of lpu build keep this rule: build the image again, and please report it if it stays; of a listing by hand, mend the instruction at this cycle and unit";
const REBUILD = "the image was not written by this compiler, or was changed: build it again";

interface Diagnostic {
  readonly title: string;
  /** The input is fine, and the compiler is not there yet. */
  readonly isUnsupported?: true;
  readonly doc: string;
  readonly hint: string;
}

export const DIAGNOSTICS = {
  LPU1001: {
    title: "not an ONNX model",
    doc: "The file does not decode as an ONNX ModelProto, or what is given instead is no source of its bytes.",
    hint: "give the .onnx file itself: a git-lfs pointer, an HTML page or a cut download is none",
  },
  LPU1002: {
    title: "operator not supported",
    isUnsupported: true,
    doc: "No import rule exists for an operator of the model.",
    hint: "docs/OPS.md (lpu ops) lists what is supported, and why some operators are not: write the operator out in others, or do it before or after the program",
  },
  LPU1003: {
    title: "form of an operator not supported",
    isUnsupported: true,
    doc: "An operator is known, but not with these attributes, element types or ranks.",
    hint: "docs/OPS.md (lpu ops) says what of the operator is supported: export with other attributes, or write it out in other operators",
  },
  LPU1004: {
    title: "dimensions left unbound",
    doc: "Shapes are static: every named dimension of an input needs a number.",
    hint: "give every dimension a size: --bind name=N, or --shape input=AxB",
  },
  LPU1005: {
    title: "binding does not fit",
    doc: "A binding or a given shape names what the model does not have, or contradicts the model or another binding.",
    hint: "compare names and sizes with the inputs of the model: lpu check names what is open",
  },
  LPU1006: {
    title: "external data outside of the model's folder",
    doc: "External data may only be named by a relative path without `..`, beside the model.",
    hint: "keep external data beside the model, named by a relative path",
  },
  LPU1007: {
    title: "external data missing",
    doc: "A file of external data is not there, or is shorter than the model says.",
    hint: "copy the files of external data into the model's folder, whole and under the names with which it was exported",
  },
  LPU1008: {
    title: "model is malformed",
    doc: "The model decodes, but breaks a rule of ONNX: a value is used before it is made, an attribute is missing, data has the wrong length.",
    hint: "the model breaks a rule of ONNX: onnx.checker says where; export it again",
  },
  LPU1009: {
    title: "element type not supported",
    isUnsupported: true,
    doc: "A tensor has an element type that the compiler does not have.",
    hint: "cast to one of the supported element types (docs/OPS.md) before the tensor enters the model",
  },
  LPU1010: {
    title: "operator set not supported",
    isUnsupported: true,
    doc: "The model uses a version of the ONNX operator set outside of 7 to 25.",
    hint: "convert the model with onnx.version_converter, or export it with another opset_version",
  },
  LPU1011: {
    title: "shape depends on data",
    isUnsupported: true,
    doc: "What an operator needs when the program is compiled (a shape, axes, a count) is computed from the program's inputs.",
    hint: "programs are static: fix the input that decides it (--fix name=value), or export the model with a constant there",
  },
  LPU1012: {
    title: "operands do not fit the operator",
    doc: "The shapes or types that reach an operator are not what it takes.",
    hint: "the model may be inconsistent, or a dimension is bound to a size for which it was not made",
  },
  LPU1013: {
    title: "model is not supported",
    isUnsupported: true,
    doc: "Several nodes of the model are not supported; each is listed.",
    hint: "lpu check lists every node; docs/OPS.md (lpu ops) lists what is supported",
  },
  LPU1014: {
    title: "state does not fit",
    doc: "An input that is to stay on the chip, or the output that takes its place, is not in the model, or the two differ in type.",
    hint: "write it like --state past.0.key=present.0.key, an input and the output that takes its place",
  },
  LPU1015: {
    title: "annotations contradict",
    doc: "What a model says of the devices that it is for contradicts itself, the model, or what is asked for.",
    hint: "correct the annotation, or build without (--configuration none)",
  },
  LPU1016: {
    title: "annotation is not supported",
    doc: "A model asks for a way to lie on devices that chips of a group have not: each has one of equal pieces along one axis, in their order, or the whole.",
    hint: "leave it to the search (without this annotation), or build without (--configuration none)",
  },
  LPU2001: {
    title: "model does not fit in SRAM",
    doc: "Constants and live tensors need more SRAM than the target has.",
    hint: "build it for several chips (--chips 16), bind a shorter sequence or a smaller batch, or use fewer layers or a smaller vocabulary",
  },
  LPU2002: {
    title: "no place in time",
    doc: "An operation needs more ports, streams or units in one cycle than the target has, whenever it is placed.",
    hint: "choose a target with more slices and streams, or split the operation into ones with fewer operands",
  },
  LPU2003: {
    title: "64-bit number out of range",
    isUnsupported: true,
    doc: "A 64-bit integer, or a finite fp64 number, is beyond the 32 bits that it narrows to.",
    hint: "64-bit integers are kept in 32 bits: use values from -2147483648 to 2147483647",
  },
  LPU2004: {
    title: "entries do not share",
    doc: "Two entries of a program have a state by the same name that is not the same tensor in both, nor fewer rows in the later one of a window or a cache.",
    hint: "bind dimensions of states to the same sizes in all entries, or put the entry with the most rows of a window or a cache first",
  },
  LPU2006: {
    title: "no stages",
    doc: "A program cannot be cut into so many stages: it has too few operations, or what must be on one chip leaves no place between.",
    hint: "ask for fewer stages or chips",
  },
  LPU2007: {
    title: "system does not fit",
    doc: "A system is not known, has fewer chips than are asked for, or takes more links of a chip than its target has.",
    hint: "lpu systems lists what there is",
  },
  LPU2008: {
    title: "system too small",
    doc: "A model is planned for a system whose chips do not hold its weights, states and results, together or in one of its parts.",
    hint: "plan for a larger system, let more chips share products (--tensor), or take half the bytes of weights (--weights fp8-e4m3)",
  },
  LPU2010: {
    title: "operands do not fit the operation",
    doc: "The types or shapes of the operands are not what the operation takes.",
    hint: "look at the types and shapes before the operation; lpu ops says what it takes",
  },
  LPU2011: {
    title: "attribute does not fit the operation",
    doc: "An attribute is missing, unknown, of the wrong kind or out of range.",
    hint: "lpu ops lists the attributes of every operation",
  },
  LPU2012: {
    title: "graph breaks a rule",
    doc: "A graph is not well formed, or lacks a property that the next pass requires.",
    hint: "operands must be defined before their use, and results have the types that the operations give",
  },
  LPU2013: {
    title: "index out of range",
    doc: "A gather was given an index outside of its data.",
    hint: "indices run from minus the extent of the axis to one less than it: the data or the indices of the model are wrong",
  },
  LPU2014: {
    title: "rewriting does not end",
    doc: "The rewrite rules were still changing the graph after the largest number of steps.",
    hint: REPORT,
  },
  LPU2101: {
    title: "not supported on the chip",
    isUnsupported: true,
    doc: "An operation, after all rewriting, is not one that the machine has, or not in a form that it takes.",
    hint: "make what it takes a constant or a fixed input (--fix name=value), or let the host compute it",
  },
  LPU2102: {
    title: "unknown pass",
    doc: "A pass is named that is not in the pipeline.",
    hint: "lpu passes lists the passes",
  },
  LPU2103: {
    title: "constant beyond fp16",
    doc: "The MXM multiplies fp16 numbers, and a constant that it is to multiply holds a finite number beyond 65504.",
    hint: "scale the weights of the layer before this one",
  },
  LPU2104: {
    title: "a weight that FP8 would ruin",
    doc: "A constant weight is to lie in FP8, and so little of it would be left that results would be of no use.",
    hint: "keep it in fp16 (--keep NAME), or build without --weights",
  },
  LPU2105: {
    title: "no such weight",
    doc: "A weight is to stay fp16 by a name that no product with a constant weight has, nor the weight itself.",
    hint: "names are those of ONNX nodes and of initializers, as lpu build lists them",
  },
  LPU2106: {
    title: "cannot be shared out",
    doc: "A number of chips divides no axis of any of a model's products, or a state would lie in pieces in one entry and not in another.",
    hint: "ask for another number of chips, or build it for one",
  },
  LPU2201: {
    title: "layout cannot be expressed",
    isUnsupported: true,
    doc: "A tensor is rearranged in a way that neither addresses nor lane movements express.",
    hint: "write the rearrangement as several Reshape and Transpose nodes, or choose sizes that divide one another",
  },
  LPU2210: {
    title: "schedule: queue is busy",
    doc: "A queue of a finished schedule would dispatch before the barrier, out of order, or while it is still busy.",
    hint: SCHEDULER,
  },
  LPU2211: {
    title: "schedule: operand is not possible",
    doc: "An instruction of a finished schedule does not belong to its unit, or has an operand outside of its range.",
    hint: SCHEDULER,
  },
  LPU2212: {
    title: "schedule: SRAM port is busy",
    doc: "A finished schedule uses a port, a bank or an address generator of a slice twice in one cycle.",
    hint: SCHEDULER,
  },
  LPU2213: {
    title: "schedule: row holds nothing yet",
    doc: "A finished schedule reads a row of SRAM that was never written, or while a write to it is on its way.",
    hint: SCHEDULER,
  },
  LPU2214: {
    title: "schedule: rows are placed wrongly",
    doc: "Constants and inputs of a finished schedule share rows, a constant is overwritten, or an output is never written.",
    hint: SCHEDULER,
  },
  LPU2215: {
    title: "schedule: streams collide",
    doc: "Two values of a finished schedule meet on one stream register.",
    hint: SCHEDULER,
  },
  LPU2216: {
    title: "schedule: nothing on the stream",
    doc: "An operand of a finished schedule is taken where no value flies by.",
    hint: SCHEDULER,
  },
  LPU2217: {
    title: "schedule: no result to chain",
    doc: "An ALU operand of a finished schedule names an ALU that executes nothing at that age.",
    hint: SCHEDULER,
  },
  LPU2218: {
    title: "schedule: weights are not ready",
    doc: "A finished schedule installs weights from an empty or unfinished buffer, or multiplies before they are installed.",
    hint: SCHEDULER,
  },
  LPU2219: {
    title: "schedule: product and accumulation do not meet",
    doc: "A finished schedule has an ACC where no product arrives, or a product that no ACC takes.",
    hint: SCHEDULER,
  },
  LPU2220: {
    title: "schedule: accumulation is broken",
    doc: "A finished schedule adds to a row of partial sums that was not set.",
    hint: SCHEDULER,
  },
  LPU2221: {
    title: "schedule: link has no vector",
    doc: "A finished schedule sends two vectors on one link at once, or receives one that has not arrived.",
    hint: SCHEDULER,
  },
  LPU2222: {
    title: "schedule: cycles are predicted wrongly",
    doc: "The cycle count of a finished schedule is not the cycle of its last effect.",
    hint: SCHEDULER,
  },
  LPU2223: {
    title: "schedule: work is lost",
    doc: "A finished schedule sets partial sums again that were never given, or clears weights that were never installed.",
    hint: SCHEDULER,
  },
  LPU2224: {
    title: "schedule: another computation",
    doc: "A burst of a finished schedule takes rows, or computes with them, as no task of its plan does, or an output holds other values.",
    hint: SCHEDULER,
  },
  LPU2225: {
    title: "plan breaks a rule",
    doc: "A plan reads what nothing wrote, writes rows again, or names what is not there: its text is wrong, or selection is.",
    hint: "if the text of the plan was not edited this is a bug: please report it",
  },
  LPU2226: {
    title: "plan: unused lanes are not finite",
    doc: "Lanes that no element uses may hold an infinity or a NaN where a plan brings them to an array or a reduction.",
    hint: SCHEDULER,
  },
  LPU3010: {
    title: "text does not parse",
    doc: "A text form breaks the grammar.",
    hint: "compare with what --print-after prints: a text form is read as it is printed",
  },
  LPU3011: {
    title: "constant not found",
    doc: "A text form refers to a constant by a key that is not known.",
    hint: "texts with large constants need these beside them: print again with the graph's constants",
  },
  LPU3020: {
    title: "dispatches of a queue overlap",
    doc: "An instruction is out of order, or its dispatch falls where the queue is still busy with an earlier one.",
    hint: "give the instruction a cycle after its predecessor in the queue has been dispatched, with all of its repeats",
  },
  LPU3021: {
    title: "operand out of range",
    doc: "An operand of an instruction is missing, of the wrong kind or outside its range on this target.",
    hint: "lpu isa lists the operands of every instruction and their ranges",
  },
  LPU3022: {
    title: "instruction does not fit in one dispatch",
    doc: "An instruction with its prefixes needs more bytes than a queue can dispatch in a cycle.",
    hint: "move the prefixes to cycles of their own",
  },
  LPU3023: {
    title: "queue cannot issue this instruction",
    doc: "The unit of the queue has no such instruction, or the encoder makes it itself (nop, sync, notify, repeat and the prefixes).",
    hint: "lpu isa lists which units issue an instruction",
  },
  LPU3024: {
    title: "program text does not decode",
    doc: "The bytes of a queue are not instructions as the encoder writes them.",
    hint: REBUILD,
  },
  LPU3030: {
    title: "not a program image",
    doc: "The file does not start with the magic bytes of a program image.",
    hint: "give a file that lpu build or lpu asm wrote",
  },
  LPU3031: {
    title: "unknown image version",
    doc: "The image was written in another version of the format.",
    hint: "build the model again with this version",
  },
  LPU3032: {
    title: "image is truncated",
    doc: "The image says that it is longer than the file.",
    hint: "copy or build the image again: this file ends too early",
  },
  LPU3033: {
    title: "image is damaged",
    doc: "A checksum of the image does not match its bytes.",
    hint: "copy or build the image again: its bytes have changed",
  },
  LPU3034: {
    title: "image section is malformed",
    doc: "A section of the image is missing, twice, outside the file, or its lengths disagree.",
    hint: REBUILD,
  },
  LPU3035: {
    title: "image metadata is malformed",
    doc: "A record in the image (target, bindings, entries, origins) lacks a field or has one of the wrong kind.",
    hint: REBUILD,
  },
  LPU3040: {
    title: "assembly does not parse",
    doc: "A line of an assembly listing is not a directive, a queue, or an instruction of the form `cycle mnemonic operands`.",
    hint: "compare with what lpu disasm prints: a listing is read as it is printed",
  },
  LPU3041: {
    title: "unknown name in assembly",
    doc: "A listing uses a directive, queue, instruction, operand or target that does not exist.",
    hint: "lpu isa lists instructions and operands, lpu targets the targets",
  },
  LPU4001: {
    title: "streams collide",
    doc: "A value is given on a stream register where another value still flows.",
    hint: PROGRAM,
  },
  LPU4002: {
    title: "nothing on the stream",
    doc: "An operand is taken from a stream register that holds no value in that cycle.",
    hint: PROGRAM,
  },
  LPU4003: {
    title: "SRAM port is busy",
    doc: "Two reads or two writes of one slice fall in one cycle, or two bursts need the slice's one read (or write) address generator.",
    hint: PROGRAM,
  },
  LPU4004: {
    title: "SRAM bank conflict",
    doc: "A read and a write of one slice fall in one cycle and on the same bank; a Gather or Scatter counts for both banks.",
    hint: PROGRAM,
  },
  LPU4005: { title: "uninitialised row is read", doc: "A row of SRAM is read that was never written.", hint: PROGRAM },
  LPU4006: {
    title: "row is read too early",
    doc: "A row of SRAM is read while a write to it is still on its way.",
    hint: PROGRAM,
  },
  LPU4007: {
    title: "queue is busy",
    doc: "A queue must dispatch while it still repeats or waits, or two instructions in one cycle.",
    hint: PROGRAM,
  },
  LPU4008: {
    title: "operand is not possible",
    doc: "An instruction does not belong to the unit, or an operand of it is outside its range, not aligned, or of the wrong direction.",
    hint: PROGRAM,
  },
  LPU4009: {
    title: "no result to chain",
    doc: "An ALU operand names a result of another ALU that does not exist at that age.",
    hint: PROGRAM,
  },
  LPU4010: {
    title: "weight buffer is not ready",
    doc: "An IW meets an empty buffer, or comes too soon after the last LW, or the buffer holds weights of another kind.",
    hint: PROGRAM,
  },
  LPU4011: {
    title: "weights are not installed",
    doc: "An ABC meets an array without weights of its kind, or one that is just being changed.",
    hint: PROGRAM,
  },
  LPU4012: {
    title: "product and accumulation do not meet",
    doc: "An ACC is dispatched when no product arrives, or a product arrives that no ACC takes.",
    hint: PROGRAM,
  },
  LPU4013: {
    title: "accumulator row is not set",
    doc: "An ACC adds to a row of partial sums that was never set, or was set by the other number type.",
    hint: PROGRAM,
  },
  LPU4014: {
    title: "row address out of range",
    doc: "A Gather or Scatter was given a row address outside of the slice.",
    hint: PROGRAM,
  },
  LPU4015: {
    title: "link has no vector",
    doc: "A Receive finds no vector that has arrived, a link is not connected, or two vectors are sent on one link in one cycle.",
    hint: "a Receive comes a link's latency after the Send of the other chip; the target says how long",
  },
  LPU4016: {
    title: "barrier is broken",
    doc: "A chip notifies more than once, or a queue waits in Sync for a Notify that does not come.",
    hint: PROGRAM,
  },
  LPU4017: {
    title: "program text comes too late",
    doc: "Fetched text holds an instruction that should have been dispatched already, or cannot be read.",
    hint: PROGRAM,
  },
  LPU4018: {
    title: "vector fails its check",
    doc: "A vector that came over a wire is not what was sent. What was computed is void; the run is done again.",
    hint: "run again: an error of a link passes",
  },
  LPU4030: {
    title: "value does not fit the program",
    doc: "An input has another dtype or size than its place in SRAM, or a value that the element type there cannot hold.",
    hint: "give values that the declared dtype holds",
  },
  LPU4031: {
    title: "index out of range",
    doc: "An input that chooses rows of a table has a value outside of the table.",
    hint: "indices run from minus the number of rows to one less than it: does the tokenizer belong to the model?",
  },
  LPU4032: {
    title: "prediction not met",
    doc: "The program took another number of cycles than the image predicts; the image is damaged or its maker is wrong.",
    hint: PROGRAM,
  },
  LPU4033: {
    title: "output not written",
    doc: "A row of an output was never written by the program.",
    hint: PROGRAM,
  },
  LPU4034: {
    title: "entry not known",
    doc: "The program has no entry of that name, or has several and none was named.",
    hint: "lpu disasm --no-data lists the entries of an image",
  },
  LPU4035: {
    title: "stage not known",
    doc: "The program has no stage of that number: chips that work one behind the other are stages, numbered from 0.",
    hint: "lpu plan IMAGE --jobs lists the stages of an image",
  },
  LPU4036: {
    title: "thread of the machine ended",
    doc: "A thread that runs chips of a machine has ended, or could not do its part of a run.",
    hint: "load the image again, with more free memory or fewer threads",
  },
  LPU4037: {
    title: "nothing to disturb",
    doc: "A bit is to flip on a wire, and nothing is sent over one so late in the program.",
    hint: "give an earlier cycle, and chips that send each other something in the same run: a stage by itself may have none",
  },
  LPU5000: {
    title: "internal error",
    doc: "A state that should not exist; a fault of this program and not of its input.",
    hint: REPORT,
  },
  LPU5001: {
    title: "file cannot be read",
    doc: "A file is missing, is not a file, or may not be read.",
    hint: "check the path and the permissions",
  },
  LPU5002: {
    title: "not a tensor file",
    doc: "A file is not a readable .npy array or TensorProto.",
    hint: "give a .npy array (numpy.save, without pickles) or a TensorProto in a .pb file",
  },
  LPU5003: {
    title: "file cannot be written",
    doc: "The place where a result should go cannot be written.",
    hint: "choose a folder that exists, may be written to and has room",
  },
  LPU5004: {
    title: "unknown input",
    doc: "A tensor is given for a name that the program does not take.",
    hint: "compare the name with the inputs of the model",
  },
  LPU5005: {
    title: "input missing",
    doc: "The program takes an input for which no tensor is given.",
    hint: "give it a tensor with --input name=file.npy",
  },
  LPU5006: {
    title: "shape of an input differs",
    doc: "A tensor does not have the shape with which the program was built.",
    hint: "give a tensor of the shape that the program was built for, or build again with other dimensions (--bind)",
  },
  LPU5007: {
    title: "dtype of an input differs",
    doc: "A tensor does not have the dtype that the model declares.",
    hint: "convert the tensor to the dtype that the model declares",
  },
  LPU5008: {
    title: "bad argument",
    doc: "A command, an option or its value is not understood.",
    hint: "lpu --help and lpu COMMAND --help say how commands are written",
  },
  LPU5009: {
    title: "not a case folder",
    doc: "A folder is not in the layout of the ONNX backend tests: model.onnx and test_data_set_N with input_K.pb and output_K.pb.",
    hint: "give folders with model.onnx and test_data_set_0, as the ONNX backend tests have them",
  },
  LPU5101: {
    title: "model cannot be built",
    doc: "The sizes given to the model builder do not make a model.",
    hint: "choose other sizes: `node dist/models/build.js FAMILY --help` says what each is, and what it is if it is not given",
  },
  LPU5102: {
    title: "optional package missing",
    doc: "A package that only some commands need is not installed.",
    hint: "install the package that is named with npm",
  },
  LPU5103: {
    title: "measurement failed",
    doc: "A process of the bench ended badly, or an engine did not do what it was asked.",
    hint: "run the bench again by itself: npm run bench -- --help",
  },
  LPU5104: {
    title: "not a decoder with a past",
    doc: "A model that is to write text has other inputs than a token, its position, an attention mask and a past, or lacks one of them.",
    hint: "export the decoder with past and present (optimum: --task text-generation-with-past), attention_mask and position_ids",
  },
  LPU5105: {
    title: "context is full",
    doc: "More tokens are given than the context holds for which the program was built.",
    hint: "give a shorter prompt, or build with a longer --context",
  },
  LPU5106: {
    title: "not a token",
    doc: "A token is none of the vocabulary, there is none, or there is no tokenizer that makes tokens of text.",
    hint: "give the tokenizer.json that belongs to the model (--tokenizer)",
  },
  LPU5107: {
    title: "file beside a model is wrong",
    doc: "A file beside a model is not an object in JSON, or what it sets is not what it should be.",
    hint: "download or save it again",
  },
  LPU5108: {
    title: "tokenizer does not fit",
    doc: "A tokenizer has tokens that the model does not know: it belongs to another model.",
    hint: "give the tokenizer.json that belongs to the model (--tokenizer)",
  },
  LPU5109: {
    title: "no chat",
    doc: "A model has no chat template, it cannot be read, or it refuses the messages.",
    hint: "give the messages that the template expects, or a prompt of plain text",
  },
  LPU5110: {
    title: "model is closed",
    doc: "A language model was closed, and is asked for something that needs the machine or its past.",
    hint: "close a model when nothing runs on it any more, or open it again",
  },
  LPU5111: {
    title: "sequences side by side",
    doc: "Of a language model that takes several sequences side by side something is asked that only one has, or of one that it takes two steps at once.",
    hint: "write with generate, as many texts at once as the model takes sequences, or open it with a batch of 1",
  },
  LPU5201: {
    title: "request not understood",
    doc: "A client sent no JSON, or a field that the API does not have, that is not what it must be, or that is not supported here.",
    hint: "compare the request with the API; what is supported is in docs/LANGUAGE-MODELS.md",
  },
  LPU5202: {
    title: "no such model",
    doc: "A client asked for another model than the one that is served.",
    hint: "ask for the name that /v1/models gives",
  },
  LPU5203: {
    title: "unknown request",
    doc: "A client asked for a path, or by a method, that the server does not have.",
    hint: "there are /v1/models, /v1/chat/completions and /v1/completions",
  },
  LPU5204: {
    title: "request too large",
    doc: "The body of a request is larger than the server takes.",
    hint: "send fewer or shorter messages at once",
  },
  LPU5205: {
    title: "queue is full",
    doc: "As many requests wait as the server lets wait.",
    hint: "ask again when some of them are answered",
  },
  LPU5206: {
    title: "server is stopping",
    doc: "The server was told to stop before a request was answered.",
    hint: "ask again when it runs",
  },
  LPU5207: {
    title: "cannot listen",
    doc: "The address or the port of a server is taken, is not this computer's, or may not be used.",
    hint: "choose another --port, or a --host that this computer has",
  },
} as const satisfies Record<string, Diagnostic>;

export type DiagnosticCode = keyof typeof DIAGNOSTICS;

/** Whether a code says that the input is fine, and that the compiler is not there yet. */
export const isUnsupported = (code: DiagnosticCode): boolean => {
  const row: Diagnostic = DIAGNOSTICS[code];
  return row.isUnsupported === true;
};

/**
 * What a diagnostic says beyond its code: message (lower case, expected before actual), the ONNX node, a place in a text input,
 * notes, a hint.
 */
export interface Details {
  readonly message: string;
  /** ONNX node, as `name (OpType)`. */
  readonly node?: string;
  /** `file:line:col` or `offset N` in a text or binary input. */
  readonly at?: string;
  readonly notes?: readonly string[];
  readonly hint?: string;
  /** Inputs of the model whose values would answer what is open. */
  readonly inputs?: readonly string[];
}

/** The one error type for users. Several problems found together are one error whose `others` hold the rest. */
export class CompileError extends Error {
  readonly code: DiagnosticCode;
  readonly details: Details;
  /** What to do about it: of this case, or of all with this code. */
  readonly hint: string;
  readonly others: readonly CompileError[];
  constructor(code: DiagnosticCode, details: Details, others: readonly CompileError[] = []) {
    super(`${code}: ${details.message}`);
    this.name = "CompileError";
    this.code = code;
    this.details = details;
    this.hint = details.hint ?? DIAGNOSTICS[code].hint;
    this.others = others;
  }
}

export function fail(code: DiagnosticCode, details: Details): never {
  throw new CompileError(code, details);
}

/** A broken hardware rule, found while a program is checked, linked or run: where, when, by which instruction, for which ONNX node. */
export class MachineFault extends Error {
  readonly code: DiagnosticCode;
  readonly cycle: number;
  readonly unit: string;
  readonly instruction: string;
  readonly origin: string;
  /** What to do about it. */
  readonly hint: string;
  constructor(
    code: DiagnosticCode,
    where: { cycle: number; unit: string; instruction: string; origin: string },
    message: string,
  ) {
    super(
      `${code}: cycle ${where.cycle}, ${where.unit}: ${message} [${where.instruction}]${where.origin === "" ? "" : ` from ${where.origin}`}`,
    );
    this.name = "MachineFault";
    this.code = code;
    this.cycle = where.cycle;
    this.unit = where.unit;
    this.instruction = where.instruction;
    this.origin = where.origin;
    this.hint = DIAGNOSTICS[code].hint;
  }
}

/** For states that the surrounding code has already made impossible. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/**
 * The entry of a list that must be there: an index that is none of the list's is a mistake of the compiler and an invariant that
 * does not hold, never a number that stands in for the missing one. Where an entry may be missing, say so at the place: `??` with what
 * it means. `what` names an entry ("stride").
 */
export function at<T>(list: ArrayLike<T | undefined>, index: number, what: string): T {
  const entry = list[index];
  if (entry === undefined) throw new InvariantError(`expected ${what} ${index} of ${list.length}, found none`);
  return entry;
}

/** What a map or a search must have found; `what` names it ("place of the weights"). */
export function sure<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new InvariantError(`expected a ${what}, found none`);
  return value;
}

export class InvariantError extends Error {
  constructor(message: string) {
    super(`internal: ${message}`);
    this.name = "InvariantError";
  }
}

/**
 * Names of a list that a wrong one may have been meant to be, nearest first: at most a quarter of the letters differ. More
 * would be guessing, and names of other things (Resize, Size) are no help.
 */
export const nearestNames = (wanted: string, known: Iterable<string>): readonly string[] =>
  [...new Set(known)]
    .map((name) => ({ name, edits: editDistance(wanted.toLowerCase(), name.toLowerCase()) }))
    .filter(({ name, edits }) => name !== wanted && 4 * edits <= Math.max(name.length, wanted.length))
    .sort((a, b) => a.edits - b.edits)
    .slice(0, 3)
    .map(({ name }) => name);

/** `did you mean 'x'? ` where names are near, else nothing: the beginning of a hint. */
export function didYouMean(wanted: string, known: Iterable<string>): string {
  const near = nearestNames(wanted, known);
  return near.length === 0 ? "" : `did you mean ${near.map((name) => `'${name}'`).join(" or ")}? `;
}

/** Letters to insert, delete or replace (Levenshtein), row by row of the table. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(row, j - 1, "distance") + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, at(row, j, "distance") + 1, at(next, j - 1, "distance") + 1));
    }
    row = next;
  }
  return at(row, b.length, "distance");
}

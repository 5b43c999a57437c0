/**
 * Operators that have no import rule for a reason, by kinds: what stands in docs/OPS.md and in the error of a model that uses one.
 * An operator that is neither here nor in the rules has no reason: nobody has written its rule.
 */

export interface Refused {
  readonly name: string;
  /** As `operatorKey` gives them; a domain with `*` is all of it. */
  readonly operators: readonly string[];
  /** One sentence: why. */
  readonly doc: string;
  readonly hint: string;
}

export const REFUSED: readonly Refused[] = [
  {
    name: "Recurrent networks",
    operators: ["LSTM", "GRU", "RNN"],
    doc: "Each step waits for the one before and is a product with one row, for which the array would stand idle nearly all the time.",
    hint: "write the steps out in MatMul, Sigmoid and Tanh for a fixed length, or run this part on the host",
  },
  {
    name: "Loops",
    operators: ["Loop", "Scan", "SequenceMap"],
    doc: "A program has no branches: every instruction has its cycle, so a body cannot be run as often as data says.",
    hint: "export the model with the loop unrolled, or run one step a program and loop on the host",
  },
  {
    name: "Shapes that depend on data",
    operators: ["NonZero", "Unique", "Compress", "NonMaxSuppression"],
    doc: "How many elements come out depends on values, and places in SRAM are given before there are any.",
    hint: "use a mask of a fixed shape (Where, Mul) instead, or do this part on the host",
  },
  {
    name: "Places of maxima",
    operators: ["MaxUnpool"],
    doc: "Where a value goes was found by a pooling, whose places are no result of a program.",
    hint: "use Resize or ConvTranspose, which have fixed places",
  },
  {
    name: "Bits as another type",
    operators: ["BitCast"],
    doc: "Numbers are kept in fp16 where that is enough, and narrow integers in 32 bits: their bits are not those of the model.",
    hint: "write it out in Cast and arithmetic, or do it on the host",
  },
  {
    name: "Samples at computed places",
    operators: ["RoiAlign", "MaxRoiPool", "DeformConv"],
    doc: "Every result reads places of its own that are computed from data.",
    hint: "do this part on the host, or use Resize, which has fixed places",
  },
  {
    name: "Strings",
    operators: ["StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch", "TfIdfVectorizer"],
    doc: "The chip holds numbers and truth values; tensors of strings have no element type.",
    hint: "tokenize on the host and give the program numbers",
  },
  {
    name: "Optional values",
    operators: ["Optional", "OptionalGetElement", "OptionalHasElement"],
    doc: "Whether a value is there would decide what is computed, while a program always computes the same; sequences are taken apart at build, where their lengths are known.",
    hint: "export the model with the value always there, or always absent",
  },
  {
    name: "Random numbers",
    operators: ["Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"],
    doc: "The chip has no source of random numbers, and a program gives the same results for the same inputs.",
    hint: "draw the numbers on the host and make them an input",
  },
  {
    name: "Training",
    operators: ["ai.onnx.preview.training:*", "ai.onnx.training:*"],
    doc: "Programs only run; gradients and optimizers change weights, which are constants.",
    hint: "export the model for inference",
  },
  {
    name: "Classical machine learning",
    operators: ["ai.onnx.ml:*"],
    doc: "Trees, encoders and tables of labels are decisions and look-ups for each element, which an array does not speed up.",
    hint: "run this part on the host",
  },
  {
    name: "Determinants",
    operators: ["Det"],
    doc: "Elimination takes one pivot after another, each chosen by the values that the one before has left.",
    hint: "do this part on the host",
  },
  {
    name: "Layouts of other machines",
    operators: ["com.ms.internal.nhwc:*", "com.microsoft.nchwc:*"],
    doc: "ONNX Runtime writes them for its own kernels when it has optimized a model for one processor; layouts are the compiler's.",
    hint: "give the model as it was exported, or as it is optimized at the levels basic and extended",
  },
  {
    name: "Experimental operators",
    operators: ["Affine", "Crop", "ImageScaler", "ParametricSoftplus", "ScaledTanh"],
    doc: "They left ONNX with version 1.5, and no operator set since has them.",
    hint: "write them out in Mul, Add and Slice, or export the model again",
  },
  {
    name: "Files of images",
    operators: ["ImageDecoder"],
    doc: "Decoding a compressed file is work of variable length on single bytes.",
    hint: "decode on the host and give the program pixels",
  },
];

/** Why an operator is refused, if there is a reason. */
export const refusedFor = (domain: string, key: string): Refused | undefined =>
  REFUSED.find(({ operators }) => operators.includes(key) || operators.includes(`${domain}:*`));

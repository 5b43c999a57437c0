/**
 * Everything that the frontend can say about operators and element types, in one record: for `lpu ops` and docs/OPS.md.
 */

import { NEWEST_OPSET, OLDEST_OPSET } from "./import.js";
import { REFUSED } from "./refused.js";
import { RULES } from "./rules/table.js";
import { ELEMENT_TYPES, OTHER_TYPES } from "./tensors.js";
import { UNUSED } from "./witness.js";

export const OPERATORS = {
  rules: RULES,
  opsets: [OLDEST_OPSET, NEWEST_OPSET],
  refused: REFUSED,
  unused: UNUSED,
  types: Object.values(ELEMENT_TYPES),
  otherTypes: Object.values(OTHER_TYPES).filter(({ name }) => name !== "undefined"),
} as const;

/** Einsum against ONNX Runtime: diagonals, ellipses that broadcast, implicit results, many operands. */

import { expect, test } from "@jest/globals";
import { expectAgreement, type NodeCase, refusalOf, varied } from "./agreement.js";

const einsum = (equation: string, ...operands: NodeCase["operands"]): NodeCase => ({
  op: "Einsum",
  attributes: { equation },
  operands,
});

test.each([
  einsum("ii->i", varied(4, 4)),
  einsum("ii", varied(4, 4)),
  einsum("bii->bi", varied(2, 4, 4)),
  einsum("iji->j", varied(3, 2, 3)),
  einsum("iijj->ij", varied(3, 3, 2, 2)),
  einsum("iii->i", varied(3, 3, 3)),
  einsum("ii,ij->j", varied(3, 3), varied(3, 4)),
  einsum("...ii->...i", varied(2, 3, 3)),
])("a diagonal: $attributes.equation", (given) => expectAgreement(given));

test.each([
  einsum("...ij,...jk->...ik", varied(1, 3, 4), varied(2, 4, 5)),
  einsum("...ij,...jk->...ik", varied(2, 1, 3, 4), varied(1, 5, 4, 2)),
  einsum("...,...", varied(2, 1), varied(1, 3)),
  einsum("bij,bjk->bik", varied(1, 3, 4), varied(2, 4, 5)),
  einsum("ij,jk->ik", varied(3, 1), varied(4, 5)),
  einsum("ij,ij->i", varied(3, 1), varied(3, 5)),
])("a broadcast: $attributes.equation", (given) => expectAgreement(given));

test.each([
  einsum("ba,cb", varied(2, 3), varied(4, 2)),
  einsum("ij,jk,kl->il", varied(2, 3), varied(3, 4), varied(4, 2)),
  einsum("bhqd,bhkd->bhqk", varied(1, 2, 3, 4), varied(1, 2, 5, 4)),
])("$attributes.equation", (given) => expectAgreement(given));

test("extents that contradict each other", () => {
  expect(refusalOf(einsum("ii->i", varied(3, 4)))).toBe("LPU1012: expected one extent for 'i', got 3 and 4");
  expect(refusalOf(einsum("ij,jk->ik", varied(3, 4), varied(5, 2)))).toMatch(/^LPU1012: expected one extent for 'j'/);
});

/**
 * QEmbedLayerNormalization (com.microsoft 1): EmbedLayerNormalization whose tables, gamma and beta are 8-bit codes with one
 * scale each. Inputs: ids [B, S], segment ids?, word, position and segment tables, gamma, beta, mask?, five scales, five zero
 * points. Outputs: [B, S, H], mask index [B].
 */
import type { Node } from '../graph/graph';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import {
  embed,
  emitEmbedding,
  emitMaskIndex,
  emitRows,
  inferEmbedding,
  lookupIndices,
  maskIndex,
} from './families/embedding';
import { dequantizeTensor, quantizationOf } from './families/quantization';

/** Input indices of the tensors; scale and zero point of the k-th are at 8 + k and 13 + k. */
const [WORDS, POSITIONS, SEGMENTS, GAMMA, BETA] = [2, 3, 4, 5, 6];
const FIRST = WORDS;

function parametersOf(node: Node, index: number, inputs: readonly (Tensor | null | undefined)[], codes: Tensor) {
  const [scale, zeroPoint] = [inputs[8 + index - FIRST], inputs[13 + index - FIRST]];
  return quantizationOf(node, `input ${index}`, scale, zeroPoint, codes.type);
}

export const QEmbedLayerNormalization = defineOp({
  type: 'QEmbedLayerNormalization',
  domain: 'com.microsoft',
  since: [1],
  inferShape: (context) => inferEmbedding(context, WORDS).slice(0, 2),
  run(inputs, { node, outputCount }) {
    const [ids, segmentIds] = inputs;
    const { dims } = ids!;
    const real = (index: number): Float64Array => {
      const codes = inputs[index]!;
      return Float64Array.from(dequantizeTensor(codes, parametersOf(node, index, inputs, codes)));
    };
    const lookup = (index: number, indices: Tensor | null | undefined) => {
      const count = inputs[index]!.dims[0];
      return { rows: real(index), count, indices: lookupIndices(node, indices, dims, count) };
    };
    const lookups = [lookup(WORDS, ids), lookup(POSITIONS, null)];
    if (inputs[SEGMENTS] && segmentIds) lookups.push(lookup(SEGMENTS, segmentIds));
    const [output] = embed(node, dims, lookups, real(GAMMA), real(BETA));
    return [output, maskIndex(inputs[7], dims)].slice(0, outputCount);
  },
  lower(context) {
    const { node } = context;
    const constants = node.inputs.map((value) => context.constant(value));
    const [ids, segmentIds] = [node.requiredInput(0), node.input(1)];
    const dims = context.shape(ids);
    if (!emitMaskIndex(context, node.input(7), dims[0])) return false;
    const width = context.shape(node.requiredInput(WORDS))[1];
    const tables = [
      [WORDS, ids],
      [POSITIONS, null],
      ...(segmentIds && node.input(SEGMENTS) ? ([[SEGMENTS, segmentIds]] as const) : []),
    ] as const;
    const isKnown = [...tables.map(([index]) => index), GAMMA, BETA].every(
      (index) =>
        constants[index] &&
        constants[8 + index - FIRST] &&
        (!node.input(13 + index - FIRST) || constants[13 + index - FIRST]),
    );
    if (!isKnown) return false;
    const rows: number[] = [];
    for (const [index, indices] of tables) {
      const codes = emitRows(context, node.requiredInput(index), indices, dims);
      if (!codes) return false;
      const { scale, zeroPoint } = parametersOf(node, index, constants, constants[index]!);
      const y = context.temporary('float32', codes.shape);
      context.emit({
        op: 'dequantize',
        x: codes.id,
        y: y.id,
        scale: Float32Array.of(scale),
        zeroPoint: Int32Array.of(zeroPoint),
        outer: 1,
        axisSize: 1,
        inner: dims[0] * dims[1] * width,
      });
      rows.push(y.id);
    }
    const [gamma, beta] = [GAMMA, BETA].map((index) => {
      const codes = constants[index]!;
      return context.constantSlot(
        new Tensor('float32', dequantizeTensor(codes, parametersOf(node, index, constants, codes))),
      ).id;
    });
    emitEmbedding(context, rows, [...dims, width], gamma, beta, null);
    return true;
  },
});

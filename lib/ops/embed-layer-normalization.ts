/**
 * EmbedLayerNormalization (com.microsoft 1): rows of the word, position and segment tables, summed and normalized. Inputs:
 * ids [B, S], segment ids?, word table, position table, segment table?, gamma, beta, mask?, position ids?. Outputs: [B, S, H],
 * mask index [B] (keys that count), sum?.
 */
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
import { toDoubles } from './families/values';
import type { Tensor } from '../tensor/tensor';

export const EmbedLayerNormalization = defineOp({
  type: 'EmbedLayerNormalization',
  domain: 'com.microsoft',
  since: [1],
  inferShape: (context) => inferEmbedding(context, 2),
  run([ids, segmentIds, words, positions, segments, gamma, beta, mask, positionIds], { node, outputCount }) {
    const { dims } = ids!;
    const lookup = (table: Tensor, indices: Tensor | null | undefined) => {
      const count = table.dims[0];
      return { rows: toDoubles(table), count, indices: lookupIndices(node, indices, dims, count) };
    };
    const lookups = [lookup(words!, ids), lookup(positions!, positionIds)];
    if (segments && segmentIds) lookups.push(lookup(segments, segmentIds));
    const [output, sum] = embed(node, dims, lookups, toDoubles(gamma!), beta ? toDoubles(beta) : undefined);
    return [output, maskIndex(mask, dims), sum].slice(0, outputCount);
  },
  lower(context) {
    const { node } = context;
    const ids = node.requiredInput(0);
    const dims = context.shape(ids);
    if (!emitMaskIndex(context, node.input(7), dims[0])) return false;
    const tables = [
      [node.requiredInput(2), ids],
      [node.requiredInput(3), node.input(8)],
      ...(node.input(1) && node.input(4) ? [[node.requiredInput(4), node.requiredInput(1)]] : []),
    ] as const;
    if (tables.some(([table]) => table && context.dtype(table) !== 'float32')) return false;
    const rows = tables.map(([table, indices]) => emitRows(context, table!, indices, dims));
    if (rows.includes(undefined)) return false;
    const width = context.shape(node.requiredInput(2))[1];
    const beta = node.input(6);
    emitEmbedding(
      context,
      rows.map((slot) => slot!.id),
      [...dims, width],
      context.slot(node.requiredInput(5), 'row').id,
      beta && context.slot(beta, 'row').id,
      node.outputs[2],
    );
    return true;
  },
});

/**
 * Attention (com.microsoft 1): projection to queries, keys and values, and softmax(q k' * scale + mask) v of each head.
 * Inputs: input [B, S, D], weight [D, 3H], bias [3H]?, mask (int32)?, past?, attention bias?. Outputs: [B, S, H], present.
 */
import { defineOp } from './define-op';
import {
  attend,
  canLowerAttention,
  columnsOf,
  emitAttention,
  inferAttention,
  planAttention,
  planOf,
  project,
} from './families/attention';
import { checkType } from './families/inference';
import { toDoubles } from './families/values';

const INDICES = { mask: 3, past: 4, bias: 5 };

export const Attention = defineOp({
  type: 'Attention',
  domain: 'com.microsoft',
  since: [1],
  inferShape(context) {
    checkType(context, 0, 'float32');
    return inferAttention(context, 1, INDICES.past);
  },
  run([input, weight, bias, mask, past, attentionBias], { node, outputCount }) {
    const columns = columnsOf(node, weight!.dims);
    const plan = planAttention(node, input!.dims, columns);
    const rows = project(toDoubles(input!), toDoubles(weight!), columns, bias ? toDoubles(bias) : undefined);
    return attend(node, rows, plan, { mask, past, bias: attentionBias }).slice(0, outputCount);
  },
  lower(context) {
    const { node } = context;
    const biasValue = node.input(2);
    const [weight, bias] = [context.constant(node.requiredInput(1)), context.constant(biasValue)];
    if (!weight || (biasValue && !bias) || !canLowerAttention(context, INDICES)) return false;
    const plan = planOf(context);
    const { batch, length, rowWidth } = plan;
    const weights = context.shared(weight, 'gemm_f32/kn/1', () =>
      context.pack.packGemmF32(weight.data as Float32Array, weight.dims[0], rowWidth, false),
    );
    const x = context.slot(node.requiredInput(0), 'row').id;
    const rows = context.temporary('float32', [batch, length, rowWidth]);
    const [min, max] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
    const offsets = (bias?.data as Float32Array | undefined) ?? null;
    context.emit({ op: 'gemm', x, y: rows.id, m: batch * length, weights, bias: offsets, min, max });
    emitAttention(context, rows, plan, INDICES);
    return true;
  },
});

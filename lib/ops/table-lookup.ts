/**
 * TableLookup (ai.q8 1): y = table[x] for 8-bit codes, where the byte pattern of a code is the index. What fuse-qdq makes
 * of an elementwise operator between DQ and Q; inside sessions only, never in files.
 */
import { defineOp } from './define-op';
import { applyTable } from './families/quantization';
import { existingLayout } from './families/lowering';

/** Inputs: codes, table uint8[256]. Attribute `signed`: 1 when the results are int8, else 0. */
export const TableLookup = defineOp({
  type: 'TableLookup',
  domain: 'ai.q8',
  since: [1],
  inferShape: (context) => [
    { dtype: context.node.attributes.int('signed', 0) ? 'int8' : 'uint8', shape: context.input(0).shape },
  ],
  run: ([x, table], { node }) => [
    applyTable(x!, table!.data as Uint8Array, node.attributes.int('signed', 0) ? 'int8' : 'uint8'),
  ],
  lower(context) {
    const { node } = context;
    const x = node.requiredInput(0);
    const table = context.constant(node.input(1));
    if (!table) return false;
    const layout = existingLayout(context, x);
    const from = context.slot(x, layout);
    const to = context.output(node.output, layout);
    context.emit({ op: 'lut', x: from.id, y: to.id, table: table.data as Uint8Array });
    return true;
  },
});

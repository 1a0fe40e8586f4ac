/** Gelu (ai.onnx 20; com.microsoft 1): x * Phi(x), exact or with the tanh approximation. */
import type { Node } from '../graph/graph';
import { defineOp } from './define-op';
import { lowerUnary, mapTensor } from './families/elementwise';
import { modelError, typeOf } from './families/inference';
import { gelu, geluTanh } from './families/special-functions';

function isApproximate(node: Node): boolean {
  const approximate = node.attributes.string('approximate', 'none');
  if (approximate !== 'none' && approximate !== 'tanh')
    throw modelError(node, '"none" or "tanh"', 'approximate', approximate);
  return approximate === 'tanh';
}

export const Gelu = defineOp({
  type: 'Gelu',
  since: [20],
  quant: { kind: 'elementwise' },
  inferShape: (context) => [typeOf(context)],
  run: ([x], { node }) => [mapTensor(x!, isApproximate(node) ? geluTanh : gelu)],
  lower: (context) => lowerUnary(context, isApproximate(context.node) ? 'gelu_tanh' : 'gelu'),
});

/** The contributed operator has no attributes. */
export const MicrosoftGelu = defineOp({
  type: 'Gelu',
  domain: 'com.microsoft',
  since: [1],
  quant: { kind: 'elementwise' },
  inferShape: (context) => [typeOf(context)],
  run: ([x]) => [mapTensor(x!, gelu)],
  lower: (context) => lowerUnary(context, 'gelu'),
});

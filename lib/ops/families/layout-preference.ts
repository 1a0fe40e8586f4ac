/** Which operators work channels-last, so that a quantization before them can convert in the same pass. */
import type { Value } from '../../graph/graph';

const NHWC_OPERATORS: ReadonlySet<string> = new Set([
  'AveragePool',
  'Conv',
  'ConvInteger',
  'ConvTranspose',
  'FusedConv',
  'GlobalAveragePool',
  'GlobalMaxPool',
  'MaxPool',
  'QLinearAveragePool',
  'QLinearConv',
  'QLinearConvTranspose',
  'QLinearGlobalAveragePool',
  'Resize',
  'Upsample',
]);

/** Whether some consumer reads the value channels-last. */
export function wantsNhwc(value: Value): boolean {
  return value.consumers.some((node) => NHWC_OPERATORS.has(node.op));
}

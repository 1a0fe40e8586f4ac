/** AveragePool (ai.onnx 7, 10, 11, 19, 22): the mean of each window. */
import { defineOp } from './define-op';
import { averagePool, inferPooling } from './families/pooling';
import { fromDoubles, toDoubles } from './families/values';
import { endPads, resolveWindow, windowAttributes, windowGeometry } from './families/window';

export const AveragePool = defineOp({
  type: 'AveragePool',
  since: [7, 10, 11, 19, 22],
  quant: { kind: 'elementwise', averages: true },
  inferShape: (context) => [{ dtype: context.input(0).dtype, shape: inferPooling(context) }],
  run([x], { node }) {
    const window = resolveWindow(node, windowAttributes(node), x!.dims.slice(2));
    const [batch, channels] = x!.dims;
    const includePad = node.attributes.int('count_include_pad', 0) !== 0;
    const means = averagePool(toDoubles(x!), batch * channels, window, includePad, (v) => v);
    return [fromDoubles(x!.type, means, [batch, channels, ...window.output])];
  },
  lower(context) {
    const { node } = context;
    const value = node.requiredInput(0);
    const shape = context.shape(value);
    if (context.dtype(value) !== 'float32') return false;
    const window = resolveWindow(node, windowAttributes(node), shape.slice(2));
    const x = context.slot(value, 'nhwc');
    const y = context.output(node.output, 'nhwc');
    context.emit({
      op: 'average_pool',
      x: x.id,
      y: y.id,
      countIncludePad: node.attributes.int('count_include_pad', 0) !== 0,
      ...endPads(window),
      ...windowGeometry(window, shape[0], shape[1]),
    });
    return true;
  },
});

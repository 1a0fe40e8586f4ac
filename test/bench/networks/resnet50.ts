/** ResNet-50 v1.5 at 224 x 224: the stride is in the 3x3 convolution. */
import type { Graph, Value } from '../../../lib/graph/graph';
import { NetworkBuilder } from './builder';

const STAGES = [
  { blocks: 3, width: 64, stride: 1 },
  { blocks: 4, width: 128, stride: 2 },
  { blocks: 6, width: 256, stride: 2 },
  { blocks: 3, width: 512, stride: 2 },
];

export function resnet50(): Graph {
  const b = new NetworkBuilder('resnet50', 224);
  let x = b.maxPool(b.conv(b.image, 64, { kernel: 7, stride: 2, activation: 'Relu' }), 3, 2);
  for (const { blocks, width, stride } of STAGES) {
    for (let i = 0; i < blocks; i++) x = bottleneck(b, x, width, i === 0 ? stride : 1, i === 0);
  }
  return b.finish(b.classify(b.globalAveragePool(x), 1000));
}

function bottleneck(b: NetworkBuilder, x: Value, width: number, stride: number, project: boolean): Value {
  let y = b.conv(x, width, { activation: 'Relu' });
  y = b.conv(y, width, { kernel: 3, stride, activation: 'Relu' });
  y = b.conv(y, 4 * width);
  return b.activate(b.add(y, project ? b.conv(x, 4 * width, { stride }) : x), 'Relu');
}

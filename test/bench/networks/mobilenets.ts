/** MobileNetV2, MobileNetV3-Large and EfficientNet-B0 at 224 x 224: inverted residuals in three dialects. */
import type { Graph, Value } from '../../../lib/graph/graph';
import { type Activation, NetworkBuilder } from './builder';

interface Block {
  kernel: number;
  /** Channels of the depthwise convolution. */
  expanded: number;
  outputs: number;
  stride: number;
  activation: Activation;
  /** Channels of the squeeze and its two activations. */
  excite?: { squeezed: number; inner: Activation; gate: Activation };
}

function invertedResidual(b: NetworkBuilder, x: Value, block: Block): Value {
  const { kernel, expanded, outputs, stride, activation, excite } = block;
  const inputs = b.channels(x);
  let y = expanded === inputs ? x : b.conv(x, expanded, { activation });
  y = b.conv(y, expanded, { kernel, stride, group: 'depthwise', activation });
  if (excite) y = b.squeezeExcite(y, excite.squeezed, excite.inner, excite.gate);
  y = b.conv(y, outputs);
  return stride === 1 && inputs === outputs ? b.add(x, y) : y;
}

/** [expansion, outputs, repeats, stride] */
const MOBILENET_V2 = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const;

export function mobilenetV2(): Graph {
  const b = new NetworkBuilder('mobilenetv2', 224);
  const activation = 'Relu6';
  let x = b.conv(b.image, 32, { kernel: 3, stride: 2, activation });
  for (const [expansion, outputs, repeats, stride] of MOBILENET_V2) {
    for (let i = 0; i < repeats; i++) {
      const expanded = b.channels(x) * expansion;
      x = invertedResidual(b, x, { kernel: 3, expanded, outputs, stride: i === 0 ? stride : 1, activation });
    }
  }
  return b.finish(b.classify(b.globalAveragePool(b.conv(x, 1280, { activation })), 1000));
}

/** [kernel, expanded, outputs, squeezed or 0, activation, stride] */
const MOBILENET_V3 = [
  [3, 16, 16, 0, 'Relu', 1],
  [3, 64, 24, 0, 'Relu', 2],
  [3, 72, 24, 0, 'Relu', 1],
  [5, 72, 40, 24, 'Relu', 2],
  [5, 120, 40, 32, 'Relu', 1],
  [5, 120, 40, 32, 'Relu', 1],
  [3, 240, 80, 0, 'HardSwish', 2],
  [3, 200, 80, 0, 'HardSwish', 1],
  [3, 184, 80, 0, 'HardSwish', 1],
  [3, 184, 80, 0, 'HardSwish', 1],
  [3, 480, 112, 120, 'HardSwish', 1],
  [3, 672, 112, 168, 'HardSwish', 1],
  [5, 672, 160, 168, 'HardSwish', 2],
  [5, 960, 160, 240, 'HardSwish', 1],
  [5, 960, 160, 240, 'HardSwish', 1],
] as const;

export function mobilenetV3Large(): Graph {
  const b = new NetworkBuilder('mobilenetv3-large', 224);
  let x = b.conv(b.image, 16, { kernel: 3, stride: 2, activation: 'HardSwish' });
  for (const [kernel, expanded, outputs, squeezed, activation, stride] of MOBILENET_V3) {
    const excite = squeezed > 0 ? { squeezed, inner: 'Relu' as const, gate: 'HardSigmoid' as const } : undefined;
    x = invertedResidual(b, x, { kernel, expanded, outputs, stride, activation, excite });
  }
  x = b.globalAveragePool(b.conv(x, 960, { activation: 'HardSwish' }));
  return b.finish(b.classify(b.classify(x, 1280, 'HardSwish'), 1000));
}

/** [expansion, kernel, outputs, repeats, stride] */
const EFFICIENTNET_B0 = [
  [1, 3, 16, 1, 1],
  [6, 3, 24, 2, 2],
  [6, 5, 40, 2, 2],
  [6, 3, 80, 3, 2],
  [6, 5, 112, 3, 1],
  [6, 5, 192, 4, 2],
  [6, 3, 320, 1, 1],
] as const;

export function efficientnetB0(): Graph {
  const b = new NetworkBuilder('efficientnet-b0', 224);
  const activation = 'SiLU';
  let x = b.conv(b.image, 32, { kernel: 3, stride: 2, activation });
  for (const [expansion, kernel, outputs, repeats, stride] of EFFICIENTNET_B0) {
    for (let i = 0; i < repeats; i++) {
      const inputs = b.channels(x);
      const excite = { squeezed: inputs >> 2, inner: 'SiLU' as const, gate: 'Sigmoid' as const };
      const expanded = inputs * expansion;
      x = invertedResidual(b, x, { kernel, expanded, outputs, stride: i === 0 ? stride : 1, activation, excite });
    }
  }
  return b.finish(b.classify(b.globalAveragePool(b.conv(x, 1280, { activation })), 1000));
}

/** A YOLOv5n-like detector at 640 x 640: cross-stage blocks, pyramid pooling, concatenations, upsampling, three heads. */
import type { Graph, Value } from '../../../lib/graph/graph';
import { NetworkBuilder } from './builder';

const activation = 'SiLU';
/** 3 anchors x (4 coordinates, objectness, 80 classes). */
const HEAD = 3 * 85;

export function yolo(): Graph {
  const b = new NetworkBuilder('yolo', 640);
  const down = (x: Value, outputs: number): Value => b.conv(x, outputs, { kernel: 3, stride: 2, activation });
  let x = b.conv(b.image, 16, { kernel: 7, stride: 2, activation });
  x = crossStage(b, down(x, 32), 32, 1, true);
  const p3 = crossStage(b, down(x, 64), 64, 2, true);
  const p4 = crossStage(b, down(p3, 128), 128, 3, true);
  x = crossStage(b, down(p4, 256), 256, 1, true);
  const top = b.conv(pyramidPool(b, x, 256), 128, { activation });
  const middle = b.conv(crossStage(b, b.concat(b.upsample(top), p4), 128, 1, false), 64, { activation });
  const small = crossStage(b, b.concat(b.upsample(middle), p3), 64, 1, false);
  const medium = crossStage(b, b.concat(down(small, 64), middle), 128, 1, false);
  const large = crossStage(b, b.concat(down(medium, 128), top), 256, 1, false);
  return b.finish(...[small, medium, large].map((level) => b.activate(b.conv(level, HEAD), 'Sigmoid')));
}

/** C3: half of the channels go through bottlenecks, half go past them. */
function crossStage(b: NetworkBuilder, x: Value, outputs: number, repeats: number, shortcut: boolean): Value {
  const half = outputs >> 1;
  let y = b.conv(x, half, { activation });
  for (let i = 0; i < repeats; i++) {
    const z = b.conv(b.conv(y, half, { activation }), half, { kernel: 3, activation });
    y = shortcut ? b.add(y, z) : z;
  }
  return b.conv(b.concat(y, b.conv(x, half, { activation })), outputs, { activation });
}

/** SPPF: three max poolings in a row, all joined. */
function pyramidPool(b: NetworkBuilder, x: Value, outputs: number): Value {
  const y0 = b.conv(x, outputs >> 1, { activation });
  const y1 = b.maxPool(y0, 5, 1);
  const y2 = b.maxPool(y1, 5, 1);
  return b.conv(b.concat(y0, y1, y2, b.maxPool(y2, 5, 1)), outputs, { activation });
}

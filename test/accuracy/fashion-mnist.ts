/** Top-1 of the two small networks of examples/fashion-mnist on its 2 000 test images. */
import path from 'node:path';
import { loadImages, loadLabels, toTensor } from '../../examples/fashion-mnist/data';
import type { InferenceSession } from '../../lib';
import { portion, type Task } from './task';

const FOLDER = path.join(__dirname, '..', '..', 'examples', 'fashion-mnist');
const BATCH = 50;

export const fashionMnist: Task[] = ['resnet8', 'mobilenetv2'].map((name) => ({
  name: `fashion-mnist ${name}`,
  metric: 'top-1',
  model: path.join(FOLDER, `${name}.onnx`),
  *calibration() {
    const images = loadImages('calibration-images.idx.gz');
    for (let i = 0; i < images.count; i++) yield { input: toTensor(images, i, 1) };
  },
  async evaluate(session, share) {
    return { 'test images': await top1(session, share) };
  },
}));

async function top1(session: InferenceSession, share: number): Promise<number> {
  const images = loadImages('test-images.idx.gz');
  const labels = loadLabels('test-labels.idx.gz');
  const count = portion(images.count, share);
  let right = 0;
  for (let from = 0; from < count; from += BATCH) {
    const size = Math.min(BATCH, count - from);
    const { logits } = await session.run({ input: toTensor(images, from, size) });
    const scores = logits.data as Float32Array;
    for (let i = 0; i < size; i++) {
      const row = scores.subarray(i * 10, (i + 1) * 10);
      if (row.indexOf(Math.max(...row)) === labels[from + i]) right++;
    }
  }
  return right / count;
}

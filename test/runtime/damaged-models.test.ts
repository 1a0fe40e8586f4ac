/** Damaged quantized models through the whole road, load to run: a Q8Error or a result, never anything else. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { InferenceSession, Q8Error, quantize, Tensor } from '../../lib';

const MODEL = 'examples/fashion-mnist/resnet8.onnx';
const VARIANTS = 80;

/** mulberry32: the same damage in every run. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function loadAndRun(model: Uint8Array, input: Tensor): Promise<void> {
  using session = await InferenceSession.create(model);
  session.runSync(Object.fromEntries(session.inputNames.map((name) => [name, input])));
}

describe('damaged quantized models', function () {
  this.timeout(60_000);

  for (const format of ['qoperator', 'qdq'] as const) {
    it(`${VARIANTS} bit-flipped ${format} variants give a Q8Error or run`, async () => {
      const random = randomNumbers(2024);
      const pixels = () => Float32Array.from({ length: 28 * 28 }, () => random() * 4 - 1);
      const feed = { input: new Tensor('float32', pixels(), [1, 1, 28, 28]) };
      const { model } = await quantize(new Uint8Array(readFileSync(MODEL)), {
        mode: 'static',
        calibration: [feed],
        format,
      });
      let refused = 0;
      for (let variant = 0; variant < VARIANTS; variant++) {
        const damaged = model.slice();
        for (let flips = 1 + Math.floor(random() * 4); flips > 0; flips--) {
          // Structure is dense at both ends of the file; most of the middle is weights.
          const reach = random() < 0.9 ? damaged.length : 20_000;
          damaged[Math.floor(random() * reach)] ^= 1 << Math.floor(random() * 8);
        }
        try {
          await loadAndRun(damaged, feed.input);
        } catch (error) {
          refused++;
          assert.ok(error instanceof Q8Error, `variant ${variant}: ${(error as Error).stack}`);
        }
      }
      assert.ok(refused > 0 && refused < VARIANTS, `${refused} of ${VARIANTS} were refused`);
    });
  }
});

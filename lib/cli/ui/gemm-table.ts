/** Results of a GEMM benchmark as a table. */
import type { GemmRow } from '../../bench/gemm';
import { formatTable, type TableOptions } from './table';
import { formatDuration } from './units';

export function formatGemm(rows: readonly GemmRow[], options: Pick<TableOptions, 'styleHeader'> = {}): string {
  const cells = rows.map((row) => [
    row.pair,
    row.weights,
    row.shape.join(' x '),
    row.threads,
    formatDuration(row.milliseconds),
    row.gmacPerSecond.toFixed(1),
    `${row.percentOfPeak.toFixed(0)} %`,
    row.ortMilliseconds === null ? null : formatDuration(row.ortMilliseconds),
    row.ortMilliseconds === null ? null : `${(row.ortMilliseconds / row.milliseconds).toFixed(2)}x`,
  ]);
  const header = ['types', 'weights', 'M x N x K', 'threads', 'time', 'GMAC/s', 'of peak', 'onnxruntime', 'faster'];
  return formatTable(header, cells, { align: 'lllrrrrrr', ...options });
}

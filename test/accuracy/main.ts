/**
 * `npm run accuracy`: what int8 costs on every task, beside float. Takes some minutes.
 *
 *   npm run accuracy -- --task ocr --share 0.2 --options '{"calibrationMethod":"percentile"}' --report folder
 *
 * `--task` takes a part of a name, `--share` less of the test data, `--options` options of quantize() for mode 'static',
 * `--report` a folder for one page per task. `--best` judges the settings that docs/quantizer.md names instead of defaults,
 * where there are any. Fails when int8 loses more than 1 % of the float score, or a model cannot be had.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { InferenceSession, type QuantizeOptions, quantize, renderHtml } from '../../lib';
import { type Cell, formatTable } from '../../lib/cli/ui/table';
import type { Task } from './task';
import { TASKS } from './tasks';

/** Share of the float score that int8 may lose. */
const TOLERANCE = 0.01;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      task: { type: 'string', default: '' },
      share: { type: 'string', default: '1' },
      options: { type: 'string', default: '{}' },
      best: { type: 'boolean', default: false },
      report: { type: 'string' },
    },
  });
  const share = Number(values.share);
  const rows: Cell[][] = [];
  for (const task of TASKS.filter(({ name }) => name.includes(values.task))) {
    const float = readFloat(task);
    if (!float) {
      process.exitCode = 1;
      rows.push([task.name, '', task.metric, '', '', '', '', 'not measured']);
      continue;
    }
    const score = async (model: Uint8Array): Promise<Record<string, number>> => {
      const session = await InferenceSession.create(model);
      try {
        return await task.evaluate(session, share);
      } finally {
        session.dispose();
      }
    };
    const reference = await score(float);
    const modes: QuantizeOptions[] = [
      {
        mode: 'static',
        calibration: [...task.calibration()],
        ...(values.best ? task.best : {}),
        ...JSON.parse(values.options),
        ...(values.report ? { analyze: { latency: true } } : {}),
      },
      ...(task.dynamic ? [{ mode: 'dynamic' } as const] : []),
    ];
    for (const options of modes) {
      const { model, report } = await quantize(float, options);
      if (values.report && report.analysis) {
        const file = path.join(values.report, `${task.name.replaceAll(' ', '-')}.html`);
        writeFileSync(file, renderHtml({ title: task.name, subtitle: task.metric, quantization: report }));
      }
      for (const [condition, value] of Object.entries(await score(model))) {
        const before = reference[condition];
        const loss = (before - value) / before;
        if (loss > TOLERANCE) process.exitCode = 1;
        const row = [task.name, condition, task.metric, options.mode, percent(before), percent(value), percent(loss)];
        rows.push([...row, loss > TOLERANCE ? 'too much' : 'ok']);
        console.error(row.join('  '));
      }
    }
  }
  const header = ['task', 'on', 'metric', 'mode', 'float32', 'int8', 'lost', ''];
  console.log(formatTable(header, rows, { align: 'llllrrrl' }));
}

/** The float model; undefined, with a message, when it cannot be had. Other tasks go on. */
function readFloat(task: Task): Uint8Array | undefined {
  try {
    return new Uint8Array(readFileSync(task.model));
  } catch (error) {
    console.error(`${task.name}: ${(error as Error).message}`);
    return undefined;
  }
}

function percent(value: number): string {
  return `${(100 * value).toFixed(2)} %`;
}

void main();

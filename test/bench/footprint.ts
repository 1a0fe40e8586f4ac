/**
 * What loading a model costs a process of its own: the program of a child process, and the function that starts it. The
 * time is that of creating the session; memory is counted from the moment when the runtime is loaded and the model is not.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { loadRuntime, type RuntimeName } from './runtimes';
import { Tensor } from '../../lib/tensor/tensor';

export interface Footprint {
  createMilliseconds: number;
  /** Resident memory above that of the process with the runtime alone, at its peak and after the runs. */
  peakBytes: number;
  residentBytes: number;
}

interface Order {
  runtime: RuntimeName;
  model: string;
  threads: number;
  input: string;
  dims: number[];
}

const RUNS = 5;

/** Starts a process that loads the model and runs it a few times. */
export async function footprint(order: Order): Promise<Footprint> {
  const child = fork(__filename, [], { execArgv: process.execArgv });
  child.send(order);
  const [result] = (await once(child, 'message')) as [Footprint];
  child.disconnect();
  await once(child, 'exit');
  return result;
}

async function serve({ runtime, model, threads, input, dims }: Order): Promise<Footprint> {
  const create = await loadRuntime(runtime);
  const size = dims.reduce((a, b) => a * b, 1);
  const feed = {
    [input]: new Tensor(
      'float32',
      Float32Array.from({ length: size }, (_, i) => Math.sin(i)),
      dims,
    ),
  };
  resetPeak();
  const before = process.memoryUsage.rss();
  const started = performance.now();
  const runner = await create(model, threads);
  const createMilliseconds = performance.now() - started;
  for (let i = 0; i < RUNS; i++) await runner.run(feed);
  const result = {
    createMilliseconds,
    peakBytes: peak() - before,
    residentBytes: process.memoryUsage.rss() - before,
  };
  await runner.release();
  return result;
}

/** On Linux the peak starts anew: loading a runtime may have taken more than running it will. */
function resetPeak(): void {
  if (process.platform === 'linux') writeFileSync('/proc/self/clear_refs', '5');
}

function peak(): number {
  if (process.platform !== 'linux') return process.resourceUsage().maxRSS * 1024;
  return Number(/VmHWM:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))![1]) * 1024;
}

if (require.main === module) {
  process.once('message', (order: Order) => {
    void serve(order).then((result) => process.send!(result));
  });
}

/** Memory stays flat while batch and image sizes change; `npx tsx test/bench/soak.ts` does the same for longer. */
import assert from 'node:assert/strict';
import { loadBinding } from '../../lib/binding/load';
import { soak } from '../bench/soak';

const RUNS = 1200;
const SAMPLES = 6;
/** What allocators and the JavaScript engine take and give back: a leaked plan or arena a run would be far more. */
const RESIDENT_SLACK = 16 * 2 ** 20;
const HEAP_SLACK = 2 ** 21;

describe('runtime: memory', () => {
  it(`is flat over ${RUNS} runs of changing shapes`, async function () {
    this.timeout(120_000);
    const weights = loadBinding().sharedWeights();
    const samples = await soak(RUNS, SAMPLES);
    assert.equal(samples.length, SAMPLES);
    // The first third fills plan caches and free lists.
    const warm = samples[SAMPLES / 3 - 1];
    const last = samples[SAMPLES - 1];
    const seen = JSON.stringify(samples);
    assert.ok(last.residentBytes - warm.residentBytes < RESIDENT_SLACK, seen);
    assert.ok(last.heapBytes + last.bufferBytes - warm.heapBytes - warm.bufferBytes < HEAP_SLACK, seen);
    assert.equal(last.weights, warm.weights);
    assert.equal(loadBinding().sharedWeights(), weights, 'all weights are freed with their sessions');
  });
});

/** The cache of plans: one making for all who wait, eviction in the order of use, and errors that leave nothing behind. */
import assert from 'node:assert/strict';
import { PlanCache } from '../../lib/runtime/plan-cache';
import { finish, finishInTurns, inTurns, type Slices } from '../../lib/runtime/slices';

function* threeSlices(name: string, log: string[]): Slices<string> {
  for (const part of [1, 2]) {
    log.push(`${name}${part}`);
    yield;
  }
  log.push(`${name}3`);
  return name;
}

describe('runtime: plan cache', () => {
  it('makes a plan once, whoever goes on with it', () => {
    const log: string[] = [];
    const cache = new PlanCache<string>(2, () => assert.fail('nothing is evicted'));
    const make = (): Slices<string> => threeSlices('a', log);
    const first = cache.get('a', make);
    assert.equal(first.next().done, false);
    // Somebody who cannot wait finishes it...
    assert.equal(finish(cache.get('a', make)), 'a');
    // ...for the first one too.
    assert.deepEqual(first.next(), { done: true, value: 'a' });
    assert.deepEqual(log, ['a1', 'a2', 'a3']);
    assert.equal(cache.size, 1);
  });

  it('goes on with what somebody has given up', () => {
    const log: string[] = [];
    const cache = new PlanCache<string>(2, () => {});
    const first = cache.get('a', () => threeSlices('a', log));
    first.next();
    first.return('');
    assert.equal(finish(cache.get('a', () => assert.fail('it is being made'))), 'a');
  });

  it('evicts what was used longest ago', () => {
    const evicted: string[] = [];
    const cache = new PlanCache<string>(2, (plan) => evicted.push(plan));
    for (const name of ['a', 'b', 'a', 'c']) finish(cache.get(name, () => threeSlices(name, [])));
    assert.deepEqual(evicted, ['b']);
    assert.equal(cache.latest, 'c');
    cache.clear();
    assert.deepEqual(evicted, ['b', 'a', 'c']);
  });

  it('tries anew after an error', () => {
    const cache = new PlanCache<string>(2, () => {});
    function* failing(): Slices<string> {
      yield;
      throw new Error('no plan');
    }
    const waiting = cache.get('a', failing);
    waiting.next();
    assert.throws(() => finish(cache.get('a', failing)), /no plan/);
    assert.throws(() => finish(waiting), /no plan/);
    assert.equal(finish(cache.get('a', () => threeSlices('a', []))), 'a');
  });
});

describe('runtime: slices', () => {
  function* busy(slices: number, milliseconds: number): Slices<number> {
    for (let i = 0; i < slices; i++) {
      for (const end = performance.now() + milliseconds; performance.now() < end; );
      yield;
    }
    return slices;
  }

  it('yield only when the event loop should have a turn', () => {
    assert.equal([...inTurns(busy(100, 0))].length, 0);
    assert.ok([...inTurns(busy(4, 6))].length >= 3);
  });

  it('let timers tick', async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    assert.equal(await finishInTurns(busy(10, 6)), 10);
    clearInterval(timer);
    assert.ok(ticks >= 5);
  });
});

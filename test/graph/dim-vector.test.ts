/** Sizes with names through the words in which exporters compute shapes. */
import assert from 'node:assert/strict';
import type { Value } from '../../lib/graph/graph';
import { type Inference, inferShapes } from '../../lib/graph/infer';
import { lookupOp } from '../../lib/ops/registry';
import { Tensor } from '../../lib/tensor/tensor';
import { int, NetworkBuilder } from '../quantize/networks';

/** A network with input x [N, T, 8] and its sizes. */
class Sizes extends NetworkBuilder {
  readonly x = this.input('x', ['N', 'T', 8]);
  readonly shape = this.node('Shape', 'shape', [this.x]);

  list(name: string, ...values: number[]): Value {
    return this.constant(name, new Tensor('int64', values));
  }

  scalar(name: string, value: number): Value {
    return this.constant(name, new Tensor('int64', [value], []));
  }

  size(name: string, axis: number): Value {
    return this.node('Gather', name, [this.shape, this.scalar(`${name}_axis`, axis)], { axis: int(0) });
  }

  infer(output: Value): Inference {
    this.output(output);
    return inferShapes(this.graph, lookupOp);
  }
}

describe('graph: pieces of shapes', () => {
  it('replaces the -1 of Expand', () => {
    const net = new Sizes();
    const as = (name: string, axis: number) =>
      net.node('Unsqueeze', `${name}1`, [net.size(name, axis), net.list(`${name}_0`, 0)]);
    const wanted = net.node('Concat', 'wanted', [as('n', 0), net.list('minus', -1), as('t', 1)], { axis: int(0) });
    const flat = net.node('Reshape', 'flat', [wanted, net.list('all', -1)]);
    const marks = net.node('Equal', 'marks', [flat, net.list('marked', -1, -1, -1)]);
    const target = net.node('Where', 'target', [marks, net.list('ones', 1, 1, 1), flat]);
    const y = net.node('Expand', 'y', [net.weight('row', [5, 1]), target]);
    net.infer(y);
    assert.deepEqual(y.type?.shape, ['N', 5, 'T']);
  });

  it('counts by name: Range, ConstantOfShape, differences', () => {
    const net = new Sizes();
    const t = net.size('t', 1);
    const range = net.node('Range', 'range', [net.scalar('zero', 0), t, net.scalar('one', 1)]);
    const filled = net.node('ConstantOfShape', 'filled', [net.shape]);
    const none = net.node('Sub', 'none', [t, net.size('again', 1)]);
    const inference = net.infer(none);
    assert.deepEqual(range.type?.shape, ['T']);
    assert.deepEqual(filled.type?.shape, ['N', 'T', 8]);
    assert.deepEqual(inference.constantOf(none), new Tensor('int64', [0n], []));
    const other = net.node('Sub', 'other', [t, net.size('n', 0)]);
    const later = net.node('Range', 'later', [net.scalar('two', 2), t, net.scalar('step', 1)]);
    assert.equal(inferShapes(net.graph, lookupOp).constantOf(other), undefined);
    assert.notDeepEqual(later.type?.shape, ['T']);
  });

  it('takes rows of a table up to a size: with others of that size they broadcast to it, alone they may be fewer', () => {
    const net = new Sizes();
    const end = net.node('Unsqueeze', 'end', [net.size('t', 1), net.list('front', 0)]);
    const rows = (name: string, table: Value): Value =>
      net.node('Slice', name, [table, net.list(`${name}_start`, 0), end, net.list(`${name}_axis`, 0)]);
    const part = rows('part', net.weight('table', [24, 8]));
    const sum = net.node('Add', 'sum', [net.x, part]);
    const twice = net.node('Add', 'twice', [part, rows('same', net.weight('table2', [24, 8]))]);
    const row = net.node('Add', 'row_sum', [net.x, rows('row', net.weight('table1', [1, 8]))]);
    net.infer(sum);
    assert.deepEqual(sum.type?.shape, ['N', 'T', 8]);
    assert.notEqual(part.type?.shape?.[0], 'T');
    assert.deepEqual(twice.type?.shape, part.type?.shape);
    // One row: as many as the other has, or none.
    assert.notEqual(row.type?.shape?.[1], 'T');
  });
});

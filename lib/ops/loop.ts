/**
 * Loop (ai.onnx 1, 11, 13, 16, 19, 21): a body repeated up to a count and while a condition holds. Inputs: M?, cond?, the
 * loop-carried values. The body takes (iteration, condition, carried...) and gives (condition, carried..., scan outputs...).
 */
import { type Graph, isConcrete, type Node, type ValueType } from '../graph/graph';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError } from './families/inference';
import { concat } from './families/strided';
import { int64Tensor, scalarOf } from './families/values';

function bodyOf(node: Node): Graph {
  const body = node.attributes.graph('body');
  if (!body) throw modelError(node, 'a graph', 'body', 'nothing');
  if (body.inputs.length < 2 || body.outputs.length < body.inputs.length - 1) {
    throw modelError(node, 'at least 2 inputs, and an output for each but the first', 'body', [
      body.inputs.length,
      body.outputs.length,
    ]);
  }
  return body;
}

const ITERATION: ValueType = { dtype: 'int64', shape: [] };
const CONDITION: ValueType = { dtype: 'bool', shape: [] };

export const Loop = defineOp({
  type: 'Loop',
  since: [1, 11, 13, 16, 19, 21],
  inferShape(context) {
    const { node } = context;
    const body = bodyOf(node);
    const carriedCount = body.inputs.length - 2;
    const carried = Array.from({ length: carriedCount }, (_, i) => context.input(i + 2));
    const isStable = (a: ValueType, b: ValueType): boolean =>
      isConcrete(a.shape) && isConcrete(b.shape) && a.shape.join() === b.shape.join();
    const first = context.inferSubgraph(body, [ITERATION, CONDITION, ...carried]);
    // A carried value whose shape changes in one round may have any shape in the next.
    const settled = carried.map((type, i) => (isStable(type, first[i + 1]) ? type : { dtype: type.dtype }));
    const outputs = settled.every((type, i) => type === carried[i])
      ? first
      : context.inferSubgraph(body, [ITERATION, CONDITION, ...settled]);
    const scans = outputs
      .slice(1 + carriedCount)
      .map(({ dtype, shape }): ValueType => ({ dtype, shape: shape && [context.unknownDim(), ...shape] }));
    return [...settled, ...scans];
  },
  run([count, condition, ...initial], { node, runSubgraph }) {
    const body = bodyOf(node);
    const carriedCount = body.inputs.length - 2;
    const limit = count ? scalarOf(count) : Number.POSITIVE_INFINITY;
    let keepsGoing = condition ? scalarOf(condition) !== 0 : true;
    if (limit === Number.POSITIVE_INFINITY && !node.input(1) && body.outputs[0].constant) {
      throw modelError(
        node,
        'a trip count or a computed condition',
        'the loop',
        'neither',
        'the loop would never end.',
      );
    }
    let carried = initial.slice(0, carriedCount) as Tensor[];
    const scans: Tensor[][] = body.outputs.slice(1 + carriedCount).map(() => []);
    for (let i = 0; i < limit && keepsGoing; i++) {
      const outputs = runSubgraph(body, [int64Tensor([i], []), new Tensor('bool', Uint8Array.of(1), []), ...carried]);
      keepsGoing = scalarOf(outputs[0]) !== 0;
      carried = outputs.slice(1, 1 + carriedCount);
      scans.forEach((list, k) => {
        const part = outputs[1 + carriedCount + k];
        list.push(part.reshape([1, ...part.dims]));
      });
    }
    return [
      ...carried,
      ...scans.map((list, k) =>
        list.length > 0 ? concat(list[0].type, list, 0) : emptyScan(body, 1 + carriedCount + k),
      ),
    ];
  },
});

/** What a scan output is after no iterations: no rows of the body's declared type. */
function emptyScan(body: Graph, index: number): Tensor {
  const type = body.outputs[index].type;
  const dims = (type?.shape ?? []).map((dim) => (typeof dim === 'number' ? dim : 0));
  return Tensor.zeros(type?.dtype ?? 'float32', [0, ...dims]);
}

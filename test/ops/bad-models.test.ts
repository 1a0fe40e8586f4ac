/** Malformed nodes: a typed error that names the node, from inference and from run() alike; never NaN shapes or hangs. */
import assert from 'node:assert/strict';
import { Q8Error } from '../../lib/errors';
import type { AttributeInit } from '../../lib/graph/attributes';
import { inferShapes } from '../../lib/graph/infer';
import type { ValueType } from '../../lib/graph/graph';
import { lookupOp } from '../../lib/ops/registry';
import { Tensor } from '../../lib/tensor/tensor';
import { evaluate, singleNode } from './evaluate';

const int = (value: number) => ({ kind: 'int', value }) as const;
const ints = (...value: number[]) => ({ kind: 'ints', value }) as const;
const string = (value: string) => ({ kind: 'string', value }) as const;
const floats = (...shape: number[]): ValueType => ({ dtype: 'float32', shape });
const int64 = (...values: number[]): Tensor => new Tensor('int64', values);

const IMAGE = floats(1, 4, 8, 8);
const WEIGHTS = Tensor.zeros('float32', [6, 4, 3, 3]);

const CASES: [string, string, (ValueType | Tensor | null)[], AttributeInit, RegExp][] = [
  ['kernel of 0', 'MaxPool', [IMAGE], { kernel_shape: ints(0, 2) }, /kernel_shape/],
  ['no kernel', 'AveragePool', [IMAGE], {}, /kernel_shape/],
  ['kernel of the wrong rank', 'MaxPool', [IMAGE], { kernel_shape: ints(2) }, /spatial dimensions/],
  ['stride of 0', 'MaxPool', [IMAGE], { kernel_shape: ints(2, 2), strides: ints(0, 1) }, /strides/],
  ['too few pads', 'Conv', [IMAGE, WEIGHTS], { pads: ints(1, 1) }, /pads/],
  ['negative pads', 'Conv', [IMAGE, WEIGHTS], { pads: ints(-1, 0, 0, 0) }, /pads/],
  ['dilation of 0', 'Conv', [IMAGE, WEIGHTS], { dilations: ints(0, 0) }, /dilations/],
  ['group of 0', 'Conv', [IMAGE, WEIGHTS], { group: int(0) }, /group/],
  ['channels that do not fit', 'Conv', [floats(1, 3, 8, 8), WEIGHTS], {}, /channels/],
  ['weights of another rank', 'Conv', [floats(1, 4, 8), WEIGHTS], {}, /rank/],
  ['kernel_shape against weights', 'Conv', [IMAGE, WEIGHTS], { kernel_shape: ints(5, 5) }, /kernel_shape/],
  ['kernel larger than the image', 'Conv', [floats(1, 4, 2, 2), WEIGHTS], {}, /padded input/],
  ['unknown auto_pad', 'Conv', [IMAGE, WEIGHTS], { auto_pad: string('SAME') }, /auto_pad/],
  ['attribute of the wrong kind', 'Conv', [IMAGE, WEIGHTS], { group: ints(1) }, /group/],
  ['inner dimensions', 'MatMul', [floats(2, 3), floats(4, 5)], {}, /inner dimensions/],
  ['scalar operand', 'MatMul', [floats(), floats(4, 5)], {}, /rank/],
  ['Gemm of rank 3', 'Gemm', [floats(2, 3, 4), floats(4, 5)], {}, /rank/],
  ['shapes that do not broadcast', 'Add', [floats(2, 3), floats(4)], {}, /broadcast/],
  ['types that differ', 'Add', [floats(2), { dtype: 'int32', shape: [2] }], {}, /type/],
  ['axis out of range', 'Softmax', [floats(2, 3)], { axis: int(2) }, /axis/],
  ['axis out of range', 'Concat', [floats(2, 3), floats(2, 3)], { axis: int(-3) }, /axis/],
  ['sizes that differ', 'Concat', [floats(2, 3), floats(3, 3)], { axis: int(1) }, /agree/],
  ['perm that is none', 'Transpose', [floats(2, 3)], { perm: ints(0, 0) }, /permutation/],
  ['parts that do not sum up', 'Split', [floats(7), int64(3, 3)], {}, /sum to 7/],
  ['step of 0', 'Slice', [floats(7), int64(0), int64(3), int64(0), int64(0)], {}, /steps/],
  ['axes twice', 'Slice', [floats(7, 7), int64(0, 0), int64(3, 3), int64(0, -2)], {}, /distinct/],
  ['wrong element count', 'Reshape', [floats(2, 3), int64(4, 2)], {}, /6 elements/],
  ['indivisible -1', 'Reshape', [floats(2, 3), int64(4, -1)], {}, /6 elements/],
  ['two -1', 'Reshape', [floats(2, 3), int64(-1, -1)], {}, /at most one -1/],
  ['squeeze of 3', 'Squeeze', [floats(1, 3), int64(1)], {}, /size 1/],
  ['odd number of pads', 'Pad', [floats(2, 3), int64(1, 1, 1)], {}, /pads/],
  ['crop of more than there is', 'Pad', [floats(2, 3), int64(-3, 0, 0, 0)], {}, /pads|removed/],
  ['unknown pad mode', 'Pad', [floats(2, 3), int64(1, 1, 1, 1)], { mode: string('mirror') }, /mode/],
  ['negative shape', 'ConstantOfShape', [int64(2, -1)], {}, /sizes/],
  ['scale of 0', 'Resize', [IMAGE, null, new Tensor('float32', [1, 1, 0, 2])], {}, /scales/],
  ['no scales', 'Resize', [IMAGE], {}, /scales and sizes/],
  ['blocksize of 0', 'DepthToSpace', [IMAGE], { blocksize: int(0) }, /blocksize/],
  ['no target type', 'Cast', [IMAGE], {}, /to/],
  ['constant without value', 'Constant', [], {}, /value/],
  ['more than there is', 'TopK', [floats(3), int64(4)], {}, /at most 3/],
  ['training', 'BatchNormalization', [IMAGE, IMAGE, IMAGE, IMAGE, IMAGE], { training_mode: int(1) }, /training_mode/],
  ['unknown Gelu', 'Gelu', [IMAGE], { approximate: string('erf') }, /approximate|none/],
];

describe('operators: malformed nodes', () => {
  for (const [name, op, inputs, attributes, message] of CASES) {
    it(`${op}: ${name}`, () => {
      const opset = op === 'Gelu' ? 20 : 18;
      const isExpected = (error: unknown): boolean => {
        assert.ok(error instanceof Q8Error, String(error));
        assert.ok(['ERR_Q8_BAD_MODEL', 'ERR_Q8_SHAPE_MISMATCH'].includes(error.code), error.code);
        assert.match(error.message, message);
        assert.match(error.message, new RegExp(`the_${op}`));
        return true;
      };
      if (op !== 'Gelu') {
        assert.throws(() => inferShapes(singleNode(op, inputs, { attributes, opset }).graph, lookupOp), isExpected);
      }
      // Types that differ, and training, are for inference alone to refuse.
      if (/types|training/.test(name)) return;
      const { graph } = singleNode(op, inputs, { attributes, opset });
      const feeds = graph.inputs.map(({ type }) => Tensor.zeros(type!.dtype, type!.shape as number[]));
      assert.throws(() => evaluate(graph, feeds), isExpected);
    });
  }

  it('refuses indices out of range', () => {
    const { graph } = singleNode('Gather', [floats(3, 2), int64(0, 3)]);
    assert.throws(() => evaluate(graph, [Tensor.zeros('float32', [3, 2])]), {
      code: 'ERR_Q8_INVALID_ARGUMENT',
      node: 'the_Gather',
      message: /index in \[-3, 2\].*the_Gather/,
    });
  });
});

describe('operators: symbolic shapes', () => {
  const infer = (op: string, inputs: (ValueType | Tensor | null)[], attributes: AttributeInit = {}) => {
    const { graph, node } = singleNode(op, inputs, { attributes, opset: 18 });
    inferShapes(graph, lookupOp);
    return node.output.type?.shape;
  };
  const batch = (...rest: number[]): ValueType => ({ dtype: 'float32', shape: ['N', ...rest] });

  it('keeps a symbol where the result is certain', () => {
    assert.deepEqual(infer('Conv', [batch(4, 8, 8), WEIGHTS]), ['N', 6, 6, 6]);
    assert.deepEqual(infer('Add', [batch(4), floats(1, 4)]), ['N', 4]);
    assert.deepEqual(infer('Add', [batch(4), batch(1)]), ['N', 4]);
    assert.deepEqual(infer('Reshape', [batch(4, 2), int64(-1, 8)]), ['N', 8]);
    assert.deepEqual(infer('Reshape', [batch(4, 2), int64(0, -1)]), ['N', 8]);
    assert.deepEqual(infer('Flatten', [batch(4, 2)]), ['N', 8]);
    assert.deepEqual(infer('Concat', [batch(4), batch(3)], { axis: int(1) }), ['N', 7]);
    assert.deepEqual(infer('Transpose', [batch(4)]), [4, 'N']);
    assert.deepEqual(infer('MatMul', [batch(7, 4), floats(4, 5)]), ['N', 7, 5]);
    assert.deepEqual(infer('Slice', [batch(4), int64(0, 1), int64(1e10, 3), int64(0, 1)]), ['N', 2]);
    assert.deepEqual(infer('Resize', [batch(3, 8, 8), null, new Tensor('float32', [1, 1, 2, 2])]), ['N', 3, 16, 16]);
    const image: ValueType = { dtype: 'float32', shape: ['N', 4, 'H', 'W'] };
    assert.deepEqual(infer('Conv', [image, WEIGHTS], { pads: ints(1, 1, 1, 1) }), ['N', 6, 'H', 'W']);
    assert.deepEqual(infer('GlobalAveragePool', [image]), ['N', 4, 1, 1]);
  });

  it('invents another name where it is not', () => {
    const image: ValueType = { dtype: 'float32', shape: ['N', 4, 'H', 'W'] };
    const strided = infer('Conv', [image, WEIGHTS], { strides: ints(2, 2) });
    assert.deepEqual(strided?.slice(0, 2), ['N', 6]);
    assert.notEqual(strided?.[2], 'H');
    assert.notEqual(strided?.[2], strided?.[3]);
    assert.equal(typeof infer('Concat', [batch(4), batch(4)], { axis: int(0) })?.[0], 'string');
    assert.notEqual(infer('Concat', [batch(4), batch(4)], { axis: int(0) })?.[0], 'N');
  });
});

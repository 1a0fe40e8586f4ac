/** Constant (ai.onnx 1, 9, 11, 12, 13, 19, 21): the tensor that one of its attributes holds. */
import type { Node } from '../graph/graph';
import { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError } from './families/inference';
import { int64Tensor } from './families/values';

function tensorOf(node: Node): Tensor {
  const { attributes } = node;
  const tensor = attributes.tensor('value');
  if (tensor) return tensor;
  const float = attributes.float('value_float');
  if (float !== undefined) return new Tensor('float32', [float], []);
  const floats = attributes.floats('value_floats');
  if (floats) return new Tensor('float32', floats);
  const int = attributes.int('value_int');
  if (int !== undefined) return int64Tensor([int], []);
  const ints = attributes.ints('value_ints');
  if (ints) return int64Tensor(ints);
  const text = attributes.string('value_string');
  if (text !== undefined) return new Tensor('string', [text], []);
  const texts = attributes.strings('value_strings');
  if (texts) return new Tensor('string', texts);
  const names = [...attributes.entries()].map(([name]) => name);
  throw modelError(node, 'a dense value (value, value_float, value_ints, ...)', 'the attributes', names);
}

export const Constant = defineOp({
  type: 'Constant',
  since: [1, 9, 11, 12, 13, 19, 21],
  inferShape({ node }) {
    const { type, dims } = tensorOf(node);
    return [{ dtype: type, shape: dims }];
  },
  run: (_inputs, { node }) => [tensorOf(node)],
});

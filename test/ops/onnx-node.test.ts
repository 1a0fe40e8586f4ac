/** The backend node tests of the ONNX project against run() and inferShape() of every operator they cover. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { inferTypes } from '../../lib/graph/infer';
import { tensorFromProto } from '../../lib/graph/tensor-proto';
import { onnx } from '../../lib/onnx/onnx-proto';
import { lookupOp } from '../../lib/ops/registry';
import type { Tensor } from '../../lib/tensor/tensor';
import { evaluate, graphOf } from './evaluate';

interface Case {
  name: string;
  model: string;
  sets: { inputs: string[]; outputs: string[] }[];
}

const CASES: Case[] = JSON.parse(
  gunzipSync(fs.readFileSync(path.join(__dirname, '../fixtures/onnx-node/cases.json.gz'))).toString(),
);

function tensor(base64: string): Tensor {
  return tensorFromProto(onnx.TensorProto.decode(Buffer.from(base64, 'base64')), 'the fixture');
}

/** ONNX's own bound for floats: rtol 1e-3; the absolute part covers results that cancel to about zero. */
function assertClose(actual: Tensor, expected: Tensor): void {
  assert.equal(actual.type, expected.type);
  assert.deepEqual([...actual.dims], [...expected.dims]);
  if (expected.type !== 'float32') {
    assert.deepEqual(actual.data, expected.data);
    return;
  }
  const [a, b] = [actual.data as Float32Array, expected.data as Float32Array];
  for (let i = 0; i < b.length; i++) {
    if (Object.is(a[i], b[i]) || a[i] === b[i]) continue;
    assert.ok(Math.abs(a[i] - b[i]) <= 1e-6 + 1e-3 * Math.abs(b[i]), `element ${i}: ${a[i]} instead of ${b[i]}`);
  }
}

describe('operators: ONNX backend node tests', () => {
  it('finds all cases', () => assert.equal(CASES.length, 512));

  for (const { name, model, sets } of CASES) {
    it(name, () => {
      const graph = graphOf(Buffer.from(model, 'base64'));
      for (const set of sets) {
        const inputs = set.inputs.map(tensor);
        const outputs = evaluate(graph, inputs);
        assert.equal(outputs.length, set.outputs.length);
        for (const [i, output] of set.outputs.entries()) assertClose(outputs[i], tensor(output));

        // Shapes inferred without data must not contradict; with data they must be exact unless they depend on values.
        const types = new Map(
          graph.inputs.map((value, i) => [value, { dtype: inputs[i].type, shape: inputs[i].dims }] as const),
        );
        const blind = inferTypes(graph, lookupOp, { inputTypes: types });
        const informed = inferTypes(graph, lookupOp, {
          inputTypes: types,
          constants: new Map(graph.inputs.map((value, i) => [value, inputs[i]] as const)),
        });
        for (const [i, value] of graph.outputs.entries()) {
          const known = blind.typeOf(value);
          assert.equal(known?.dtype, outputs[i].type);
          known?.shape?.forEach((dim, axis) => {
            if (typeof dim === 'number') assert.equal(dim, outputs[i].dims[axis], `axis ${axis}`);
          });
          assert.deepEqual(informed.typeOf(value), { dtype: outputs[i].type, shape: [...outputs[i].dims] });
        }
      }
    });
  }
});

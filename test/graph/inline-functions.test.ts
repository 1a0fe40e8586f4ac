import assert from 'node:assert/strict';
import * as ort from 'onnxruntime-node';
import { graphFromProto } from '../../lib/graph/from-proto';
import { inlineFunctions } from '../../lib/graph/inline-functions';
import { graphToProto } from '../../lib/graph/to-proto';
import { AttributeType, type FunctionProto, type ModelProto, type NodeProto } from '../../lib/onnx/proto';
import { decodeModel } from '../../lib/onnx/read';
import { writeModel } from '../../lib/onnx/write';

function node(opType: string, input: string[], output: string[], more: NodeProto = {}): NodeProto {
  return { opType, input, output, ...more };
}

const floatAttribute = (name: string, f: number) => ({ name, type: AttributeType.FLOAT, f });
const info = (name: string) => ({ name, type: { tensorType: { elemType: 1, shape: { dim: [{ dimValue: 3 }] } } } });

/** Leaky(x; slope = 0.5) = LeakyRelu(LeakyRelu(x)), and Twice(x) = Leaky(Leaky(x; 0.25)) + x. */
const LEAKY: FunctionProto = {
  name: 'Leaky',
  domain: 'local',
  input: ['x'],
  output: ['y'],
  attributeProto: [floatAttribute('slope', 0.5)],
  opsetImport: [{ domain: '', version: 17 }],
  node: [
    node('LeakyRelu', ['x'], ['t'], {
      attribute: [{ name: 'alpha', type: AttributeType.FLOAT, refAttrName: 'slope' }],
    }),
    node('LeakyRelu', ['t'], ['y'], {
      attribute: [{ name: 'alpha', type: AttributeType.FLOAT, refAttrName: 'slope' }],
    }),
  ],
};
const TWICE: FunctionProto = {
  name: 'Twice',
  domain: 'local',
  input: ['x'],
  output: ['y'],
  opsetImport: [
    { domain: '', version: 17 },
    { domain: 'local', version: 1 },
  ],
  node: [
    node('Leaky', ['x'], ['t'], { domain: 'local', attribute: [floatAttribute('slope', 0.25)] }),
    node('Leaky', ['t'], ['u'], { domain: 'local' }),
    node('Add', ['u', 'x'], ['y']),
  ],
};

function model(nodes: NodeProto[], functions: FunctionProto[]): ModelProto {
  const opsetImport = [
    { domain: '', version: 17 },
    { domain: 'local', version: 1 },
  ];
  return {
    irVersion: 8,
    opsetImport,
    functions,
    graph: { name: 'g', node: nodes, input: [info('x')], output: [info('z')] },
  };
}

async function run(bytes: Uint8Array): Promise<number[]> {
  const session = await ort.InferenceSession.create(bytes);
  const { z } = await session.run({ x: new ort.Tensor('float32', [-8, 1, -0.5], [3]) });
  await session.release();
  return [...(z.data as Float32Array)];
}

describe('inlineFunctions', () => {
  it('gives the same results as the calls', async () => {
    const nodes = [
      node('Twice', ['x'], ['t'], { domain: 'local' }),
      node('Twice', ['t'], ['z'], { domain: 'local', name: 'last' }),
    ];
    const bytes = writeModel(model(nodes, [LEAKY, TWICE]));
    const graph = graphFromProto(decodeModel(bytes));
    assert.deepEqual([...graph.nodes].map(({ op }) => op).sort(), ['Add', 'Add', ...new Array(8).fill('LeakyRelu')]);
    const inlined = writeModel(graphToProto(graph));
    assert.equal(decodeModel(inlined).functions?.length, 0);
    assert.deepEqual(await run(inlined), await run(bytes));
  });

  it('returns a model without functions as it is', () => {
    const plain = model([node('Relu', ['x'], ['z'])], []);
    assert.equal(inlineFunctions(plain), plain);
  });

  it('stops recursion and growth', () => {
    const call = (name: string, input: string, output: string) => node(name, [input], [output], { domain: 'local' });
    const self: FunctionProto = { ...TWICE, name: 'Self', node: [call('Self', 'x', 'y')] };
    assert.throws(() => inlineFunctions(model([call('Self', 'x', 'z')], [self])), { code: 'ERR_Q8_BAD_MODEL' });
    // Each doubles the one before: 2^60 nodes if nobody counts.
    const doubling = Array.from(
      { length: 60 },
      (_, i): FunctionProto => ({
        ...TWICE,
        name: `F${i}`,
        node: i === 0 ? [node('Relu', ['x'], ['y'])] : [call(`F${i - 1}`, 'x', 't'), call(`F${i - 1}`, 't', 'y')],
      }),
    );
    assert.throws(() => inlineFunctions(model([call('F59', 'x', 'z')], doubling)), { code: 'ERR_Q8_BAD_MODEL' });
  });

  it('refuses a function of another opset', () => {
    const old: FunctionProto = { ...LEAKY, opsetImport: [{ domain: '', version: 13 }] };
    const nodes = [node('Leaky', ['x'], ['z'], { domain: 'local' })];
    assert.throws(() => graphFromProto(model(nodes, [old])), { code: 'ERR_Q8_UNSUPPORTED_OP', message: /version 13/ });
  });
});

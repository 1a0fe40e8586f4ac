import assert from 'node:assert/strict';
import { Q8Error } from '../../lib/errors';
import { graphFromProto } from '../../lib/graph/from-proto';
import { type Graph, isUnknownDim } from '../../lib/graph/graph';
import { tensorFromProto } from '../../lib/graph/tensor-proto';
import { graphToProto } from '../../lib/graph/to-proto';
import {
  AttributeType,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from '../../lib/onnx/proto';
import { decodeModel } from '../../lib/onnx/read';
import { writeModel } from '../../lib/onnx/write';
import type { DType } from '../../lib/tensor/dtype';

function info(name: string, dims: (number | string)[] = [2], elemType = 1): ValueInfoProto {
  const dim = dims.map((size) => (typeof size === 'string' ? { dimParam: size } : { dimValue: size }));
  return { name, type: { tensorType: { elemType, shape: { dim } } } };
}

function node(opType: string, input: string[], output: string[], more: NodeProto = {}): NodeProto {
  return { opType, input, output, ...more };
}

function floats(name: string, values: number[]): TensorProto {
  return { name, dims: [values.length], dataType: 1, floatData: values };
}

/** A model around a graph, through bytes, as if it came from a file. */
function model(graph: GraphProto, more: ModelProto = {}): ModelProto {
  return decodeModel(
    writeModel({ irVersion: 8, opsetImport: [{ domain: '', version: 17 }], graph: { name: 'g', ...graph }, ...more }),
  );
}

const RELU: GraphProto = { node: [node('Relu', ['x'], ['y'])], input: [info('x')], output: [info('y')] };

function failure(proto: ModelProto): Q8Error {
  try {
    graphFromProto(proto);
  } catch (error) {
    assert.ok(error instanceof Q8Error, String(error));
    return error;
  }
  return assert.fail('the model was accepted');
}

describe('graphFromProto', () => {
  it('links nodes, constants and types', () => {
    const graph = graphFromProto(
      model({
        node: [node('Add', ['x', 'w'], ['s'], { name: 'add' }), node('Clip', ['s', '', 'max'], ['y'])],
        input: [info('x', ['N', 2]), info('w')],
        initializer: [floats('w', [1, 2]), floats('max', [6])],
        output: [info('y', ['N', 2])],
        valueInfo: [info('s', ['N', 2])],
      }),
    );
    const [addition, clip] = graph.nodes;
    assert.deepEqual(
      graph.inputs.map((value) => value.name),
      ['x'],
      'initializers are no inputs',
    );
    assert.deepEqual(Array.from(addition.input(1)?.constant?.data as Float32Array), [1, 2]);
    assert.equal(clip.input(0), addition.output);
    assert.equal(clip.input(1), null);
    assert.deepEqual(addition.output.type, { dtype: 'float32', shape: ['N', 2] });
    assert.equal(graph.outputs[0].producer, clip);
    assert.equal(graph.opset(), 17);
  });

  it('keeps unique names and makes stable ones for the rest', () => {
    const chain = ['', 'Relu', 'same', 'same', '', 'a'];
    const proto = model({
      node: chain.map((name, i) => node('Relu', [i ? `v${i - 1}` : 'a'], [`v${i}`], { name })),
      input: [info('a')],
      output: [info(`v${chain.length - 1}`)],
    });
    const names = (graph: Graph) => [...graph.nodes].map((each) => each.name);
    assert.deepEqual(names(graphFromProto(proto)), ['Relu_1', 'Relu', 'same', 'same_1', 'Relu_2', 'a']);
    assert.deepEqual(names(graphFromProto(proto)), names(graphFromProto(proto)));
  });

  it('takes sizes that are 0, negative, missing or unnamed for unknown ones', () => {
    const graph = graphFromProto(
      model({
        ...RELU,
        input: [
          {
            name: 'x',
            type: {
              tensorType: { elemType: 1, shape: { dim: [{ dimValue: 0 }, { dimValue: -1 }, {}, { dimParam: '' }] } },
            },
          },
        ],
      }),
    );
    const shape = graph.inputs[0].type?.shape ?? [];
    assert.ok(shape.length === 4 && shape.every(isUnknownDim) && new Set(shape).size === 4);
    const written = graphToProto(graph).graph?.input?.[0].type?.tensorType?.shape?.dim;
    assert.deepEqual(written, [{}, {}, {}, {}]);
  });

  it('resolves the values around a body, by reference', () => {
    const body: GraphProto = {
      name: 'b',
      node: [node('Mul', ['h', 'k'], ['z'])],
      initializer: [floats('k', [3])],
      output: [{ name: 'z' }],
    };
    const branch = (name: string) => ({ name, type: AttributeType.GRAPH, g: body });
    const proto = model({
      node: [
        node('If', ['c'], ['y'], { name: 'if', attribute: [branch('then_branch'), branch('else_branch')] }),
        node('Relu', ['x'], ['h']),
      ],
      input: [info('x'), info('c', [], 9)],
      output: [info('y')],
    });
    const graph = graphFromProto(proto);
    const [branching, relu] = graph.nodes;
    const inner = branching.attributes.graph('then_branch')!;
    assert.equal([...inner.nodes][0].input(0), relu.output);
    assert.deepEqual(graph.topologicalOrder(), [relu, branching], 'a body waits for what it captures');

    const written = graphToProto(graph).graph!;
    assert.deepEqual(written.initializer, [], 'constants stay in the body that reads them');
    assert.deepEqual(
      written.node?.[1].attribute?.map((each) => each.g?.initializer?.map((t) => t.name)),
      [['k'], ['k']],
    );
    graphFromProto(decodeModel(writeModel(graphToProto(graph))));
  });

  it('reads every kind of attribute', () => {
    const int64 = (value: bigint) =>
      ({ low: Number(BigInt.asIntN(32, value)), high: Number(value >> 32n), unsigned: false }) as never;
    const bytes = (text: string) => new TextEncoder().encode(text);
    const attribute = [
      { name: 'f', type: AttributeType.FLOAT, f: 0.5 },
      { name: 'i', type: AttributeType.INT, i: -3 },
      { name: 'end', type: AttributeType.INT, i: int64(2n ** 63n - 1n) },
      { name: 's', type: AttributeType.STRING, s: bytes('é') },
      { name: 't', type: AttributeType.TENSOR, t: floats('', [1]) },
      { name: 'fs', type: AttributeType.FLOATS, floats: [1, 2] },
      { name: 'is', type: AttributeType.INTS, ints: [1, -2] },
      { name: 'ss', type: AttributeType.STRINGS, strings: [bytes('a')] },
      { name: 'untyped', ints: [4] },
    ];
    const proto = model({ ...RELU, node: [node('Relu', ['x'], ['y'], { attribute })] });
    const read = () => [...graphFromProto(proto).nodes][0].attributes;
    assert.equal(read().float('f'), 0.5);
    assert.equal(read().int('i'), -3);
    assert.equal(read().int('end'), Number.MAX_SAFE_INTEGER);
    assert.equal(read().string('s'), 'é');
    assert.deepEqual(read().tensor('t')?.dims, [1]);
    assert.deepEqual(read().ints('is'), [1, -2]);
    assert.deepEqual(read().ints('untyped'), [4]);
    const again = graphFromProto(decodeModel(writeModel(graphToProto(graphFromProto(proto)))));
    assert.deepEqual(
      [...[...again.nodes][0].attributes.entries()].map(([name]) => name),
      [...read().entries()].map(([name]) => name),
    );

    const constant = node('Constant', [], ['k'], {
      attribute: [{ name: 'value_int', type: AttributeType.INT, i: int64(2n ** 63n - 1n) }],
    });
    const [first] = graphFromProto(model({ ...RELU, node: [constant, ...RELU.node!] })).nodes;
    assert.deepEqual(first.attributes.tensor('value')?.data, BigInt64Array.of(2n ** 63n - 1n), 'constants stay exact');
  });

  const relu = RELU.node![0];
  const BAD: [what: string, proto: ModelProto, message: RegExp][] = [
    ['a value made twice', model({ ...RELU, node: [relu, relu] }), /"y" is defined twice/],
    ['an output that is an input too', model({ ...RELU, node: [node('Relu', ['y'], ['x'])] }), /"x" is defined twice/],
    [
      'an undefined input',
      model({ ...RELU, node: [node('Relu', ['q'], ['y'], { name: 'r' })] }),
      /"q" of node "r" \(Relu\)/,
    ],
    ['an undefined output', model({ ...RELU, output: [info('z')] }), /output "z"/],
    [
      'a cycle',
      model({ ...RELU, node: [node('Add', ['x', 'b'], ['a'], { name: 'p' }), node('Relu', ['a'], ['b']), relu] }),
      /cycle through node "p"/,
    ],
    ['no opset', model(RELU, { opsetImport: [] }), /imports no operator set/],
    [
      'a domain without opset',
      model({ ...RELU, node: [node('Gelu', ['x'], ['y'], { domain: 'com.microsoft' })] }),
      /"com.microsoft"/,
    ],
    ['opset 0', model(RELU, { opsetImport: [{ version: 0 }] }), /version 0/],
    ['an input without type', model({ ...RELU, input: [{ name: 'x' }] }), /"x" has no type/],
    ['no outputs', model({ ...RELU, output: [] }), /no outputs/],
    [
      'an attribute twice',
      model({
        ...RELU,
        node: [
          {
            ...relu,
            attribute: [
              { name: 'a', type: 2 },
              { name: 'a', type: 2 },
            ],
          },
        ],
      }),
      /two of attribute "a"/,
    ],
    [
      'data of the wrong size',
      model({ ...RELU, initializer: [{ name: 'w', dims: [3], dataType: 1, rawData: new Uint8Array(8) }] }),
      /12 bytes.*"w".*8/,
    ],
    ['a negative dimension', model({ ...RELU, initializer: [{ name: 'w', dims: [-1], dataType: 1 }] }), /"w"/],
    [
      'dimensions that overflow',
      model({ ...RELU, initializer: [{ name: 'w', dims: [2 ** 40, 2 ** 40], dataType: 1 }] }),
      /2\^53/,
    ],
    [
      'a large tensor without data',
      model({ ...RELU, initializer: [{ name: 'w', dims: [2 ** 45], dataType: 1 }] }),
      /elements of float32 data/,
    ],
  ];
  for (const [what, proto, message] of BAD) {
    it(`refuses ${what}`, () => {
      const error = failure(proto);
      assert.equal(error.code, 'ERR_Q8_BAD_MODEL');
      assert.match(error.message, message);
    });
  }

  it('refuses what it does not support, with the code that says so', () => {
    assert.equal(failure(model({ ...RELU, input: [info('x', [2], 14)] })).code, 'ERR_Q8_UNSUPPORTED_DTYPE');
    const sequence = { name: 'x', type: { sequenceType: { elemType: { tensorType: { elemType: 1 } } } } };
    assert.match(failure(model({ ...RELU, input: [sequence] })).message, /"x" is sequence/);
  });

  it('lists all problems in one error', () => {
    const error = failure(
      model({
        node: [
          node('A', ['p'], ['s']),
          node('B', ['q'], ['s']),
          node('C', ['x'], ['t'], { domain: 'd' }),
          node('D', ['x'], ['u'], { domain: 'd' }),
        ],
        input: [info('x')],
        output: [info('nothing')],
      }),
    );
    assert.match(error.message, /has 6 problems/);
    for (const part of ['"p"', '"q"', '"s" is defined twice', '"nothing"', '(2 times)'])
      assert.ok(error.message.includes(part), part);
  });
});

describe('tensorFromProto', () => {
  const CASES: [dtype: DType, proto: TensorProto, expected: unknown[]][] = [
    ['float32', { dataType: 1, floatData: [1.5, -2] }, [1.5, -2]],
    ['uint8', { dataType: 2, int32Data: [255, 1] }, [255, 1]],
    ['int8', { dataType: 3, int32Data: [-128, 127] }, [-128, 127]],
    ['uint16', { dataType: 4, int32Data: [65535, 1] }, [65535, 1]],
    ['int16', { dataType: 5, int32Data: [-32768, 1] }, [-32768, 1]],
    ['int32', { dataType: 6, int32Data: [-(2 ** 31), 1] }, [-(2 ** 31), 1]],
    ['int64', { dataType: 7, int64Data: [-1, 2] }, [-1n, 2n]],
    ['string', { dataType: 8, stringData: [Buffer.from('ä'), Buffer.from('')] }, ['ä', '']],
    ['bool', { dataType: 9, int32Data: [1, 0] }, [1, 0]],
    ['float16', { dataType: 10, int32Data: [0x3c00, 0xfbff] }, [0x3c00, 0xfbff]],
    ['float64', { dataType: 11, doubleData: [0.1, -1] }, [0.1, -1]],
    ['uint32', { dataType: 12, uint64Data: [2 ** 32 - 1, 1] }, [2 ** 32 - 1, 1]],
    ['uint64', { dataType: 13, uint64Data: [5, 1] }, [5n, 1n]],
    ['bfloat16', { dataType: 16, int32Data: [0x3f80, 0xff7f] }, [0x3f80, 0xff7f]],
  ];
  for (const [dtype, proto, expected] of CASES) {
    it(`reads ${dtype} from its typed field and from raw bytes`, () => {
      const typed = tensorFromProto({ dims: [2], ...proto }, 't');
      assert.equal(typed.type, dtype);
      assert.deepEqual([...(typed.data as ArrayLike<unknown> as unknown[])], expected);
      if (dtype === 'string') return;
      const { buffer } = typed.data as Uint8Array;
      for (const shift of [0, 1]) {
        const bytes = new Uint8Array(buffer.byteLength + shift);
        bytes.set(new Uint8Array(buffer), shift);
        const raw = tensorFromProto({ dims: [2], dataType: proto.dataType, rawData: bytes.subarray(shift) }, 't');
        assert.deepEqual(raw.data, typed.data);
        if (shift === 0) assert.equal((raw.data as Uint8Array).buffer, bytes.buffer, 'aligned bytes are not copied');
      }
    });
  }
});

describe('graphToProto', () => {
  it('says who wrote it, keeps metadata, and raises the IR version to what the opset needs', () => {
    const proto = model(RELU, {
      irVersion: 4,
      opsetImport: [{ domain: '', version: 21 }],
      metadataProps: [{ key: 'k', value: 'v' }],
      docString: 'd',
    });
    const written = graphToProto(graphFromProto(proto));
    assert.equal(written.producerName, 'q8');
    assert.match(written.producerVersion ?? '', /^\d+\.\d+\.\d+/);
    assert.equal(written.irVersion, 10);
    assert.deepEqual(written.metadataProps, [{ key: 'k', value: 'v' }]);
    assert.equal(written.docString, 'd');
  });

  it('imports com.microsoft when it is used, and orders nodes that are out of order', () => {
    const graph = graphFromProto(
      model({
        ...RELU,
        node: [node('Relu', ['h'], ['y'], { name: 'second' }), node('Relu', ['x'], ['h'], { name: 'first' })],
      }),
    );
    graph.addNode({
      name: 'gelu',
      op: 'Gelu',
      domain: 'com.microsoft',
      inputs: [graph.inputs[0]],
      outputs: [graph.newValue('z')],
    });
    const written = graphToProto(graph);
    assert.deepEqual(written.opsetImport, [
      { domain: '', version: 17 },
      { domain: 'com.microsoft', version: 1 },
    ]);
    assert.deepEqual(
      written.graph?.node?.map((each) => each.name),
      ['first', 'second', 'gelu'],
    );
  });

  it('refuses two values of one name', () => {
    const graph = graphFromProto(model(RELU));
    graph.outputs[0].name = 'x';
    assert.throws(() => graphToProto(graph), { code: 'ERR_Q8_INTERNAL' });
  });
});

/**
 * Operators that the ONNX node tests do not cover, against onnxruntime-node: run() and, for constant parameters, the native
 * road. Weights stay within [-64, 64], or are uint8, because onnxruntime's U8S8 kernels saturate on CPUs without VNNI.
 */
import type { AttributeInit } from '../../lib/graph/attributes';
import type { QuantizedDType } from '../../lib/tensor/dtype';
import { Tensor } from '../../lib/tensor/tensor';
import { compare } from './compare';
import { Random, scale, zeroPoint } from './random';

const MICROSOFT = 'com.microsoft';
const int = (value: number) => ({ kind: 'int', value }) as const;
const ints = (...value: number[]) => ({ kind: 'ints', value }) as const;
const float = (value: number) => ({ kind: 'float', value }) as const;
const string = (value: string) => ({ kind: 'string', value }) as const;

const TYPES: [QuantizedDType, QuantizedDType, [number, number]][] = [
  ['uint8', 'int8', [-64, 64]],
  ['uint8', 'uint8', [0, 255]],
  ['int8', 'int8', [-64, 64]],
];

describe('operators: onnxruntime', () => {
  const random = new Random(42);

  for (const [x, w, range] of TYPES) {
    const middle = x === 'uint8' ? 113 : -7;
    const weightZero = w === 'uint8' ? 131 : 0;

    it(`QLinearConv ${x} x ${w}: bit-equal`, async () => {
      for (const [attributes, dims, wDims] of [
        [{}, [1, 3, 9, 7], [5, 3, 3, 3]],
        [{ pads: ints(1, 1, 1, 1), strides: ints(2, 2) }, [2, 4, 8, 8], [6, 4, 3, 3]],
        [{ group: int(8), pads: ints(1, 0, 0, 1) }, [1, 8, 6, 6], [8, 1, 3, 3]],
        [{ group: int(2), strides: ints(2, 1), auto_pad: string('SAME_UPPER') }, [1, 6, 7, 9], [4, 3, 3, 2]],
        [{ dilations: ints(2, 1), pads: ints(1, 0, 2, 1) }, [1, 6, 7, 9], [4, 6, 3, 2]],
        [{}, [1, 16, 5, 5], [32, 16, 1, 1]],
        [{ pads: ints(2, 1), strides: ints(2) }, [2, 5, 17], [7, 5, 4]],
      ] as [AttributeInit, number[], number[]][]) {
        const m = wDims[0];
        await compare({
          op: 'QLinearConv',
          attributes,
          inputs: [
            random.codes(x, dims),
            scale(0.021),
            zeroPoint(x, middle),
            random.codes(w, wDims, range),
            scale(Array.from({ length: m }, () => 0.002 + 0.01 * random.next())),
            zeroPoint(w, weightZero),
            scale(0.037),
            zeroPoint(x, middle + 3),
            random.ints([m], -3000, 3000),
          ],
        });
      }
    });

    it(`QLinearMatMul ${x} x ${w}: bit-equal, constant and computed B`, async () => {
      for (const [a, b, fed] of [
        [[5, 33], [33, 17], [0]],
        [[2, 3, 8], [8, 5], [0]],
        [
          [2, 3, 7],
          [2, 7, 4],
          [0, 3],
        ],
        [
          [4, 6],
          [6, 3],
          [0, 3],
        ],
      ] as [number[], number[], number[]][]) {
        await compare({
          op: 'QLinearMatMul',
          fed,
          inputs: [
            random.codes(x, a),
            scale(0.013),
            zeroPoint(x, middle),
            random.codes(w, b, range),
            scale(0.0071),
            zeroPoint(w, weightZero),
            scale(0.031),
            zeroPoint(x, middle - 5),
          ],
        });
      }
    });

    it(`QGemm ${x} x ${w}: bit-equal codes and floats`, async () => {
      for (const transB of [0, 1]) {
        for (const hasBias of [true, false]) {
          for (const perColumn of [true, false]) {
            const [m, k, n] = [3, 29, 19];
            const inputs: (Tensor | null)[] = [
              random.codes(x, [m, k]),
              scale(0.019),
              zeroPoint(x, middle),
              random.codes(w, transB ? [n, k] : [k, n], range),
              perColumn ? scale(Array.from({ length: n }, () => 0.001 + random.next() / 100)) : scale(0.004),
              perColumn ? zeroPoint(w, new Array(n).fill(weightZero)) : zeroPoint(w, weightZero),
              hasBias ? random.ints([n], -5000, 5000) : null,
            ];
            const attributes = { transB: int(transB) };
            const codes = [...inputs, scale(0.05), zeroPoint(x, middle)];
            await compare({ op: 'QGemm', domain: MICROSOFT, attributes, inputs: codes });
            await compare({ op: 'QGemm', domain: MICROSOFT, attributes, inputs, within: 1e-5 });
          }
        }
      }
    });

    it(`MatMulIntegerToFloat ${x} x ${w}`, () =>
      compare({
        op: 'MatMulIntegerToFloat',
        domain: MICROSOFT,
        inputs: [
          random.codes(x, [4, 21]),
          random.codes(w, [21, 9], range),
          scale(0.02),
          scale(Array.from({ length: 9 }, () => random.next() / 50)),
          zeroPoint(x, middle),
          zeroPoint(w, new Array(9).fill(weightZero)),
          random.floats([9]),
        ],
        within: 1e-5,
      }));
  }

  for (const x of ['uint8', 'int8'] as const) {
    const zero = x === 'uint8' ? 100 : -20;
    const unary = (dims: number[], to: number, toZero: number): Tensor[] => [
      random.codes(x, dims),
      scale(0.043),
      zeroPoint(x, zero),
      scale(to),
      zeroPoint(x, toZero),
    ];

    it(`QLinearGlobalAveragePool ${x}: bit-equal`, async () => {
      const attributes = { channels_last: int(0) };
      for (const dims of [
        [1, 5, 7, 7],
        [2, 16, 3, 4],
        [1, 33, 1, 1],
      ]) {
        await compare({
          op: 'QLinearGlobalAveragePool',
          domain: MICROSOFT,
          attributes,
          inputs: unary(dims, 0.03, zero + 9),
        });
      }
    });

    it(`QLinearAveragePool ${x}: within 1`, async () => {
      for (const extra of [
        {},
        { pads: ints(1, 1, 1, 1), count_include_pad: int(1) },
        { pads: ints(0, 1, 1, 0), ceil_mode: int(1) },
      ]) {
        const attributes: AttributeInit = { kernel_shape: ints(3, 2), strides: ints(2, 1), ...extra };
        await compare({
          op: 'QLinearAveragePool',
          domain: MICROSOFT,
          attributes,
          inputs: unary([2, 3, 9, 8], 0.03, zero - 4),
          within: 1,
        });
      }
    });

    it(`QLinearAdd and QLinearMul ${x}: within 1, with broadcasting`, async () => {
      for (const op of ['QLinearAdd', 'QLinearMul']) {
        for (const other of [[2, 6, 4, 4], [1, 6, 1, 1], [4], []]) {
          await compare({
            op,
            domain: MICROSOFT,
            fed: [0, 3],
            inputs: [
              random.codes(x, [2, 6, 4, 4]),
              scale(0.043),
              zeroPoint(x, zero),
              random.codes(x, other),
              scale(0.017),
              zeroPoint(x, zero + 8),
              scale(op === 'QLinearAdd' ? 0.051 : 0.07),
              zeroPoint(x, zero - 11),
            ],
            within: 1,
          });
        }
      }
    });

    it(`QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax ${x}: within 1`, async () => {
      const low = x === 'uint8' ? 0 : -128;
      await compare({ op: 'QLinearSigmoid', domain: MICROSOFT, inputs: unary([300], 1 / 256, low), within: 1 });
      const attributes = { alpha: float(0.1) };
      await compare({
        op: 'QLinearLeakyRelu',
        domain: MICROSOFT,
        attributes,
        inputs: unary([300], 0.03, zero),
        within: 1,
      });
      // onnxruntime wraps int8 results of 128 and more, so only uint8 has a judge.
      if (x === 'int8') return;
      for (const opset of [11, 13]) {
        const options = { axis: int(1), opset: int(opset) };
        await compare({
          op: 'QLinearSoftmax',
          domain: MICROSOFT,
          attributes: options,
          inputs: unary([3, 10], 1 / 256, low),
          within: 1,
        });
      }
    });

    it(`QLinearConcat and QLinearWhere ${x}: within 1`, async () => {
      const target = [scale(0.05), zeroPoint(x, zero)];
      const first = [random.codes(x, [2, 3, 4]), scale(0.05), zeroPoint(x, zero)];
      const second = [random.codes(x, [2, 5, 4]), scale(0.031), zeroPoint(x, zero - 6)];
      await compare({
        op: 'QLinearConcat',
        domain: MICROSOFT,
        attributes: { axis: int(1) },
        fed: [2, 5],
        inputs: [...target, ...first, ...second],
        within: 1,
      });
      const condition = new Tensor(
        'bool',
        Array.from({ length: 12 }, () => random.next() < 0.5),
        [3, 4],
      );
      const [left, right] = [random.codes(x, [3, 4]), random.codes(x, [4])];
      await compare({
        op: 'QLinearWhere',
        domain: MICROSOFT,
        fed: [0, 1, 4],
        inputs: [condition, left, ...first.slice(1), right, ...second.slice(1), ...target],
        within: 1,
      });
    });
  }

  it('DynamicQuantizeMatMul', () =>
    compare({
      op: 'DynamicQuantizeMatMul',
      domain: MICROSOFT,
      inputs: [
        random.floats([6, 24], -2, 3),
        random.codes('int8', [24, 10], [-64, 64]),
        scale(0.01),
        null,
        random.floats([10]),
      ],
      within: 1e-5,
    }));

  it('LSTM in both directions, with states, lengths and peepholes', async () => {
    const [t, b, i, h, d] = [5, 3, 4, 6, 2];
    await compare({
      op: 'LSTM',
      opset: 14,
      attributes: { hidden_size: int(h), direction: string('bidirectional') },
      inputs: [
        random.floats([t, b, i]),
        random.floats([d, 4 * h, i]),
        random.floats([d, 4 * h, h]),
        random.floats([d, 8 * h]),
        new Tensor('int32', [5, 2, 4], [b]),
        random.floats([d, b, h]),
        random.floats([d, b, h]),
        random.floats([d, 3 * h]),
      ],
      outputs: 3,
      within: 1e-5,
    });
  });

  it('float operators of com.microsoft', async () => {
    const x = random.floats([2, 5, 8], -3, 3);
    const bias = random.floats([8]);
    const bounds = { domain: MICROSOFT, within: 2e-3 };
    await compare({ op: 'Gelu', inputs: [x], ...bounds });
    await compare({ op: 'FastGelu', inputs: [x, bias], ...bounds });
    await compare({ op: 'FastGelu', inputs: [x], ...bounds });
    await compare({ op: 'BiasGelu', inputs: [x, bias], ...bounds });
    await compare({
      op: 'SkipLayerNormalization',
      inputs: [x, random.floats([2, 5, 8]), random.floats([8]), random.floats([8]), bias],
      fed: [0, 1],
      attributes: { epsilon: float(1e-5) },
      ...bounds,
      within: 1e-5,
    });
    await compare({
      op: 'FusedConv',
      inputs: [random.floats([1, 4, 6, 6]), random.floats([8, 4, 3, 3]), random.floats([8])],
      attributes: {
        activation: string('LeakyRelu'),
        activation_params: { kind: 'floats', value: [0.2] },
        pads: ints(1, 1, 1, 1),
      },
      ...bounds,
      within: 1e-5,
    });
  });

  it('float operators with variants that have no ONNX node test', async () => {
    const x = random.floats([2, 6, 5, 7], -2, 2);
    await compare({
      op: 'Upsample',
      opset: 9,
      attributes: { mode: string('linear') },
      inputs: [x, scale([1, 1, 2, 1.5])],
      within: 1e-6,
    });
    await compare({ op: 'Upsample', opset: 9, inputs: [x, scale([1, 1, 2, 3])] });
    await compare({ op: 'Resize', opset: 10, inputs: [x, scale([1, 1, 2, 2])] });
    const cubic = { mode: string('cubic'), cubic_coeff_a: float(-0.5), exclude_outside: int(1) };
    await compare({
      op: 'Resize',
      opset: 13,
      attributes: cubic,
      inputs: [x, null, scale([1, 1, 1.6, 0.7])],
      within: 1e-5,
    });
    await compare({ op: 'Softmax', opset: 11, attributes: { axis: int(2) }, inputs: [x], within: 1e-6 });
    await compare({ op: 'Clip', opset: 9, attributes: { min: float(-0.5), max: float(1) }, inputs: [x] });
    await compare({ op: 'Selu', inputs: [x], within: 1e-6 });
    await compare({ op: 'Mish', opset: 18, inputs: [x], within: 1e-5 });
    await compare({ op: 'Sum', inputs: [x, random.floats([6, 1, 1]), random.floats([7])], fed: [0, 1], within: 1e-6 });
    await compare({ op: 'Mean', inputs: [x, random.floats([6, 1, 1]), random.floats([7])], within: 1e-6 });
    await compare({
      op: 'Slice',
      opset: 9,
      attributes: { starts: ints(1, -4), ends: ints(5, 1000), axes: ints(1, 3) },
      inputs: [x],
    });
    await compare({
      op: 'ReduceMean',
      opset: 13,
      attributes: { axes: ints(2, 3), keepdims: int(0) },
      inputs: [x],
      within: 1e-6,
    });
    await compare({ op: 'Cast', attributes: { to: int(3) }, inputs: [random.floats([40], -120, 120)] });
    await compare({ op: 'Cast', attributes: { to: int(10) }, inputs: [random.floats([40], -1e-4, 1e-4)] });
    await compare({
      op: 'Xor',
      inputs: [new Tensor('bool', [true, true, false, false]), new Tensor('bool', [true, false, true, false])],
      fed: [0, 1],
    });
    await compare({ op: 'IsNaN', inputs: [new Tensor('float32', [0, Number.NaN, Number.POSITIVE_INFINITY, -1])] });
    const transposed = [random.floats([1, 6, 4, 5]), random.floats([6, 3, 2, 2]), random.floats([3])];
    await compare({ op: 'ConvTranspose', attributes: { strides: ints(2, 2) }, inputs: transposed, within: 1e-5 });
  });
});

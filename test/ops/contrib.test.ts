/**
 * Operators of com.microsoft for transformers, recurrent networks and small weights: run() and the native road against
 * onnxruntime-node. Weight codes stay within [-64, 64], or are uint8: its U8S8 kernels saturate on CPUs without VNNI.
 */
import type { AttributeInit } from '../../lib/graph/attributes';
import { Tensor } from '../../lib/tensor/tensor';
import { type Comparison, compare } from './compare';
import { Random, scale, zeroPoint } from './random';

const int = (value: number) => ({ kind: 'int', value }) as const;
const ints = (...value: number[]) => ({ kind: 'ints', value }) as const;
const float = (value: number) => ({ kind: 'float', value }) as const;
const string = (value: string) => ({ kind: 'string', value }) as const;

const microsoft = (comparison: Comparison): Promise<void> => compare({ domain: 'com.microsoft', ...comparison });

describe('operators of com.microsoft: onnxruntime', () => {
  const random = new Random(7);
  const [b, s, d, n] = [2, 9, 24, 4];
  const queryMask = random.ints([b, s, s], 0, 1);
  // A query without any key would only show how scores are rounded beside -10000.
  for (let i = 0; i < s; i++) for (const batch of [0, 1]) queryMask.data[(batch * s + i) * s + i] = 1;
  /** Masks of each form. */
  const masks: [string, Tensor<'int32'> | null, 'native' | 'typescript'][] = [
    ['no mask', null, 'native'],
    ['keys', new Tensor('int32', [...Array(9).fill(1), 1, 1, 1, 1, 1, 0, 0, 0, 0], [b, s]), 'native'],
    ['lengths', new Tensor('int32', [9, 4], [b]), 'native'],
    ['ends and starts', new Tensor('int32', [9, 7, 0, 2], [2 * b]), 'typescript'],
    ['keys of each query', queryMask, 'native'],
  ];

  for (const [name, mask, road] of masks) {
    it(`Attention and QAttention, ${name}`, async () => {
      const variants: AttributeInit[] = [
        {},
        { unidirectional: int(1) },
        { scale: float(0.3), mask_filter_value: float(-50) },
      ];
      for (const attributes of variants) {
        if (attributes.unidirectional && name === 'ends and starts') continue;
        const fed = mask ? [0, 3] : [0];
        const weight = random.floats([d, 3 * d]);
        await microsoft({
          op: 'Attention',
          attributes: { num_heads: int(n), ...attributes },
          inputs: [random.floats([b, s, d]), weight, random.floats([3 * d]), mask],
          fed,
          road,
          within: 2e-5,
          nativeWithin: 2e-5,
        });
        for (const type of ['int8', 'uint8'] as const) {
          await microsoft({
            op: 'QAttention',
            // onnxruntime's QAttention takes no filter value in all of its versions.
            attributes: { num_heads: int(n), ...(attributes.unidirectional && attributes) },
            inputs: [
              random.codes('uint8', [b, s, d]),
              random.codes(type, [d, 3 * d], type === 'int8' ? [-64, 64] : [0, 255]),
              random.floats([3 * d]),
              scale(0.011),
              type === 'int8' ? scale(Array.from({ length: 3 * d }, () => 0.002 + random.next() / 100)) : scale(0.006),
              mask,
              zeroPoint('uint8', 121),
              zeroPoint(type, type === 'int8' ? 0 : 127),
            ],
            fed: mask ? [0, 3, 5, 6] : [0, 3, 6],
            road,
            within: 1e-4,
            nativeWithin: 2e-5,
          });
        }
      }
    });
  }

  it('Attention with values of another size, a bias on scores, without bias, and with a past', async () => {
    const base = { op: 'Attention', within: 2e-5, nativeWithin: 2e-5 } as const;
    const x = random.floats([b, s, d]);
    await microsoft({
      ...base,
      attributes: { num_heads: int(2), qkv_hidden_sizes: ints(8, 8, 20) },
      inputs: [x, random.floats([d, 36]), random.floats([36])],
      road: 'native',
    });
    for (const dims of [
      [b, n, s, s],
      [1, n, s, s],
      [1, 1, s, s],
    ]) {
      await microsoft({
        ...base,
        attributes: { num_heads: int(n) },
        inputs: [x, random.floats([d, 3 * d]), random.floats([3 * d]), null, null, random.floats(dims)],
        fed: [0, 5],
        road: 'native',
      });
    }
    await microsoft({
      ...base,
      attributes: { num_heads: int(n), unidirectional: int(1) },
      inputs: [x, random.floats([d, 3 * d]), random.floats([3 * d]), null, random.floats([2, b, n, 5, d / n])],
      fed: [0, 4],
      outputs: 2,
      road: 'typescript',
    });
  });

  it('EmbedLayerNormalization', async () => {
    const ids = random.ints([b, s], 0, 29);
    const segmentIds = random.ints([b, s], 0, 1);
    const tables = [random.floats([30, d]), random.floats([12, d]), random.floats([2, d])];
    const norm = [random.floats([d]), random.floats([d])];
    const mask = new Tensor('int32', [...Array(9).fill(1), 1, 1, 1, 1, 1, 0, 0, 0, 0], [b, s]);
    const base = {
      op: 'EmbedLayerNormalization',
      attributes: { epsilon: float(1e-5) },
      within: 1e-5,
      nativeWithin: 1e-5,
    };
    await microsoft({ ...base, inputs: [ids, segmentIds, ...tables, ...norm, mask], fed: [0, 1, 7], outputs: 2 });
    await microsoft({
      ...base,
      inputs: [ids, segmentIds, ...tables, ...norm],
      fed: [0, 1],
      outputs: 2,
      road: 'native',
    });
    const noSegments = [ids, null, tables[0], tables[1], null, ...norm];
    await microsoft({ ...base, inputs: noSegments, outputs: 2, road: 'native' });
    for (const positions of [random.ints([b, s], 0, 11), random.ints([1, s], 0, 11)]) {
      const inputs = [ids, segmentIds, ...tables, ...norm, null, positions];
      await microsoft({ ...base, inputs, fed: [0, 1, 8], outputs: 2 });
      await microsoft({ ...base, inputs, fed: [0, 1], outputs: 2, road: 'native' });
    }
  });

  it('QEmbedLayerNormalization', async () => {
    const type = 'uint8';
    const ids = random.ints([b, s], 0, 29);
    const segmentIds = random.ints([b, s], 0, 1);
    const codes = [[30, d], [12, d], [2, d], [d], [d]].map((dims) => random.codes(type, dims));
    const scales = [0.011, 0.02, 0.007, 0.013, 0.005].map((value) => scale(value));
    const zeros = [128, 100, 0, 3, 255].map((value) => zeroPoint(type, value));
    const base = { op: 'QEmbedLayerNormalization', within: 2e-5, nativeWithin: 1e-5 };
    const mask = random.ints([b, s], 0, 1);
    await microsoft({
      ...base,
      inputs: [ids, segmentIds, ...codes, mask, ...scales, ...zeros],
      fed: [0, 1, 7],
      outputs: 2,
    });
    const plain = [ids, segmentIds, ...codes, null, ...scales, ...zeros];
    await microsoft({ ...base, inputs: plain, fed: [0, 1], outputs: 2, road: 'native' });
    const without = (list: Tensor[]): (Tensor | null)[] => list.map((tensor, i) => (i === 2 ? null : tensor));
    const inputs = [ids, null, ...without(codes), null, ...without(scales), ...without(zeros)];
    await microsoft({ ...base, inputs, outputs: 2, road: 'native' });
  });

  for (const bits of [2, 4, 8]) {
    it(`MatMulNBits of ${bits} bits`, async () => {
      for (const [k, columns, block] of [
        [64, 20, 16],
        [96, 33, 32],
        [70, 5, 32],
        [17, 3, 128],
      ]) {
        const blocks = Math.ceil(k / block);
        const attributes = { K: int(k), N: int(columns), bits: int(bits), block_size: int(block) };
        const codes = random.codes('uint8', [columns, blocks, (block * bits) / 8]);
        const scales = random.floats([columns * blocks], 0.001, 0.01);
        const zeros = random.codes('uint8', [columns * Math.ceil((blocks * bits) / 8)]);
        const base = { op: 'MatMulNBits', attributes, within: 5e-4, nativeWithin: 2e-5, road: 'native' } as const;
        await microsoft({ ...base, inputs: [random.floats([3, k]), codes, scales] });
        await microsoft({ ...base, inputs: [random.floats([2, 3, k]), codes, scales, zeros] });
        const bias = random.floats([columns]);
        await microsoft({ ...base, inputs: [random.floats([5, k]), codes, scales, zeros, null, bias] });
      }
    });
  }

  for (const bits of [4, 8]) {
    it(`GatherBlockQuantized of ${bits} bits`, async () => {
      for (const [width, block] of [
        [64, 16],
        [48, 32],
      ]) {
        const attributes = { bits: int(bits), block_size: int(block), gather_axis: int(0), quantize_axis: int(1) };
        const blocks = Math.ceil(width / block);
        const data = random.codes('uint8', [20, (width * bits) / 8]);
        const scales = random.floats([20, blocks], 0.001, 0.01);
        const zeros = random.codes('uint8', [20, Math.ceil((blocks * bits) / 8)]);
        const indices = new Tensor('int64', [0, 19, 7, -1, 3, 3], [2, 3]);
        const base = { op: 'GatherBlockQuantized', attributes, fed: [1] };
        await microsoft({ ...base, inputs: [data, indices, scales], within: 1e-6 });
        await microsoft({ ...base, inputs: [data, indices, scales, zeros], within: 1e-6 });
      }
    });
  }

  it('DynamicQuantizeLSTM', async () => {
    const [t, batch, i, h] = [5, 3, 6, 8];
    for (const direction of ['forward', 'reverse', 'bidirectional']) {
      const dirs = direction === 'bidirectional' ? 2 : 1;
      for (const perChannel of [false, true]) {
        const count = perChannel ? [dirs, 4 * h] : [dirs];
        const scales = (): Tensor => random.floats(count, 0.004, 0.01);
        const zeros = Tensor.zeros('int8', count);
        await microsoft({
          op: 'DynamicQuantizeLSTM',
          attributes: { hidden_size: int(h), direction: string(direction) },
          inputs: [
            random.floats([t, batch, i], -2, 2),
            random.codes('int8', [dirs, i, 4 * h], [-64, 64]),
            random.codes('int8', [dirs, h, 4 * h], [-64, 64]),
            random.floats([dirs, 8 * h]),
            perChannel ? new Tensor('int32', [5, 5, 5]) : null,
            random.floats([dirs, batch, h]),
            random.floats([dirs, batch, h]),
            null,
            scales(),
            zeros,
            scales(),
            zeros,
          ],
          outputs: 3,
          // A state that differs in the last bits may get another code at the next step.
          within: 5e-3,
        });
      }
    }
  });
});

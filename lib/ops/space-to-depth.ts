/** SpaceToDepth (ai.onnx 1, 13): blocks of pixels to channels. */
import { blockSizeOf, defineBlockMove, scaleDim } from './families/block-moves';
import { modelError } from './families/inference';

export const SpaceToDepth = defineBlockMove({
  type: 'SpaceToDepth',
  since: [1, 13],
  infer(node, [n, c, h, w], unknown) {
    const block = blockSizeOf(node);
    for (const size of [h, w]) {
      if (typeof size === 'number' && size % block !== 0)
        throw modelError(node, `sizes divisible by ${block}`, 'input 0', size);
    }
    return [
      n,
      scaleDim(c, (size) => size * block ** 2, unknown),
      scaleDim(h, (size) => size / block, unknown),
      scaleDim(w, (size) => size / block, unknown),
    ];
  },
  plan(node, [n, c, h, w], [sn, sc, sh, sw]) {
    const block = blockSizeOf(node);
    return {
      dims: [n, c * block ** 2, h / block, w / block],
      factors: [
        [[n, sn]],
        [
          [block, sh],
          [block, sw],
          [c, sc],
        ],
        [[h / block, block * sh]],
        [[w / block, block * sw]],
      ],
    };
  },
});

/** DepthToSpace (ai.onnx 1, 11, 13): channels to blocks of pixels, in DCR or CRD order. */
import { blockSizeOf, defineBlockMove, scaleDim } from './families/block-moves';
import { modelError } from './families/inference';

export const DepthToSpace = defineBlockMove({
  type: 'DepthToSpace',
  since: [1, 11, 13],
  infer(node, [n, c, h, w], unknown) {
    const block = blockSizeOf(node);
    if (typeof c === 'number' && c % block ** 2 !== 0)
      throw modelError(node, `channels divisible by ${block ** 2}`, 'input 0', c);
    return [
      n,
      scaleDim(c, (size) => size / block ** 2, unknown),
      scaleDim(h, (size) => size * block, unknown),
      scaleDim(w, (size) => size * block, unknown),
    ];
  },
  plan(node, [n, c, h, w], [sn, sc, sh, sw]) {
    const block = blockSizeOf(node);
    const mode = node.attributes.string('mode', 'DCR');
    if (mode !== 'DCR' && mode !== 'CRD') throw modelError(node, 'DCR or CRD', 'mode', mode);
    const depth = c / block ** 2;
    // Input channel = (row, column, depth) in DCR, (depth, row, column) in CRD.
    const [row, column, deep] = mode === 'DCR' ? [block * depth, depth, 1] : [block, 1, block ** 2];
    return {
      dims: [n, depth, h * block, w * block],
      factors: [
        [[n, sn]],
        [[depth, deep * sc]],
        [
          [h, sh],
          [block, row * sc],
        ],
        [
          [w, sw],
          [block, column * sc],
        ],
      ],
    };
  },
});

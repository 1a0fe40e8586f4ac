/** Upsample (ai.onnx 7, 9; gone since 10): nearest or linear enlargement by factors, with asymmetric coordinates. */
import type { Node } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { modelError, unknownShape } from './families/inference';
import { interpolate, type ResizeAxis, type ResizeOptions } from './families/resize';
import { lowerNearest, nearest } from './families/resize-nearest';
import { fromDoubles, toDoubles } from './families/values';

function optionsOf(node: Node): ResizeOptions {
  const mode = node.attributes.string('mode', 'nearest');
  if (mode !== 'nearest' && mode !== 'linear' && mode !== 'bilinear')
    throw modelError(node, 'nearest or linear', 'mode', mode);
  return {
    mode: mode === 'nearest' ? 'nearest' : 'linear',
    coordinates: 'asymmetric',
    nearest: 'floor',
    cubicA: 0,
    excludeOutside: false,
    antialias: false,
    extrapolation: 0,
  };
}

/** Factors per axis; undefined when computed at run time. */
function scalesOf(node: Node, opset: number, rank: number, input: Tensor | null | undefined): number[] | undefined {
  if (opset >= 9 && !input) return undefined;
  const scales = opset < 9 ? node.attributes.floats('scales') : Array.from(toDoubles(input!));
  if (!scales || scales.length !== rank || scales.some((scale) => !(scale > 0) || !Number.isFinite(scale))) {
    throw modelError(node, `${rank} positive numbers`, 'scales', scales ?? 'nothing');
  }
  return scales;
}

function axesOf(scales: readonly number[], dims: readonly number[]): ResizeAxis[] {
  return scales
    .map((scale, axis): ResizeAxis => {
      const output = Math.floor(Math.fround(dims[axis] * scale));
      return { axis, input: dims[axis], output, scale, roi: [0, 1] };
    })
    .filter(({ scale }) => scale !== 1);
}

export const Upsample = defineOp({
  type: 'Upsample',
  since: [7, 9],
  inferShape(context) {
    const { node, opset } = context;
    const { dtype, shape } = context.input(0);
    optionsOf(node);
    if (!shape) return [{ dtype }];
    const scales = scalesOf(node, opset, shape.length, context.constant(1));
    if (!scales) return [{ dtype, shape: unknownShape(context, shape.length) }];
    return [
      {
        dtype,
        shape: shape.map((dim, i) => {
          if (typeof dim === 'string') return scales[i] === 1 ? dim : context.unknownDim();
          return Math.floor(Math.fround(dim * scales[i]));
        }),
      },
    ];
  },
  run([x, scalesInput], { node, opset }) {
    const options = optionsOf(node);
    const axes = axesOf(scalesOf(node, opset, x!.dims.length, scalesInput)!, x!.dims);
    if (options.mode === 'nearest') return [nearest(node, x!, axes, options)];
    const dims = [...x!.dims];
    for (const { axis, output } of axes) dims[axis] = output;
    return [fromDoubles(x!.type, interpolate(node, toDoubles(x!), x!.dims, axes, options), dims)];
  },
  lower(context) {
    const { node, opset } = context;
    const options = optionsOf(node);
    const shape = context.shape(node.requiredInput(0));
    const scales = scalesOf(node, opset, shape.length, context.constant(node.input(1)));
    if (!scales || options.mode !== 'nearest') return false;
    return lowerNearest(context, axesOf(scales, shape), options);
  },
});

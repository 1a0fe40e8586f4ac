/** Resize (ai.onnx 10, 11, 13, 18, 19): nearest, linear and cubic interpolation in every coordinate mode. */
import type { Dim, Node } from '../graph/graph';
import type { Tensor } from '../tensor/tensor';
import { defineOp } from './define-op';
import { axisOf, modelError, unknownShape } from './families/inference';
import { interpolate, type ResizeAxis, type ResizeMode, type ResizeOptions } from './families/resize';
import { lowerInterpolated } from './families/resize-interpolated';
import { lowerNearest, nearest } from './families/resize-nearest';
import { fromDoubles, integersOf, toDoubles } from './families/values';

function optionsOf(node: Node, opset: number): ResizeOptions {
  const { attributes } = node;
  const mode = attributes.string('mode', 'nearest');
  if (mode !== 'nearest' && mode !== 'linear' && mode !== 'cubic')
    throw modelError(node, 'nearest, linear or cubic', 'mode', mode);
  return {
    mode: mode as ResizeMode,
    // Version 10 had neither attribute.
    coordinates: attributes.string('coordinate_transformation_mode', opset < 11 ? 'asymmetric' : 'half_pixel'),
    nearest: attributes.string('nearest_mode', opset < 11 ? 'floor' : 'round_prefer_floor'),
    cubicA: attributes.float('cubic_coeff_a', -0.75),
    excludeOutside: attributes.int('exclude_outside', 0) !== 0,
    antialias: attributes.int('antialias', 0) !== 0,
    extrapolation: attributes.float('extrapolation_value', 0),
  };
}

/**
 * The axes to resize. Undefined when scales or sizes are computed at run time. Symbolic dimensions stay themselves where
 * the scale is 1; `axis.output` is then NaN elsewhere, which only inference sees.
 */
function axesOfNode(
  node: Node,
  opset: number,
  shape: readonly Dim[],
  input: (i: number) => Tensor | null | undefined,
): ResizeAxis[] | undefined {
  const [scalesIndex, sizesIndex] = opset < 11 ? [1, -1] : [2, 3];
  const given = (i: number): Tensor | null | undefined => (i < 0 ? null : input(i));
  const computed = [scalesIndex, sizesIndex].some((i) => i >= 0 && node.input(i) && !given(i));
  if (computed) return undefined;
  const listed = node.attributes.ints('axes');
  const axes = listed?.length ? listed.map((axis) => axisOf(node, axis, shape.length)) : [...shape.keys()];
  const scalesTensor = given(scalesIndex);
  const sizesTensor = given(sizesIndex);
  const scales = scalesTensor?.size ? Array.from(toDoubles(scalesTensor)) : undefined;
  const sizes = sizesTensor?.size ? integersOf(sizesTensor) : undefined;
  const list = scales ?? sizes;
  if (!list) throw modelError(node, 'one of them', 'scales and sizes', 'neither');
  if (list.length !== axes.length || list.some((v) => !(v >= 0) || !Number.isFinite(v))) {
    throw modelError(node, `${axes.length} positive numbers`, scales ? 'scales' : 'sizes', list);
  }
  if (scales?.some((scale) => scale === 0)) throw modelError(node, `${axes.length} positive numbers`, 'scales', scales);
  const policy = node.attributes.string('keep_aspect_ratio_policy', 'stretch');
  const ratios = sizes?.map((size, i) => size / Number(shape[axes[i]]));
  const common =
    policy === 'not_larger'
      ? Math.min(...(ratios ?? []))
      : policy === 'not_smaller'
        ? Math.max(...(ratios ?? []))
        : undefined;
  const roiTensor = opset >= 11 ? input(1) : undefined;
  const roi = roiTensor?.size === 2 * axes.length ? toDoubles(roiTensor) : undefined;
  return axes.map((axis, i) => {
    const dim = Number(shape[axis]);
    const box: [number, number] = roi ? [roi[i], roi[i + axes.length]] : [0, 1];
    if (scales)
      return { axis, input: dim, output: Math.floor(Math.fround(dim * scales[i])), scale: scales[i], roi: box };
    const scale = common ?? ratios![i];
    return {
      axis,
      input: dim,
      output: common === undefined ? sizes![i] : Math.floor(common * dim + 0.5),
      scale,
      roi: box,
    };
  });
}

/** The axes that change anything. */
function effective(axes: readonly ResizeAxis[], { coordinates }: ResizeOptions): ResizeAxis[] {
  return axes.filter(
    (a) =>
      a.scale !== 1 ||
      a.output !== a.input ||
      (coordinates === 'tf_crop_and_resize' && (a.roi[0] !== 0 || a.roi[1] !== 1)),
  );
}

export const Resize = defineOp({
  type: 'Resize',
  since: [10, 11, 13, 18, 19],
  quant: {
    kind: 'agnostic',
    when: (node) =>
      node.attributes.string('mode', 'nearest') !== 'cubic' || 'cubic interpolation leaves the range of its input',
    floatOnly: (node) => node.attributes.string('mode', 'nearest') !== 'nearest',
  },
  inferShape(context) {
    const { node, opset } = context;
    const { dtype, shape } = context.input(0);
    optionsOf(node, opset);
    if (!shape) return [{ dtype }];
    const axes = axesOfNode(node, opset, shape, (i) => context.constant(i));
    if (!axes) return [{ dtype, shape: unknownShape(context, shape.length) }];
    const result = [...shape];
    for (const { axis, output, scale } of axes) {
      if (scale === 1 && typeof shape[axis] === 'string') continue;
      result[axis] = Number.isNaN(output) ? context.unknownDim() : output;
    }
    return [{ dtype, shape: result }];
  },
  run(inputs, { node, opset }) {
    const x = inputs[0]!;
    const options = optionsOf(node, opset);
    const axes = effective(axesOfNode(node, opset, x.dims, (i) => inputs[i])!, options);
    if (options.mode === 'nearest') return [nearest(node, x, axes, options)];
    const dims = [...x.dims];
    for (const { axis, output } of axes) dims[axis] = output;
    return [fromDoubles(x.type, interpolate(node, toDoubles(x), x.dims, axes, options), dims)];
  },
  lower(context) {
    const { node, opset } = context;
    const options = optionsOf(node, opset);
    const shape = context.shape(node.requiredInput(0));
    const axes = axesOfNode(node, opset, shape, (i) => context.constant(node.input(i)));
    if (!axes) return false;
    const lower = options.mode === 'nearest' ? lowerNearest : lowerInterpolated;
    return lower(context, effective(axes, options), options);
  },
});

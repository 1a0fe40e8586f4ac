/**
 * A Pad in front of a convolution becomes padding of the convolution, which costs nothing: exporters write one where the
 * padding is not the same on all sides. For the runtime only.
 */
import type { Graph, Node } from '../graph/graph';
import { windowAttributes } from '../ops/families/window';
import { constantPadding } from '../ops/pad';
import { capturedValues, isOp } from './matching';

/** Needs ranks, so inference must have run. Linear. A Pad that others read as well stays for them. */
export function fusePad(graph: Graph): boolean {
  const captured = capturedValues(graph);
  let changed = false;
  for (const node of graph.topologicalOrder()) {
    const pad = node.input(0)?.producer;
    if (!pad || !isOp(pad, 'Pad') || !graph.nodes.has(pad) || !absorb(graph, pad, node)) continue;
    changed = true;
    const { output } = pad;
    if (output.consumerCount === 0 && !graph.isOutput(output) && !captured.has(output)) graph.removeNode(pad);
  }
  return changed;
}

function absorb(graph: Graph, pad: Node, conv: Node): boolean {
  const weights = conv.input(conv.op === 'QLinearConv' ? 3 : 1)?.constant;
  const zero = zeroOf(conv);
  const rank = pad.input(0)?.type?.shape?.length;
  if (zero === undefined || !weights || !rank || rank < 3 || rank !== weights.dims.length) return false;
  const added = constantPadding(pad, graph.opset(), rank);
  if (added?.value !== zero) return false;
  const { begins, ends } = added;
  if (begins[0] !== 0 || ends[0] !== 0 || begins[1] !== 0 || ends[1] !== 0) return false;
  if (begins.some((count) => count < 0) || ends.some((count) => count < 0)) return false;
  const window = windowAttributes(conv, weights.dims.slice(2));
  // What SAME adds depends on the size that it is given.
  if (window.autoPad.startsWith('SAME')) return false;
  const pads = [
    ...window.padsBegin.map((count, i) => count + begins[2 + i]),
    ...window.padsEnd.map((count, i) => count + ends[2 + i]),
  ];
  conv.attributes.delete('auto_pad');
  conv.attributes.set('pads', { kind: 'ints', value: pads });
  conv.setInput(0, pad.input(0));
  return true;
}

/** What the convolution takes its own padding for: 0, or the code of it. Undefined when it is none, or that is computed. */
function zeroOf(node: Node): number | undefined {
  if (isOp(node, 'Conv') || (node.domain === 'com.microsoft' && node.op === 'FusedConv')) return 0;
  const isQLinear = node.op === 'QLinearConv' && (node.domain === '' || node.domain === 'com.microsoft');
  if (!isQLinear && !isOp(node, 'ConvInteger')) return undefined;
  const zeroPoint = node.input(2);
  return zeroPoint ? zeroPoint.constant && Number(zeroPoint.constant.data[0]) : 0;
}

/**
 * The first layer of BERT-type networks, a normalized sum of rows of tables, becomes com.microsoft EmbedLayerNormalization: word
 * ids, perhaps segment ids, and places 0, 1, 2... in whatever way they are computed. Places that depend on the ids (RoBERTa) or
 * are an input stay as they are: the quantized operator has none, and tables that Gather reads are quantized on their own.
 */
import { type Graph, type Node, Value } from '../graph/graph';
import { Tensor } from '../tensor/tensor';
import { elementOf, numberOf, polynomialOf } from './elements';
import { capturedValues, castToInt32, floatConstant, isOp, isShapeReader } from './matching';

/** A table [rows, width] read by Gather. */
interface Lookup {
  node: Node;
  table: Tensor<'float32'>;
  tableValue: Value;
  indices: Value;
}

/** A part of the sum: a lookup, or rows that are added as they are, where sequences have one length. */
type Part = Lookup | Tensor<'float32'>;

/**
 * Needs types, and leaves nodes that nobody reads. `keep` tells lookups that must stay as they are. Returns the new nodes.
 * Linear.
 */
export function fuseEmbedLayerNorm(graph: Graph, keep: (node: Node) => boolean = () => false): Node[] {
  const captured = capturedValues(graph);
  const casts = new Map<Value, Value>();
  const made: Node[] = [];
  for (const norm of graph.topologicalOrder()) {
    if (!isOp(norm, 'LayerNormalization') || norm.outputs.slice(1).some((value) => value) || captured.has(norm.output))
      continue;
    const axis = norm.attributes.int('axis', -1);
    const [gamma, beta] = [norm.requiredInput(1), norm.input(2)];
    const width = floatConstant(gamma)?.size;
    const lookups = lookupsOf(graph, norm.requiredInput(0), captured);
    const isFree = (part: Part): boolean =>
      part instanceof Tensor ? part.dims[1] === width : part.table.dims[1] === width && !keep(part.node);
    if (!lookups?.every(isFree)) continue;
    const fits =
      (axis === -1 || axis === 2) &&
      floatConstant(gamma)?.dims.length === 1 &&
      (!beta || floatConstant(beta)?.size === width);
    const parts = fits ? partsOf(lookups) : undefined;
    if (!parts || width === undefined) continue;
    const { ids, segments, positions } = parts;
    const asInt32 = (value: Value): Value => {
      if (value.type?.dtype === 'int32') return value;
      const cast = casts.get(value) ?? castToInt32(graph, value);
      casts.set(value, cast);
      return cast;
    };
    const [batch, length] = ids.indices.type!.shape!;
    const type = { dtype: 'float32', shape: [batch, length, width] } as const;
    const result = new Value(graph.uniqueName(`${norm.output.name}_embed`), type);
    const node = graph.addNode({
      name: graph.uniqueName(`${norm.name}_embed`),
      op: 'EmbedLayerNormalization',
      domain: 'com.microsoft',
      inputs: [
        asInt32(ids.indices),
        segments ? asInt32(segments.indices) : null,
        ids.tableValue,
        positions instanceof Value ? positions : graph.newConstant(`${norm.name}_positions`, positions),
        segments?.tableValue ?? null,
        gamma,
        beta ?? graph.newConstant(`${norm.name}_beta`, Tensor.zeros('float32', [width])),
      ],
      // Runtimes want the number of keys as well; masks keep their own tensor, which may have any holes.
      outputs: [result, graph.newValue(`${norm.output.name}_mask_index`, { dtype: 'int32', shape: [batch] })],
      attributes: { epsilon: { kind: 'float', value: norm.attributes.float('epsilon', 1e-5) } },
    });
    graph.replaceAllUses(norm.output, result);
    graph.removeNode(norm);
    made.push(node);
  }
  return made;
}

/** Words, places, segments, and what else a network may add. */
const MAX_DEPTH = 8;

/** The lookups that a sum is made of, when nobody else reads it or its parts. */
function lookupsOf(graph: Graph, value: Value, captured: ReadonlySet<Value>, depth = 0): Part[] | undefined {
  if (depth > MAX_DEPTH) return undefined;
  const rows = floatConstant(value);
  if (rows && (rows.dims.length === 2 || (rows.dims.length === 3 && rows.dims[0] === 1))) {
    return [new Tensor('float32', rows.data, rows.dims.slice(-2))];
  }
  const node = value.producer;
  // Somebody else may ask for the shape.
  const readers = value.consumers.filter((reader) => !isShapeReader(reader));
  if (!node || readers.length !== 1 || captured.has(value) || graph.isOutput(value)) return undefined;
  if (isOp(node, 'Add')) {
    const parts = [0, 1].map((i) => lookupsOf(graph, node.requiredInput(i), captured, depth + 1));
    return parts[0] && parts[1] && [...parts[0], ...parts[1]];
  }
  if (!isOp(node, 'Gather') || node.attributes.int('axis', 0) !== 0) return undefined;
  const [tableValue, indices] = [node.requiredInput(0), node.requiredInput(1)];
  const table = floatConstant(tableValue);
  return table?.dims.length === 2 ? [{ node, table, tableValue, indices }] : undefined;
}

/** Ids, segments and the table of places, in which lookups of one row are contained. */
function partsOf(
  parts: readonly Part[],
): { ids: Lookup; segments: Lookup | undefined; positions: Value | Tensor } | undefined {
  const computed: Lookup[] = [];
  const rows: Float32Array[] = [];
  let fixed: Tensor<'float32'> | undefined;
  const places: { table: Tensor<'float32'>; value?: Value; first: number }[] = [];
  for (const part of parts) {
    if (part instanceof Tensor) {
      if (fixed && fixed.dims[0] !== part.dims[0]) return undefined;
      fixed = fixed
        ? new Tensor(
            'float32',
            fixed.data.map((v, i) => v + part.data[i]),
            part.dims,
          )
        : part;
      continue;
    }
    const { table, tableValue, indices } = part;
    const rank = indices.constant?.dims.length ?? indices.type?.shape?.length;
    const index = elementOf(indices);
    const row = numberOf(index);
    if (row !== undefined) {
      if (row < 0 || row >= table.dims[0]) return undefined;
      rows.push(table.data.subarray(row * table.dims[1], (row + 1) * table.dims[1]));
      continue;
    }
    const place = polynomialOf(index);
    const first = place?.get('') ?? 0;
    place?.delete('');
    const isPlace = place?.size === 1 && rank !== undefined && place.get(`axis:${rank - 1}`) === 1;
    if (isPlace && first >= 0) places.push({ table, value: tableValue, first });
    else computed.push(part);
  }
  if (fixed) places.push({ table: fixed, first: 0 });
  const shape = computed[0]?.indices.type?.shape;
  const isIds = ({ indices }: Lookup): boolean =>
    indices.type?.shape?.length === 2 && indices.type.shape.join() === shape?.join() && !indices.constant;
  if (places.length !== 1 || computed.length < 1 || computed.length > 2 || !computed.every(isIds)) return undefined;
  const [{ table, value, first }] = places;
  // Rows that are added as they are belong to one length.
  if (!value && table.dims[0] !== shape?.[1]) return undefined;
  // Words are more than segments.
  const [ids, segments] = [...computed].sort((a, b) => b.table.dims[0] - a.table.dims[0]);
  if (first === 0 && rows.length === 0) return { ids, segments, positions: value ?? table };
  const width = table.dims[1];
  const moved = table.data.slice(first * width);
  for (const row of rows) for (let i = 0; i < moved.length; i++) moved[i] += row[i % width];
  return { ids, segments, positions: new Tensor('float32', moved, [table.dims[0] - first, width]) };
}

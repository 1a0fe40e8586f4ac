/**
 * Joins steps of a program where one pass over memory can do the work of two: tables and binary operators on codes become
 * the finish of the convolution or product that makes the codes, float operators element by element become chains,
 * concatenation becomes writing to parts of one buffer, dequantization takes a change of layout along. Works on the
 * finished list of steps, where layouts and shapes are settled. The results are the same bits.
 */
import type {
  BinaryStep,
  BufferId,
  ChainPart,
  ChainStep,
  ConcatStep,
  FinishSpec,
  LutStep,
  ProgramBuffer,
  ProgramStep,
  QBinaryStep,
  QConvStep,
  QGemmStep,
  StridedCopyStep,
  UnaryStep,
} from '../../binding';
import type { Node } from '../graph/graph';
import { sizeOf, stridesOf } from '../tensor/shape';
import { readsOf } from './memory-plan';

type Producer = QConvStep | QGemmStep;

/** A program under construction: steps, and the nodes that each computes. */
export interface Steps {
  steps: ProgramStep[];
  nodes: (readonly Node[])[];
}

/** Rewrites the steps; buffers that are not needed any more become empty. Linear. */
export function fuseSteps(buffers: ProgramBuffer[], given: Readonly<Steps>): Steps {
  const fuser = new Fuser(buffers, given);
  for (let at = 0; at < given.steps.length; at++) fuser.visit(at);
  return fuser.result();
}

class Fuser {
  readonly #buffers: ProgramBuffer[];
  readonly #steps: (ProgramStep | null)[];
  readonly #nodes: (readonly Node[])[];
  /** How often steps read a buffer, and the one step that makes it; -1: none, or several. */
  readonly #reads: Int32Array;
  readonly #producer: Int32Array;

  constructor(buffers: ProgramBuffer[], { steps, nodes }: Readonly<Steps>) {
    this.#buffers = buffers;
    this.#steps = [...steps];
    this.#nodes = [...nodes];
    this.#reads = new Int32Array(buffers.length);
    this.#producer = new Int32Array(buffers.length).fill(-1);
    for (const step of steps) for (const id of readsOf(step)) this.#reads[id]++;
    steps.forEach((step, at) => {
      this.#producer[step.y] = at;
    });
  }

  result(): Steps {
    const kept = [...this.#steps.keys()].filter((at) => this.#steps[at]);
    for (const at of kept) {
      const step = this.#steps[at]!;
      if (step.op === 'chain' && step.columns === 0)
        this.#steps[at] = { ...step, columns: Math.max(1, this.#buffers[step.y].elements) };
    }
    return { steps: kept.map((at) => this.#steps[at]!), nodes: kept.map((at) => this.#nodes[at]) };
  }

  visit(at: number): void {
    const step = this.#steps[at]!;
    switch (step.op) {
      case 'lut':
        this.#finishWithTable(step, at);
        break;
      case 'qbinary':
        this.#finishWithBinary(step, at);
        break;
      case 'concat':
        this.#writeToParts(step, at);
        break;
      case 'strided_copy':
        this.#dequantizeToRows(step, at);
        break;
      case 'unary':
      case 'binary':
        this.#chain(step, at);
        break;
    }
  }

  #finishWithTable(step: LutStep, at: number): void {
    const producer = this.#producerFor(step.x, step.y);
    if (producer < 0) return;
    this.#finish(producer, { kind: 'lut', table: step.table }, at);
  }

  #finishWithBinary(step: QBinaryStep, at: number): void {
    if (step.a === step.b) return;
    const dense = stridesOf(step.shape);
    const runsAlong = (strides: readonly number[]): boolean =>
      strides.every((stride, axis) => step.shape[axis] === 1 || stride === dense[axis]);
    const sides = [
      { codes: step.a, strides: step.aStrides, operand: step.b, operandStrides: step.bStrides, operandFirst: false },
      { codes: step.b, strides: step.bStrides, operand: step.a, operandStrides: step.aStrides, operandFirst: true },
    ];
    // The later producer: only then is the operand there.
    sides.sort((one, other) => this.#producer[other.codes] - this.#producer[one.codes]);
    for (const { codes, strides, operand, operandStrides, operandFirst } of sides) {
      const producer = this.#producerFor(codes, step.y);
      if (producer < 0 || !runsAlong(strides) || this.#madeAt(operand) >= producer) continue;
      const columns = columnsOf(this.#steps[producer] as Producer);
      const repeats = repeatsRow(step.shape, operandStrides, columns);
      if (!repeats && !runsAlong(operandStrides)) continue;
      const [a, b] = [
        { scale: step.aScale, zeroPoint: step.aZeroPoint },
        { scale: step.bScale, zeroPoint: step.bZeroPoint },
      ];
      const [own, other] = operandFirst ? [b, a] : [a, b];
      const spec: FinishSpec = {
        kind: step.kind,
        operand,
        operandFirst,
        operandRepeats: repeats,
        ...own,
        operandScale: other.scale,
        operandZeroPoint: other.zeroPoint,
        yScale: step.yScale,
        yZeroPoint: step.yZeroPoint,
      };
      this.#finish(producer, spec, at);
      return;
    }
  }

  /** Lets the producers of single-use inputs write to the concatenation. */
  #writeToParts(step: ConcatStep, at: number): void {
    const rest: number[] = [];
    for (const [i, x] of step.inputs.entries()) {
      const table = step.tables[i];
      const producer = this.#producerFor(x, step.y, table !== null);
      const target = producer < 0 ? undefined : (this.#steps[producer] as Producer);
      if (!target || columnsOf(target) !== step.inners[i] || this.#buffers[step.y].kind === 'input') {
        rest.push(i);
        continue;
      }
      this.#steps[producer] = {
        ...target,
        y: step.y,
        yStride: step.row,
        yOffset: step.offsets[i],
        ...(table && { finish: [...(target.finish ?? []), { kind: 'lut', table }] }),
      };
      this.#nodes[producer] = [...this.#nodes[producer], ...this.#nodes[at]];
      this.#drop(x);
    }
    // Several steps write it now.
    if (rest.length < step.inputs.length) this.#producer[step.y] = -1;
    if (rest.length === 0) this.#steps[at] = null;
    else if (rest.length < step.inputs.length) {
      this.#steps[at] = {
        ...step,
        inputs: rest.map((i) => step.inputs[i]),
        inners: rest.map((i) => step.inners[i]),
        offsets: rest.map((i) => step.offsets[i]),
        tables: rest.map((i) => step.tables[i]),
      };
    }
  }

  /** codes in NHWC -> dequantize -> copy to NCHW. */
  #dequantizeToRows(step: StridedCopyStep, at: number): void {
    const producer = this.#soleProducer(step.x);
    const source = producer < 0 ? undefined : this.#steps[producer];
    if (source?.op !== 'dequantize' || source.axisSize !== 1 || step.offset !== 0) return;
    const { kind, dtype } = this.#buffers[source.x];
    if (dtype === 'int32' || kind === 'constant') return;
    const planes = asPlanes(step);
    if (!planes || sizeOf(step.shape) !== source.outer * source.inner) return;
    this.#steps[at] = {
      op: 'dequantize_nchw',
      x: source.x,
      y: step.y,
      scale: source.scale[0],
      zeroPoint: source.zeroPoint[0],
      ...planes,
    };
    this.#nodes[at] = this.#nodes[producer];
    this.#steps[producer] = null;
    this.#drop(step.x);
  }

  /** The step, and the elementwise step or chain in front of it that it alone reads. */
  #chain(step: UnaryStep | BinaryStep, at: number): void {
    for (const next of this.#asChains(step)) {
      const producer = next.x === step.y ? -1 : this.#soleProducer(next.x);
      const source = producer < 0 ? undefined : this.#steps[producer];
      if (source?.op !== 'unary' && source?.op !== 'binary' && source?.op !== 'chain') continue;
      if (this.#buffers[source.y].elements !== this.#buffers[step.y].elements) continue;
      const previous = source.op === 'chain' ? [source] : this.#asChains(source);
      const [first] = previous.filter(({ columns }) => columns === 0 || next.columns === 0 || columns === next.columns);
      if (!first || first.x === source.y) continue;
      this.#steps[at] = {
        op: 'chain',
        x: first.x,
        y: step.y,
        columns: first.columns || next.columns,
        parts: [...first.parts, ...next.parts],
      };
      this.#nodes[at] = [...this.#nodes[producer], ...this.#nodes[at]];
      this.#steps[producer] = null;
      this.#drop(next.x);
      return;
    }
  }

  /** The step as a chain of its own, from each side that has the shape of the result. Columns 0: of no matter yet. */
  #asChains(step: UnaryStep | BinaryStep): ChainStep[] {
    if (step.op === 'unary') {
      const { kind, alpha, beta } = step;
      return [{ op: 'chain', x: step.x, y: step.y, columns: 0, parts: [{ kind, alpha, beta }] }];
    }
    const { kind, a, b, y, shape } = step;
    const [aForm, bForm] = [formOf(shape, step.aStrides), formOf(shape, step.bStrides)];
    if (!aForm || !bForm || a === b) return [];
    const from = (x: BufferId, part: Extract<ChainPart, { operand: BufferId }>): ChainStep => ({
      op: 'chain',
      x,
      y,
      columns: part.form === 'row' ? shape[shape.length - 1] : 0,
      parts: [part],
    });
    return [
      ...(aForm === 'dense' ? [from(a, { kind, operand: b, operandFirst: false, form: bForm })] : []),
      ...(bForm === 'dense' ? [from(b, { kind, operand: a, operandFirst: true, form: aForm })] : []),
    ];
  }

  #finish(producer: number, spec: FinishSpec, at: number): void {
    const target = this.#steps[producer] as Producer;
    this.#drop(target.y);
    const { y } = this.#steps[at]!;
    this.#steps[producer] = { ...target, y, finish: [...(target.finish ?? []), spec] };
    this.#nodes[producer] = [...this.#nodes[producer], ...this.#nodes[at]];
    this.#producer[y] = producer;
    this.#steps[at] = null;
  }

  /**
   * The convolution or product that makes `codes` for one reader only and could write `y` instead; -1 if there is none.
   * Finishing needs codes of one dtype.
   */
  #producerFor(codes: BufferId, y: BufferId, finishes = true): number {
    const producer = this.#soleProducer(codes);
    const step = producer < 0 ? undefined : this.#steps[producer];
    if ((step?.op !== 'qconv' && step?.op !== 'qgemm') || step.yStride !== undefined) return -1;
    if (this.#buffers[codes].dtype !== this.#buffers[y].dtype) return -1;
    return finishes && step.output.kind !== 'requantize' ? -1 : producer;
  }

  /** The step that makes an intermediate buffer that is read once; -1 if there is none. */
  #soleProducer(id: BufferId): number {
    return this.#reads[id] === 1 && this.#buffers[id].kind === 'arena' ? this.#producer[id] : -1;
  }

  /** Position from which on a buffer can be read; the end when several steps make it. */
  #madeAt(id: BufferId): number {
    const { kind } = this.#buffers[id];
    if (kind === 'input' || kind === 'constant') return -1;
    return this.#producer[id] < 0 ? this.#steps.length : this.#producer[id];
  }

  #drop(id: BufferId): void {
    this.#buffers[id] = { ...this.#buffers[id], elements: 0 };
    this.#producer[id] = -1;
  }
}

function columnsOf(step: Producer): number {
  return step.op === 'qconv' ? step.outChannels : step.weights.n;
}

/** How an operand runs along a result of that shape; undefined when in another way than chains know. */
function formOf(shape: readonly number[], strides: readonly number[]): 'dense' | 'row' | 'scalar' | undefined {
  const dense = stridesOf(shape);
  if (strides.every((stride, axis) => shape[axis] === 1 || stride === dense[axis])) return 'dense';
  if (strides.every((stride, axis) => shape[axis] === 1 || stride === 0)) return 'scalar';
  return repeatsRow(shape, strides, shape[shape.length - 1]) ? 'row' : undefined;
}

/** Whether an operand is one row of `columns` elements, the same for every row of the result. */
function repeatsRow(shape: readonly number[], strides: readonly number[], columns: number): boolean {
  const last = shape.length - 1;
  return (
    shape[last] === columns &&
    (columns === 1 || strides[last] === 1) &&
    strides.every((stride, axis) => axis === last || shape[axis] === 1 || stride === 0)
  );
}

/** A copy [B, S, C] -> [B, C, S] of dense memory; undefined when it is another one. */
function asPlanes({
  shape,
  strides,
}: StridedCopyStep): { batch: number; channels: number; spatial: number } | undefined {
  if (shape.length < 3) return undefined;
  const [batch, channels] = shape;
  const spatial = sizeOf(shape.slice(2));
  const wanted = [channels * spatial, 1, ...stridesOf(shape.slice(2)).map((stride) => stride * channels)];
  const fits = shape.every((size, axis) => size === 1 || strides[axis] === wanted[axis]);
  return fits && channels > 1 && spatial > 1 ? { batch, channels, spatial } : undefined;
}

/**
 * A segment: consecutive nodes that run natively, as one program under construction. It keeps which tensor is in which
 * buffer and layout, converts layouts on demand, and closes into the description that the addon builds a program from.
 */
import type { BufferDType, Data, PackedWeights, ProgramBuffer, ProgramDescription, ProgramStep } from '../../binding';
import { Q8Error } from '../errors';
import type { Node, Value } from '../graph/graph';
import type { Layout, LowerContext, OpDefinition, Slot } from '../ops/define-op';
import { hasChannelsLast, ordersCoincide, physicalOrder, toNhwc } from '../ops/families/lowering';
import type { DType } from '../tensor/dtype';
import { sizeOf, stridesOf } from '../tensor/shape';
import type { Tensor } from '../tensor/tensor';
import { fuseSteps } from './fuse-steps';
import { planMemory } from './memory-plan';
import type { WeightLease } from './shared-weights';

type Addon = typeof import('../../binding');

const LAYOUTS: Record<'row' | 'nhwc' | 'both', readonly Layout[]> = {
  row: ['row'],
  nhwc: ['nhwc'],
  both: ['row', 'nhwc'],
};

/** What a segment needs to know about the plan that it is part of. */
export interface SegmentHost {
  shape(value: Value): readonly number[];
  dtype(value: Value): DType;
  constant(value: Value): Tensor | undefined;
  readonly weights: WeightLease;
  readonly addon: Addon;
}

/** What is closed: the program's description and which values its inputs and outputs are. */
export interface ClosedSegment {
  description: ProgramDescription;
  inputs: Value[];
  outputs: Value[];
  /** The nodes that each step computes; for layout conversions the one that asked for it. */
  nodes: (readonly Node[])[];
}

type Slots = Partial<Record<Layout, Slot>>;

/**
 * The context of every lower() call in this segment: operators see it as {@link LowerContext}, with the node at hand.
 */
export class Segment implements LowerContext {
  readonly #host: SegmentHost;
  readonly #buffers: ProgramBuffer[] = [];
  readonly #steps: ProgramStep[] = [];
  readonly #nodes: (readonly Node[])[] = [];
  readonly #slots = new Map<Value, Slots>();
  readonly #constants = new Map<Tensor, Slot>();
  readonly #inputs: Value[] = [];
  /** What the node at hand has changed in #slots and #constants, to take it back. */
  #changedSlots: [Value, Slots | undefined][] = [];
  #addedConstants: Tensor[] = [];
  #node: Node | null = null;
  #opset = 0;

  constructor(host: SegmentHost) {
    this.#host = host;
  }

  /** Lets the operator emit its steps. False, with the segment as it was before, when it has no native road. */
  lower(node: Node, definition: OpDefinition, opset: number): boolean {
    const buffers = this.#buffers.length;
    const steps = this.#steps.length;
    const inputs = this.#inputs.length;
    this.#changedSlots = [];
    this.#addedConstants = [];
    this.#node = node;
    this.#opset = opset;
    if (definition.lower?.(this)) {
      const lost = node.outputs.find((value) => value && value.consumerCount > 0 && !this.#slots.has(value));
      if (lost)
        throw new Q8Error('ERR_Q8_INTERNAL', `Lowering ${node.op} made no "${lost.name}".`, { node: node.name });
      return true;
    }
    for (const [value, before] of this.#changedSlots.reverse()) {
      if (before) this.#slots.set(value, before);
      else this.#slots.delete(value);
    }
    for (const tensor of this.#addedConstants) this.#constants.delete(tensor);
    this.#buffers.length = buffers;
    this.#steps.length = steps;
    this.#nodes.length = steps;
    this.#inputs.length = inputs;
    return false;
  }

  /** Ends the segment: `exported` values become outputs in row order, and every intermediate gets its place. */
  close(exported: Iterable<Value>): ClosedSegment {
    this.#node = null;
    const outputs: Value[] = [];
    for (const value of exported) {
      const slot = this.slot(value, 'row');
      const buffer = this.#buffers[slot.id];
      const index = outputs.push(value) - 1;
      if (buffer.kind === 'arena' && buffer.dtype === slot.dtype) {
        this.#buffers[slot.id] = { dtype: buffer.dtype, elements: buffer.elements, kind: 'output', index };
        continue;
      }
      // The memory is an input's, a constant's, or another output's already.
      const id = this.#addBuffer({
        dtype: slot.dtype as BufferDType,
        elements: sizeOf(slot.shape),
        kind: 'output',
        index,
      });
      this.#copy(slot, id, slot.shape, stridesOf(slot.shape));
    }
    const { steps, nodes } = fuseSteps(this.#buffers, { steps: this.#steps, nodes: this.#nodes });
    const arenaBytes = planMemory(this.#buffers, steps);
    return { description: { buffers: this.#buffers, steps, arenaBytes }, inputs: this.#inputs, outputs, nodes };
  }

  get node(): Node {
    return this.#node!;
  }

  get opset(): number {
    return this.#opset;
  }

  get pack(): Addon {
    return this.#host.addon;
  }

  shape(value: Value): readonly number[] {
    return this.#host.shape(value);
  }

  dtype(value: Value): DType {
    return this.#host.dtype(value);
  }

  constant(value: Value | null): Tensor | undefined {
    return value ? this.#host.constant(value) : undefined;
  }

  output(value: Value, layout: Layout): Slot {
    const slot = this.#allocate(this.dtype(value), physicalOrder(this.shape(value), layout), layout);
    this.#setSlot(value, layout, slot);
    return slot;
  }

  temporary(dtype: DType, shape: readonly number[]): Slot {
    return this.#allocate(dtype, shape, 'row');
  }

  constantSlot(tensor: Tensor): Slot {
    return this.#constantSlot(tensor, 'row');
  }

  alias(value: Value, of: Slot, layout: Layout): void {
    const shape = physicalOrder(this.shape(value), layout);
    this.#setSlot(value, layout, { id: of.id, dtype: this.dtype(value), shape, layout });
  }

  shared<T extends PackedWeights>(tensor: Tensor, key: string, make: () => T): T {
    return this.#host.weights.get(tensor, key, make);
  }

  layouts(value: Value): readonly Layout[] {
    const slots = this.#slots.get(value);
    if (!slots?.nhwc) return LAYOUTS.row;
    return slots.row ? LAYOUTS.both : LAYOUTS.nhwc;
  }

  slot(value: Value, layout: Layout): Slot {
    const found = this.#slots.get(value)?.[layout];
    if (found) return found;
    const rank = this.shape(value).length;
    if (layout === 'nhwc' && !hasChannelsLast(rank)) {
      throw new Q8Error('ERR_Q8_INTERNAL', `Value "${value.name}" of rank ${rank} has no channels-last order.`);
    }
    const slot = this.#host.constant(value) ? this.#constantOf(value, layout) : this.#converted(value, layout);
    this.#setSlot(value, layout, slot);
    return slot;
  }

  #constantOf(value: Value, layout: Layout): Slot {
    const tensor = this.#host.constant(value)!;
    return this.#constantSlot(layout === 'row' ? tensor : toNhwc(tensor), layout);
  }

  /** The value read from its other layout, or from outside when this segment has not seen it yet. */
  #converted(value: Value, layout: Layout): Slot {
    const slots = this.#slots.get(value);
    if (!slots) {
      const input = this.#input(value);
      if (layout === 'row') return input;
      this.#setSlot(value, 'row', input);
      return this.#converted(value, layout);
    }
    const source = slots.row ?? slots.nhwc!;
    const shape = this.shape(value);
    const target = physicalOrder(shape, layout);
    if (ordersCoincide(shape)) return { id: source.id, dtype: source.dtype, shape: target, layout };
    const from = stridesOf(source.shape);
    const rank = from.length;
    // Strides of the source, listed along the axes of the target.
    const strides =
      layout === 'nhwc' ? physicalOrder(from, 'nhwc') : [from[0], from[rank - 1], ...from.slice(1, rank - 1)];
    const slot = this.#allocate(source.dtype, target, layout);
    this.#copy(source, slot.id, target, strides);
    return slot;
  }

  #input(value: Value): Slot {
    const shape = this.shape(value);
    const dtype = this.#host.dtype(value);
    const index = this.#inputs.push(value) - 1;
    const id = this.#addBuffer({ dtype: dtype as BufferDType, elements: sizeOf(shape), kind: 'input', index });
    return { id, dtype, shape, layout: 'row' };
  }

  #constantSlot(tensor: Tensor, layout: Layout): Slot {
    const found = this.#constants.get(tensor);
    if (found) return found;
    const id = this.#addBuffer({
      dtype: tensor.type as BufferDType,
      elements: tensor.size,
      kind: 'constant',
      data: tensor.data as Data,
    });
    const slot: Slot = { id, dtype: tensor.type, shape: tensor.dims, layout };
    this.#constants.set(tensor, slot);
    this.#addedConstants.push(tensor);
    return slot;
  }

  #allocate(dtype: DType, shape: readonly number[], layout: Layout): Slot {
    const id = this.#addBuffer({ dtype: dtype as BufferDType, elements: sizeOf(shape), kind: 'arena', offset: 0 });
    return { id, dtype, shape, layout };
  }

  #addBuffer(buffer: ProgramBuffer): number {
    return this.#buffers.push(buffer) - 1;
  }

  #setSlot(value: Value, layout: Layout, slot: Slot): void {
    const before = this.#slots.get(value);
    this.#slots.set(value, { ...before, [layout]: slot });
    this.#changedSlots.push([value, before]);
  }

  #copy(from: Slot, to: number, shape: readonly number[], strides: readonly number[]): void {
    this.emit({ op: 'strided_copy', x: from.id, y: to, shape: [...shape], strides: [...strides], offset: 0 });
  }

  emit(step: ProgramStep): void {
    this.#steps.push(step);
    this.#nodes.push(this.#node ? [this.#node] : []);
  }
}

/**
 * Where each intermediate tensor of a program lives in its one arena. Buffers whose lifetimes do not overlap share
 * memory; elementwise steps write over an operand that nobody reads again.
 */
import type { BufferId, ProgramBuffer, ProgramStep } from '../../binding';
import { bytesOf } from '../tensor/dtype';
import { stridesOf } from '../tensor/shape';

/** Offsets are multiples of this: a cache line and the widest vector. */
const ALIGNMENT = 64;

/** Buffers that a step reads. */
export function readsOf(step: ProgramStep): BufferId[] {
  const own = operandsOf(step);
  if (!('finish' in step) || !step.finish) return own;
  return [...own, ...step.finish.flatMap((part) => (part.kind === 'lut' ? [] : [part.operand]))];
}

function operandsOf(step: ProgramStep): BufferId[] {
  switch (step.op) {
    case 'qmatmul':
    case 'qbinary':
    case 'matmul':
    case 'binary':
      return [step.a, step.b];
    case 'where':
      return [step.condition, step.a, step.b];
    case 'chain':
      return [step.x, ...step.parts.flatMap((part) => ('operand' in part ? [part.operand] : []))];
    case 'layer_norm':
      return step.bias === null ? [step.x, step.scale] : [step.x, step.scale, step.bias];
    case 'concat':
      return step.inputs;
    case 'gather_dynamic':
      return [step.x, step.indices];
    case 'quantize_dynamic':
      return [step.x, step.range];
    case 'qgemm_dynamic':
    case 'qconv_dynamic':
      return [step.x, step.xZeroPoint, ...(step.xScale === null ? [] : [step.xScale])];
    case 'attention':
      return [step.q, step.k, step.v, ...[step.mask, step.bias].filter((id) => id !== null)];
    default:
      return [step.x];
  }
}

/** Operands that the step may overwrite with its result: element i of the result needs only their element i. */
function overwritable(step: ProgramStep): BufferId[] {
  switch (step.op) {
    case 'unary':
    case 'lut':
      return [step.x];
    // x is read by the first operator only, unless it is an operand too, and every block of the result is stored last.
    case 'chain':
      return step.parts.some((part) => 'operand' in part && part.operand === step.x && part.form !== 'dense')
        ? []
        : [step.x];
    case 'binary':
    case 'qbinary': {
      const dense = stridesOf(step.shape);
      const runsAlong = (strides: number[]): boolean =>
        strides.every((s, axis) => step.shape[axis] === 1 || s === dense[axis]);
      // An operand given twice is read at two strides; overwriting is safe only when both run along.
      if (step.a === step.b) return runsAlong(step.aStrides) && runsAlong(step.bStrides) ? [step.a] : [];
      return [...(runsAlong(step.aStrides) ? [step.a] : []), ...(runsAlong(step.bStrides) ? [step.b] : [])];
    }
    default:
      return [];
  }
}

/** A stretch of free memory. */
interface Gap {
  offset: number;
  bytes: number;
}

/**
 * Sets the offset of every 'arena' buffer and returns the bytes of the arena. Walks the steps once and keeps the gaps
 * between living buffers; a new buffer takes the smallest gap that holds it, else the arena grows.
 */
export function planMemory(buffers: readonly ProgramBuffer[], steps: readonly ProgramStep[]): number {
  const lastUse = new Int32Array(buffers.length).fill(-1);
  steps.forEach((step, at) => {
    for (const id of readsOf(step)) lastUse[id] = at;
    lastUse[step.y] = at;
  });
  const placed = new Uint8Array(buffers.length);
  const arena = new Arena();
  const sizes = buffers.map((buffer) => Math.ceil((buffer.elements * bytesOf(buffer.dtype)) / ALIGNMENT) * ALIGNMENT);
  steps.forEach((step, at) => {
    const y = buffers[step.y];
    let reused: BufferId | undefined;
    if (y.kind === 'arena' && !placed[step.y]) {
      placed[step.y] = 1;
      reused = overwritable(step).find((id) => {
        const x = buffers[id];
        return (
          x.kind === 'arena' &&
          lastUse[id] === at &&
          sizes[id] === sizes[step.y] &&
          bytesOf(x.dtype) === bytesOf(y.dtype)
        );
      });
      const source = reused === undefined ? undefined : buffers[reused];
      y.offset = source?.kind === 'arena' ? source.offset : arena.take(sizes[step.y]);
    }
    for (const id of new Set([...readsOf(step), step.y])) {
      const buffer = buffers[id];
      if (buffer.kind === 'arena' && lastUse[id] === at && id !== reused) arena.give(buffer.offset, sizes[id]);
    }
  });
  return arena.bytes;
}

class Arena {
  bytes = 0;
  /** Sorted by offset; no two touch. */
  readonly #gaps: Gap[] = [];

  take(bytes: number): number {
    if (bytes === 0) return 0;
    let best = -1;
    for (let i = 0; i < this.#gaps.length; i++) {
      if (this.#gaps[i].bytes >= bytes && (best < 0 || this.#gaps[i].bytes < this.#gaps[best].bytes)) best = i;
    }
    if (best < 0) return this.#grow(bytes);
    const gap = this.#gaps[best];
    const { offset } = gap;
    gap.offset += bytes;
    gap.bytes -= bytes;
    if (gap.bytes === 0) this.#gaps.splice(best, 1);
    return offset;
  }

  /** Extends the arena by what the gap at its end lacks. */
  #grow(bytes: number): number {
    const last = this.#gaps.at(-1);
    const atEnd = last !== undefined && last.offset + last.bytes === this.bytes;
    const offset = atEnd ? last.offset : this.bytes;
    if (atEnd) this.#gaps.pop();
    this.bytes = offset + bytes;
    return offset;
  }

  give(offset: number, bytes: number): void {
    if (bytes === 0) return;
    let at = this.#gaps.findIndex((gap) => gap.offset > offset);
    if (at < 0) at = this.#gaps.length;
    const before = this.#gaps[at - 1];
    const after = this.#gaps[at];
    if (before && before.offset + before.bytes === offset) {
      before.bytes += bytes;
      if (after && before.offset + before.bytes === after.offset) {
        before.bytes += after.bytes;
        this.#gaps.splice(at, 1);
      }
    } else if (after && offset + bytes === after.offset) {
      after.offset = offset;
      after.bytes += bytes;
    } else this.#gaps.splice(at, 0, { offset, bytes });
  }
}

/**
 * Calibration tables for TensorRT: the three files that ONNX Runtime's Python tool writes and its TensorRT provider reads
 * (`trt_int8_calibration_table_name`, `trt_int8_use_native_calibration_table`). The flatbuffer has the schema
 * `table KeyValue { key: string; value: string; } table TrtTable { dict: [KeyValue]; }`.
 */
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { checkOptionKeys, expected } from '../errors';
import { type CalibrationRanges, parseRanges, type RangesSource } from './ranges';

export interface CalibrationTableOptions {
  /**
   * Write the bytes of ONNX Runtime 1.30's Python tool. It takes max(highest, lowest) for the largest magnitude, which is
   * too small for tensors that reach further down than up; q8 takes max(|highest|, |lowest|).
   */
  compat?: 'onnxruntime';
}

/**
 * Writes `calibration.json`, `calibration.flatbuffers` and `calibration.cache` into a folder, which must exist.
 *
 * @param ranges as {@link parseRanges} takes them: of a result of quantize(), or the path of a file.
 * @returns the paths written.
 * @throws ERR_Q8_INVALID_ARGUMENT for what are no ranges.
 */
export async function writeCalibrationTable(
  ranges: RangesSource,
  folder: string,
  options: CalibrationTableOptions = {},
): Promise<string[]> {
  checkOptionKeys(options, new Set(['compat']), 'writeCalibrationTable()');
  const { compat } = options;
  if (compat !== undefined && compat !== 'onnxruntime') throw expected('"onnxruntime"', 'the option compat', compat);
  const { tensors } = parseRanges(ranges);
  const files = Object.entries(calibrationTable(tensors, compat === 'onnxruntime'));
  const paths: string[] = [];
  for (const [name, content] of files) {
    const path = join(folder, `calibration.${name}`);
    await fs.writeFile(path, content);
    paths.push(path);
  }
  return paths;
}

/** The contents of the three files, by the ends of their names. */
export function calibrationTable(
  tensors: CalibrationRanges['tensors'],
  isCompatible: boolean,
): { json: string; flatbuffers: Uint8Array; cache: string } {
  const rows = Object.entries(tensors)
    .map(([name, [low, high]]): [string, string] => {
      const magnitude = isCompatible ? (low > high ? low : high) : Math.max(Math.abs(low), Math.abs(high));
      return [name, pythonFloat(magnitude)];
    })
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return {
    json: formatJson(tensors),
    flatbuffers: encodeTable(rows),
    cache: rows.map(([name, value]) => `${name} ${value}\n`).join(''),
  };
}

/** As Python's json.dumps spaces it. */
function formatJson(tensors: CalibrationRanges['tensors']): string {
  const array = (x: number): string => `{"data": ${pythonFloat(x)}, "dtype": "float32", "CLS": "numpy.array"}`;
  const entries = Object.entries(tensors).map(
    ([name, [low, high]]) =>
      `${asciiJson(name)}: {"lowest": ${array(low)}, "highest": ${array(high)}, "CLS": "TensorData"}`,
  );
  return `{${entries.join(', ')}}`;
}

function asciiJson(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A number as Python's repr() writes it: the shortest digits, like JavaScript's, but with exponents elsewhere. */
function pythonFloat(x: number): string {
  if (Object.is(x, -0)) return '-0.0';
  const magnitude = Math.abs(x);
  if (magnitude !== 0 && (magnitude < 1e-4 || magnitude >= 1e16)) {
    const [digits, exponent] = x.toExponential().split('e');
    const size = exponent.slice(1).padStart(2, '0');
    return `${digits}e${exponent[0]}${size}`;
  }
  return Number.isInteger(x) ? `${x}.0` : String(x);
}

function encodeTable(rows: readonly (readonly [key: string, value: string])[]): Uint8Array {
  const writer = new FlatbufferWriter();
  const entries = rows.map(([key, value]) => {
    const offsets = [writer.string(key), writer.string(value)];
    return writer.table(offsets);
  });
  return writer.finish(writer.table([writer.vector(entries)]));
}

/**
 * Writes a flatbuffer from its end to its start, as the format is made for: what is referred to comes first. Offsets count
 * from the end. Only tables of references, vectors of them, and strings.
 */
class FlatbufferWriter {
  /** The bytes, last one first. */
  readonly #reversed: number[] = [];
  /** Offsets of the descriptions of tables, by their content; tables of one kind share theirs. */
  readonly #descriptions = new Map<string, number>();

  string(text: string): number {
    const bytes = Buffer.from(text);
    this.#align(4, bytes.length + 1);
    this.#reversed.push(0);
    for (let i = bytes.length - 1; i >= 0; i--) this.#reversed.push(bytes[i]);
    return this.#uint32(bytes.length);
  }

  vector(offsets: readonly number[]): number {
    this.#align(4, 4 * offsets.length);
    for (const offset of offsets) this.#reference(offset);
    return this.#uint32(offsets.length);
  }

  /** A table whose fields refer to what stands at these offsets. */
  table(fields: readonly number[]): number {
    this.#align(4, 0);
    const end = this.#reversed.length;
    const places = fields.map((offset) => this.#reference(offset));
    const start = this.#uint32(0);
    const description = places.map((place) => start - place);
    const key = description.join();
    let at = this.#descriptions.get(key);
    if (at === undefined) {
      for (let i = description.length - 1; i >= 0; i--) this.#uint16(description[i]);
      this.#uint16(start - end);
      at = this.#uint16(2 * (description.length + 2));
      this.#descriptions.set(key, at);
    }
    for (let i = 0; i < 4; i++) this.#reversed[start - 1 - i] = ((at - start) >> (8 * i)) & 255;
    return start;
  }

  finish(root: number): Uint8Array {
    this.#align(4, 4);
    this.#reference(root);
    return Uint8Array.from(this.#reversed).reverse();
  }

  /** Pads so that, after `more` bytes, the position is a multiple of `size`. */
  #align(size: number, more: number): void {
    while ((this.#reversed.length + more) % size !== 0) this.#reversed.push(0);
  }

  #reference(offset: number): number {
    this.#align(4, 0);
    return this.#uint32(this.#reversed.length - offset + 4);
  }

  #uint32(value: number): number {
    this.#reversed.push(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
    return this.#reversed.length;
  }

  #uint16(value: number): number {
    this.#reversed.push(value >>> 8, value & 255);
    return this.#reversed.length;
  }
}

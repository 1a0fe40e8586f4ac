/** Numbers as people read them. */

/** 1536 -> "1.5 kB". Decimal units. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  const power = Math.min(units.length, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[power - 1]}`;
}

/** Caches are sized in binary units: 32768 -> "32 KiB". */
export function formatCache(bytes: number): string {
  if (bytes === 0) return 'unknown';
  return bytes < 2 ** 20 ? `${bytes / 1024} KiB` : `${bytes / 2 ** 20} MiB`;
}

/** Milliseconds with three significant digits or so, in the unit that suits. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 1) return `${(milliseconds * 1000).toFixed(1)} us`;
  if (milliseconds < 1000) return `${milliseconds.toFixed(milliseconds < 10 ? 3 : milliseconds < 100 ? 2 : 1)} ms`;
  return `${(milliseconds / 1000).toFixed(2)} s`;
}

export function formatShape(shape: readonly (number | string)[] | undefined): string {
  return shape === undefined ? '[...]' : `[${shape.join(', ')}]`;
}

/** 1 node, 2 nodes. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

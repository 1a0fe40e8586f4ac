/** Plain text tables: columns as wide as their content, numbers to the right. */

/** A cell; null is shown as a dash. */
export type Cell = string | number | null;

export interface TableOptions {
  /** Alignment by column: 'l' (default) or 'r', for example 'lrr'. */
  align?: string;
  /** Applied to the header line. */
  styleHeader?: (text: string) => string;
}

/** Lays out rows under a header, joined by newlines. Cells must not hold escape sequences. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  options: TableOptions = {},
): string {
  const { align = '', styleHeader = (text) => text } = options;
  const cells = [header, ...rows].map((row) => row.map((cell) => (cell === null ? '-' : String(cell))));
  const widths = header.map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => (align[column] === 'r' ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
      .join('  ')
      .trimEnd(),
  );
  return [styleHeader(lines[0]), widths.map((width) => '-'.repeat(width)).join('  '), ...lines.slice(1)].join('\n');
}

/** Names to the left, values to the right of them. */
export function formatPairs(pairs: readonly (readonly [string, string])[], styleName = (text: string) => text): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${styleName(name.padEnd(width))}  ${value}`).join('\n');
}

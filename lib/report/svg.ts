/** Static charts for the report: plain SVG text without scripts. Colours are CSS classes, so that themes apply. */
import type { Distribution } from './analysis';

/** Makes text safe inside HTML and SVG, in attributes too. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** One layer of {@link layerChart}; dB, Infinity for exact. */
export interface LayerBar {
  label: string;
  local: number | undefined;
  accumulated: number;
}

/** Where the axis of dB ends; what is better is drawn as high as this. */
const TOP_DB = 60;
const CHART_HEIGHT = 190;
const MARGIN = { left: 40, right: 8, top: 10, bottom: 22 };

/** SQNR of each layer: a bar for its own error, a line for what has accumulated up to it. */
export function layerChart(layers: readonly LayerBar[]): string {
  const step = Math.min(44, Math.max(5, 1130 / Math.max(1, layers.length)));
  const width = MARGIN.left + step * layers.length + MARGIN.right;
  const height = CHART_HEIGHT + MARGIN.top + MARGIN.bottom;
  const y = (db: number) => MARGIN.top + CHART_HEIGHT * (1 - Math.min(TOP_DB, Math.max(0, db)) / TOP_DB);
  const x = (i: number) => MARGIN.left + step * i;
  const grid = [0, 10, 20, 30, 40, 50, 60].map(
    (db) =>
      `<line class="grid" x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${round(y(db))}" y2="${round(y(db))}"/>` +
      `<text x="${MARGIN.left - 6}" y="${round(y(db) + 4)}" text-anchor="end">${db}</text>`,
  );
  const bars = layers.map(({ label, local, accumulated }, i) => {
    const tip = `${label}\nown ${formatDb(local)}, accumulated ${formatDb(accumulated)}`;
    const top = local === undefined ? y(0) : y(local);
    return (
      `<g><title>${escapeHtml(tip)}</title><rect class="hit" x="${round(x(i))}" y="${MARGIN.top}" width="${round(step)}" height="${CHART_HEIGHT}"/>` +
      `<rect class="${grade(local)}" x="${round(x(i) + step * 0.15)}" y="${round(top)}" width="${round(step * 0.7)}" height="${round(y(0) - top)}"/></g>`
    );
  });
  const points = layers.map(({ accumulated }, i) => `${round(x(i) + step / 2)},${round(y(accumulated))}`);
  return (
    `<svg class="layers" width="${round(width)}" height="${height}" viewBox="0 0 ${round(width)} ${height}" role="img" aria-label="SQNR of each layer">` +
    `${grid.join('')}${bars.join('')}<polyline class="accumulated" points="${points.join(' ')}"/>` +
    `<text x="${MARGIN.left}" y="${height - 6}">first layer</text>` +
    `<text x="${round(width - MARGIN.right)}" y="${height - 6}" text-anchor="end">last layer</text></svg>`
  );
}

const SPARK_WIDTH = 168;
const SPARK_HEIGHT = 34;

/** How values are distributed (square root of the counts), and the range that the codes cover. */
export function rangeChart({ low, width, counts }: Distribution, range: readonly [number, number] | undefined): string {
  const high = low + width * counts.length;
  const from = Math.min(low, range?.[0] ?? low);
  const to = Math.max(high, range?.[1] ?? high);
  // A range that is much wider than the values must not shrink them to nothing, nor leave the picture.
  const x = (value: number) => 2 + ((SPARK_WIDTH - 4) * (value - from)) / (to - from || 1);
  const largest = Math.sqrt(Math.max(1, ...counts));
  const base = SPARK_HEIGHT - 6;
  const steps = counts.map((count, i) => {
    const top = round(base - (base - 2) * (Math.sqrt(count) / largest));
    return `L${round(x(low + i * width))},${top}L${round(x(low + (i + 1) * width))},${top}`;
  });
  const area = `<path class="values" d="M${round(x(low))},${base}${steps.join('')}L${round(x(high))},${base}Z"/>`;
  const band = range
    ? `<path class="range" d="M${round(x(range[0]))},${base - 3}v8M${round(x(range[0]))},${base + 2}H${round(x(range[1]))}M${round(x(range[1]))},${base - 3}v8"/>`
    : '';
  return `<svg class="spark" width="${SPARK_WIDTH}" height="${SPARK_HEIGHT}" viewBox="0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}">${area}${band}</svg>`;
}

/** A number of dB in words. */
export function formatDb(db: number | undefined): string {
  if (db === undefined) return '–';
  if (db === Number.POSITIVE_INFINITY) return 'exact';
  return Number.isFinite(db) ? `${db.toFixed(1)} dB` : 'lost';
}

/** CSS class for an SQNR: below 20 dB errors are above 10 %, above 40 dB below 1 %. */
export function grade(db: number | undefined): 'poor' | 'fair' | 'good' {
  if (db === undefined || db >= 30) return 'good';
  return db >= 20 ? 'fair' : 'poor';
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

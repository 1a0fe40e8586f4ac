/**
 * Pictures of `npm run bench -- gemm`: what part of the core's multiply limit each shape reaches, and a roofline, which
 * tells the shapes that wait for memory from those that multiply. Plain SVG; colours fit light and dark pages.
 */
import type { GemmRow, Machine } from './gemm';

/** Results of one instruction set, one thread, one type pair. */
export interface Series {
  isa: string;
  machine: Machine;
  rows: readonly GemmRow[];
}

const WIDTH = 1000;
const LEFT = 52;
const RIGHT = 12;
const OWN_COLOURS = ['#2f6fde', '#1f9d8f', '#8a55d7', '#c2577b'];
const OTHER_COLOUR = '#9aa3af';
const MEMORY_COLOUR = '#d9822b';
const STYLE = `text{font:12px system-ui,sans-serif;fill:#556}.grid{stroke:#8884;stroke-width:1}.title{font-weight:600}
.roof{fill:none;stroke:#889;stroke-width:1.5}.small{font-size:11px}`;

/** Bars: percent of the peak by shape, each instruction set beside onnxruntime-node (which saturates without VNNI). */
export function percentChart(title: string, series: readonly Series[]): string {
  const { rows } = series[0];
  const top = 44;
  const height = 260;
  const bottom = 92;
  const group = (WIDTH - LEFT - RIGHT) / rows.length;
  const y = (percent: number): number => top + height * (1 - Math.min(percent, 120) / 120);
  const bar = group / (series.length + 1.6);
  const parts = [0, 20, 40, 60, 80, 100, 120].map(
    (percent) =>
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${round(y(percent))}" y2="${round(y(percent))}"/>` +
      `<text x="${LEFT - 6}" y="${round(y(percent) + 4)}" text-anchor="end">${percent} %</text>`,
  );
  for (const [i, row] of rows.entries()) {
    const x = LEFT + group * i + bar * 0.3;
    const bars = series.map(({ isa, rows: own }, s) => ({
      percent: own[i].percentOfPeak,
      colour: OWN_COLOURS[s % OWN_COLOURS.length],
      tip: `q8 ${isa}: ${own[i].gmacPerSecond.toFixed(1)} GMAC/s`,
    }));
    if (row.ortMilliseconds !== null) {
      const percent = (row.percentOfPeak * row.milliseconds) / row.ortMilliseconds;
      bars.push({ percent, colour: OTHER_COLOUR, tip: `onnxruntime-node: ${percent.toFixed(0)} %` });
    }
    for (const [b, { percent, colour, tip }] of bars.entries()) {
      parts.push(
        `<rect x="${round(x + bar * b)}" y="${round(y(percent))}" width="${round(bar * 0.92)}" ` +
          `height="${round(y(0) - y(percent))}" fill="${colour}"><title>${row.shape.join(' x ')}\n${tip}</title></rect>`,
      );
    }
    const middle = round(LEFT + group * (i + 0.5));
    parts.push(
      `<text class="small" x="${middle}" y="${top + height + 12}" text-anchor="end" transform="rotate(-40 ${middle} ${top + height + 12})">${row.shape.join('×')}</text>`,
    );
  }
  const names = [...series.map(({ isa }) => `q8 ${isa}`), 'onnxruntime-node'];
  const colours = [...series.map((_, s) => OWN_COLOURS[s % OWN_COLOURS.length]), OTHER_COLOUR];
  return svg(top + height + bottom, title, [...parts, legend(names, colours)]);
}

/** Log-log: speed over multiply-adds per byte that a call must touch, under the measured roofs. */
export function rooflineChart(title: string, { rows, machine }: Series): string {
  const top = 44;
  const height = 320;
  const columns = 6;
  const bottom = 58 + 16 * Math.ceil(rows.length / columns);
  const points = rows.map((row) => ({ row, intensity: intensityOf(row) }));
  const [low, high] = [
    2 ** Math.floor(Math.log2(Math.min(...points.map((p) => p.intensity)))),
    2 ** Math.ceil(Math.log2(Math.max(...points.map((p) => p.intensity)))),
  ];
  const ceiling = 2 ** Math.ceil(Math.log2(machine.peakGmacPerSecond) + 0.2);
  const floor = 2 ** Math.floor(Math.log2(Math.min(...rows.map((row) => row.gmacPerSecond))) - 0.2);
  const x = (value: number): number => LEFT + ((WIDTH - LEFT - RIGHT) * Math.log2(value / low)) / Math.log2(high / low);
  const y = (value: number): number => top + height * (1 - Math.log2(value / floor) / Math.log2(ceiling / floor));
  const parts: string[] = [];
  for (let at = low; at <= high; at *= 2) {
    parts.push(
      `<line class="grid" x1="${round(x(at))}" x2="${round(x(at))}" y1="${top}" y2="${top + height}"/>`,
      `<text x="${round(x(at))}" y="${top + height + 16}" text-anchor="middle">${at}</text>`,
    );
  }
  for (let at = floor; at <= ceiling; at *= 2) {
    parts.push(
      `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${round(y(at))}" y2="${round(y(at))}"/>`,
      `<text x="${LEFT - 6}" y="${round(y(at) + 4)}" text-anchor="end">${at}</text>`,
    );
  }
  const peak = machine.peakGmacPerSecond;
  for (const { name, gigabytesPerSecond } of machine.bandwidth) {
    const knee = Math.min(Math.max(peak / gigabytesPerSecond, low), high);
    const from = Math.max(low, floor / gigabytesPerSecond);
    if (from >= knee) continue;
    parts.push(
      `<path class="roof" d="M${round(x(from))},${round(y(from * gigabytesPerSecond))}L${round(x(knee))},${round(y(Math.min(peak, knee * gigabytesPerSecond)))}"/>`,
      `<text class="small" x="${round(x(from) + 6)}" y="${round(y(from * gigabytesPerSecond) - 6)}">${name} ${gigabytesPerSecond.toFixed(0)} GB/s</text>`,
    );
  }
  parts.push(
    `<path class="roof" d="M${LEFT},${round(y(peak))}H${WIDTH - RIGHT}"/>`,
    `<text class="small" x="${WIDTH - RIGHT - 4}" y="${round(y(peak) - 6)}" text-anchor="end">multiply limit ${peak.toFixed(0)} GMAC/s</text>`,
  );
  for (const [i, { row, intensity }] of points.entries()) {
    const colour = boundOf(row, machine) === 'compute' ? OWN_COLOURS[0] : MEMORY_COLOUR;
    const [cx, cy] = [round(x(intensity)), round(y(row.gmacPerSecond))];
    const column = LEFT + ((WIDTH - LEFT - RIGHT) / columns) * (i % columns);
    const line = top + height + 58 + 16 * Math.floor(i / columns);
    parts.push(
      `<g><title>${row.shape.join(' x ')}: ${row.gmacPerSecond.toFixed(1)} GMAC/s</title>` +
        `<circle cx="${cx}" cy="${cy}" r="8.5" fill="${colour}" fill-opacity="0.9"/>` +
        `<text class="small" x="${cx}" y="${round(cy + 4)}" text-anchor="middle" style="fill:#fff">${i + 1}</text></g>`,
      `<text class="small" x="${round(column)}" y="${line}">${i + 1}: ${row.shape.join('×')}</text>`,
    );
  }
  parts.push(
    `<text x="${WIDTH - RIGHT}" y="${top + height + 36}" text-anchor="end">multiply-adds per byte of A, B and C</text>`,
    legend(['limited by multiplies', 'limited by memory'], [OWN_COLOURS[0], MEMORY_COLOUR]),
  );
  return svg(top + height + bottom, title, parts);
}

/** Multiply-adds for each byte of A and B that is read and of C (int32) that is written once. */
export function intensityOf({ shape: [m, n, k] }: GemmRow): number {
  return (m * n * k) / (m * k + k * n + 4 * m * n);
}

/** What the roofline says limits a shape on one thread: multiplies, or the level of memory that its weights live in. */
export function boundOf(row: GemmRow, machine: Machine): string {
  const [, n, k] = row.shape;
  const level = machine.bandwidth.find(({ bytes }) => k * n <= bytes) ?? machine.bandwidth.at(-1)!;
  return intensityOf(row) * level.gigabytesPerSecond < machine.peakGmacPerSecond ? level.name : 'compute';
}

function svg(height: number, title: string, parts: readonly string[]): string {
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}">` +
    `<style>${STYLE}</style><rect width="${WIDTH}" height="${height}" fill="#fff"/>` +
    `<text class="title" x="${LEFT}" y="18">${title}</text>\n${parts.join('\n')}\n</svg>\n`
  );
}

function legend(names: readonly string[], colours: readonly string[]): string {
  let x = LEFT;
  return names
    .map((name, i) => {
      const at = x;
      x += 26 + name.length * 6.6;
      return `<rect x="${round(at)}" y="27" width="10" height="10" fill="${colours[i]}"/><text x="${round(at + 14)}" y="36">${name}</text>`;
    })
    .join('');
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

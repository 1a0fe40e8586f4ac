/** A profile for people and for tools: a table, Chrome's trace format, and a picture of where the time goes. */
import type { ProfileRow } from '../runtime/profile';

/** What the rates of a profile are compared with. */
export interface ProfilePeak {
  /** Threads that the run used. */
  threads: number;
  /** 10^9 8-bit multiply-adds per second of one thread on registers. */
  gmacPerSecond: number;
}

/** 10^9 multiply-adds per second; undefined for steps that have none. */
export function rateOf({ macs, microseconds }: ProfileRow): number | undefined {
  return macs > 0 && microseconds > 0 ? macs / microseconds / 1e3 : undefined;
}

/** Percent of what the cores can do; undefined for steps that multiply nothing, or floats. */
export function percentOfPeak(row: ProfileRow, { threads, gmacPerSecond }: ProfilePeak): number | undefined {
  const rate = rateOf(row);
  return rate !== undefined && row.isInteger ? (100 * rate) / (threads * gmacPerSecond) : undefined;
}

/** Header and cells of a table, the most expensive step first, sums by kind of step below. */
export function profileTable(
  rows: readonly ProfileRow[],
  peak: ProfilePeak,
): { header: string[]; align: string; cells: (string | number)[][] } {
  const total = rows.reduce((sum, row) => sum + row.microseconds, 0);
  const line = (row: ProfileRow): (string | number)[] => [
    row.name,
    row.op,
    row.kernel === '' ? row.step : `${row.step} ${row.kernel}`,
    row.microseconds.toFixed(1),
    `${((100 * row.microseconds) / total).toFixed(1)} %`,
    rateOf(row)?.toFixed(1) ?? '',
    suffixed(percentOfPeak(row, peak)),
  ];
  const sorted = [...rows].sort((a, b) => b.microseconds - a.microseconds);
  const kinds = byKind(rows).map((sum) => line({ ...sum, name: `all ${sum.step} ${sum.kernel}`.trimEnd(), op: '' }));
  return {
    header: ['node', 'operator', 'step', 'us', 'share', 'GMAC/s', 'of peak'],
    align: 'lllrrrr',
    cells: [...sorted.map(line), ...kinds, ['total', '', '', total.toFixed(1), '', '', '']],
  };
}

function suffixed(percent: number | undefined): string {
  return percent === undefined ? '' : `${percent.toFixed(0)} %`;
}

/** Rows added up by step and kernel, the most expensive kind first. */
function byKind(rows: readonly ProfileRow[]): ProfileRow[] {
  const kinds = new Map<string, ProfileRow>();
  for (const row of rows) {
    const key = `${row.step} ${row.kernel}`;
    const sum = kinds.get(key);
    if (!sum) kinds.set(key, { ...row });
    else {
      sum.microseconds += row.microseconds;
      sum.macs += row.macs;
    }
  }
  return [...kinds.values()].sort((a, b) => b.microseconds - a.microseconds);
}

/** The JSON of chrome://tracing and Perfetto: one complete event per step. */
export function chromeTrace(rows: readonly ProfileRow[], peak: ProfilePeak): object {
  return {
    displayTimeUnit: 'ms',
    traceEvents: rows.map((row) => ({
      name: row.name,
      cat: row.step,
      ph: 'X',
      ts: row.startMicroseconds,
      dur: row.microseconds,
      pid: 1,
      tid: 1,
      args: {
        operator: row.op,
        step: row.step,
        kernel: row.kernel,
        macs: row.macs,
        gmacPerSecond: rateOf(row) ?? null,
        percentOfPeak: percentOfPeak(row, peak) ?? null,
      },
    })),
  };
}

const WIDTH = 1200;
const BAR = 22;
const FONT = 12;
/** Narrower bars have no text; a pixel is what can still be pointed at. */
const MIN_TEXT = 30;
const CHARACTER = 6.6;

interface Frame {
  label: string;
  detail: string;
  microseconds: number;
  hue: number;
  children: Frame[];
}

/**
 * An icicle: the run on top, kinds of steps below it, their nodes below them, each as wide as its time, the widest to the
 * left. Titles of the bars (shown on hover) have the numbers.
 */
export function profileSvg(rows: readonly ProfileRow[], peak: ProfilePeak): string {
  const total = rows.reduce((sum, row) => sum + row.microseconds, 0);
  const detail = (row: ProfileRow): string => {
    const rate = rateOf(row);
    const percent = percentOfPeak(row, peak);
    return [
      `${row.microseconds.toFixed(1)} us, ${((100 * row.microseconds) / total).toFixed(1)} %`,
      ...(rate === undefined ? [] : [`${rate.toFixed(1)} GMAC/s`]),
      ...(percent === undefined ? [] : [`${percent.toFixed(0)} % of peak`]),
    ].join(', ');
  };
  const kinds = byKind(rows).map((sum, i): Frame => {
    const hue = (i * 47) % 360;
    const members = rows.filter((row) => row.step === sum.step && row.kernel === sum.kernel);
    return {
      label: `${sum.step} ${sum.kernel}`.trimEnd(),
      detail: detail(sum),
      microseconds: sum.microseconds,
      hue,
      children: members
        .sort((a, b) => b.microseconds - a.microseconds)
        .map((row) => ({
          label: row.name,
          detail: `${row.op}: ${detail(row)}`,
          microseconds: row.microseconds,
          hue,
          children: [],
        })),
    };
  });
  const root: Frame = {
    label: `run: ${(total / 1000).toFixed(3)} ms`,
    detail: `${rows.length} steps, ${peak.threads} threads`,
    microseconds: total,
    hue: 210,
    children: kinds,
  };
  const bars: string[] = [];
  draw(root, 0, 0, total > 0 ? WIDTH / total : 0, bars);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${3 * BAR}" width="${WIDTH}" height="${3 * BAR}" ` +
      `font-family="monospace" font-size="${FONT}">`,
    ...bars,
    '</svg>',
    '',
  ].join('\n');
}

function draw(frame: Frame, left: number, level: number, perMicrosecond: number, bars: string[]): void {
  const width = frame.microseconds * perMicrosecond;
  const room = Math.floor((width - 6) / CHARACTER);
  const label = frame.label.length > room ? `${frame.label.slice(0, Math.max(room - 1, 0))}…` : frame.label;
  const [x, y] = [left.toFixed(2), level * BAR];
  bars.push(
    `<g><title>${escapeXml(`${frame.label}\n${frame.detail}`)}</title>` +
      `<rect x="${x}" y="${y}" width="${width.toFixed(2)}" height="${BAR - 1}" ` +
      `fill="hsl(${frame.hue} 60% ${70 + 6 * level}%)" stroke="#fff" stroke-width="0.5"/>` +
      (width < MIN_TEXT ? '' : `<text x="${(left + 3).toFixed(2)}" y="${y + BAR - 7}">${escapeXml(label)}</text>`) +
      '</g>',
  );
  let at = left;
  for (const child of frame.children) {
    draw(child, at, level + 1, perMicrosecond, bars);
    at += child.microseconds * perMicrosecond;
  }
}

function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);
}

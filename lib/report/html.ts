/**
 * The report as one HTML page that needs nothing else: no network, no libraries, charts as static SVG. The only script
 * sorts tables.
 */
import type { Analysis, TensorAnalysis, WeightAnalysis } from './analysis';
import { outputSqnr } from './analysis';
import type { QuantizeReport, SettingReport } from './quantize-report';
import { escapeHtml, formatDb, grade, layerChart, rangeChart } from './svg';

export interface HtmlReport {
  /** Headline, like the name of the file. */
  title: string;
  /** One line below it. */
  subtitle?: string;
  /** What quantize() reported, if it made the model. */
  quantization?: QuantizeReport;
  /** Defaults to that of `quantization`. */
  analysis?: Analysis;
}

/** The page as text. */
export function renderHtml({ title, subtitle, quantization, analysis = quantization?.analysis }: HtmlReport): string {
  const sections = [
    cards(quantization, analysis),
    ...(quantization?.warnings ?? []).map((warning) => `<p class="warning">${escapeHtml(warning)}</p>`),
    analysis ? layers(analysis) : '<p class="note">No data was given to measure errors with.</p>',
    analysis ? tensorTable(analysis.tensors) : '',
    analysis ? weightTable(analysis.weights) : '',
    quantization ? floatNodes(quantization) : '',
    quantization ? settings(quantization) : '',
  ];
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title><style>${STYLE}</style></head>
<body><main><header><h1>${escapeHtml(title)}</h1>${subtitle ? `<p>${escapeHtml(subtitle)}</p>` : ''}</header>
${sections.filter(Boolean).join('\n')}
<footer>q8: ${analysis ? `${analysis.samples} samples` : 'no samples'}. SQNR is 20 log<sub>10</sub> of signal over error: 20 dB is 10 % error, 40 dB is 1 %.</footer></main>
<script>${SCRIPT}</script></body></html>
`;
}

function cards(quantization: QuantizeReport | undefined, analysis: Analysis | undefined): string {
  const items: [label: string, value: string, detail: string][] = [];
  if (analysis) {
    const worst = outputSqnr(analysis);
    items.push(['Output SQNR', formatDb(worst), 'worst output, end to end']);
    const weakest = weakestLayer(analysis.tensors);
    if (weakest) items.push(['Weakest layer', formatDb(weakest.local!.sqnr), weakest.node?.name ?? weakest.name]);
  }
  if (quantization) {
    const { bytes, quantizedNodes, floatNodes: left } = quantization;
    const count = Object.values(quantizedNodes).reduce((a, b) => a + b, 0);
    items.push([
      'Size',
      `${(bytes.float / bytes.quantized).toFixed(2)}× smaller`,
      `${kilobytes(bytes.float)} → ${kilobytes(bytes.quantized)}`,
    ]);
    items.push(['Quantized', `${count} nodes`, `${left.length} stay in float`]);
  }
  if (analysis?.latency) {
    const { reference, other } = analysis.latency;
    items.push(['Speed', `${(reference / other).toFixed(2)}×`, `${reference.toFixed(2)} ms → ${other.toFixed(2)} ms`]);
  }
  const html = items.map(
    ([label, value, detail]) =>
      `<div class="card"><h3>${label}</h3><strong>${escapeHtml(value)}</strong><span>${escapeHtml(detail)}</span></div>`,
  );
  return html.length > 0 ? `<section class="cards">${html.join('')}</section>` : '';
}

/** The layer that adds most error of its own. */
function weakestLayer(tensors: readonly TensorAnalysis[]): TensorAnalysis | undefined {
  const layers = tensors.filter(({ local }) => local && !Number.isNaN(local.sqnr));
  return layers.reduce<TensorAnalysis | undefined>(
    (worst, tensor) => (worst && worst.local!.sqnr <= tensor.local!.sqnr ? worst : tensor),
    undefined,
  );
}

function layers({ tensors }: Analysis): string {
  const bars = tensors.map(({ name, node, local, accumulated }) => ({
    label: node ? `${node.op} ${node.name}` : `input ${name}`,
    local: local?.sqnr,
    accumulated: accumulated.sqnr,
  }));
  return `<section><h2>Errors by layer</h2>
<p class="note">Bars: the error that a layer adds by itself, fed with the float model's tensors. Line: what has accumulated up to it. Higher is better.</p>
<div class="scroll">${layerChart(bars)}</div></section>`;
}

interface Column<Row> {
  header: string;
  /** Shown, as HTML. */
  cell: (row: Row) => string;
  /** Sorted by; numbers make the column right-aligned. Left out where sorting makes no sense. */
  key?: (row: Row) => string | number;
}

function tensorTable(tensors: readonly TensorAnalysis[]): string {
  const position = new Map(tensors.map((tensor, i) => [tensor, i + 1]));
  return `<section><h2>Tensors</h2>${table(tensors, [
    { header: '#', cell: (t) => String(position.get(t)), key: (t) => position.get(t)! },
    {
      header: 'node, tensor',
      cell: ({ node, name }) =>
        `<b>${escapeHtml(node?.name ?? 'input')}</b>${node?.name === name ? '' : `<br><small>${escapeHtml(name)}</small>`}`,
      key: ({ node, name }) => node?.name ?? name,
    },
    {
      header: 'operator',
      cell: ({ node, runsAs }) =>
        `${escapeHtml(node?.op ?? '')}${runsAs && runsAs !== node?.op ? `<br><small>as ${escapeHtml(runsAs)}</small>` : ''}`,
      key: ({ node }) => node?.op ?? '',
    },
    { header: 'type', cell: ({ type }) => type, key: ({ type }) => type },
    {
      header: 'own SQNR',
      cell: ({ local }) => decibels(local?.sqnr),
      key: ({ local }) => local?.sqnr ?? Number.POSITIVE_INFINITY,
    },
    { header: 'accumulated', cell: (t) => decibels(t.accumulated.sqnr), key: (t) => t.accumulated.sqnr },
    { header: 'cosine', cell: (t) => t.accumulated.cosine.toFixed(5), key: (t) => t.accumulated.cosine },
    { header: 'max error', cell: (t) => number(t.accumulated.maxAbsError), key: (t) => t.accumulated.maxAbsError },
    {
      header: 'channels',
      cell: ({ channels }) =>
        channels
          ? `<span title="largest magnitude of a channel, by the median of all">${number(channels.spread)}×</span>`
          : '',
      key: ({ channels }) => channels?.spread ?? 0,
    },
    { header: 'clipped', cell: ({ clipped }) => share(clipped), key: ({ clipped }) => clipped },
    {
      header: 'values and range',
      cell: (t) =>
        `${rangeChart(t.distribution, t.range)}<br><small>${interval(t.observed)}${t.range ? ` in ${interval(t.range)}` : ''}</small>`,
    },
  ])}</section>`;
}

function weightTable(weights: readonly WeightAnalysis[]): string {
  if (weights.length === 0) return '';
  return `<section><h2>Weights</h2>${table(weights, [
    { header: 'weight', cell: ({ name }) => `<b>${escapeHtml(name)}</b>`, key: ({ name }) => name },
    { header: 'shape', cell: ({ shape }) => shape.join(' × ') },
    { header: 'type', cell: ({ type }) => type, key: ({ type }) => type },
    { header: 'scales', cell: ({ channels }) => String(channels), key: ({ channels }) => channels },
    { header: 'SQNR', cell: ({ sqnr }) => decibels(sqnr), key: ({ sqnr }) => sqnr },
    { header: 'max error', cell: ({ maxAbsError }) => number(maxAbsError), key: ({ maxAbsError }) => maxAbsError },
    {
      header: 'size',
      cell: ({ bytes }) => `${kilobytes(bytes.float)} → ${kilobytes(bytes.quantized)}`,
      key: ({ bytes }) => bytes.float,
    },
    { header: 'values and range', cell: ({ distribution, range }) => rangeChart(distribution, range) },
  ])}</section>`;
}

function floatNodes({ floatNodes: nodes }: QuantizeReport): string {
  if (nodes.length === 0) return '';
  return `<section><h2>What stays in float, and why</h2>${table(nodes, [
    { header: 'node', cell: ({ name }) => `<b>${escapeHtml(name)}</b>`, key: ({ name }) => name },
    { header: 'operator', cell: ({ op }) => escapeHtml(op), key: ({ op }) => op },
    { header: 'reason', cell: ({ reason }) => escapeHtml(reason), key: ({ reason }) => reason },
  ])}</section>`;
}

function settings(report: QuantizeReport): string {
  const columns: Column<Setting>[] = [
    { header: 'setting', cell: ({ name }) => `<b>${escapeHtml(name)}</b>`, key: ({ name }) => name },
    { header: 'value', cell: ({ value }) => escapeHtml(value), key: ({ value }) => value },
  ];
  if (report.settings) {
    columns.push(
      { header: 'from', cell: ({ from = '' }) => from, key: ({ from = '' }) => from },
      { header: 'reason', cell: ({ reason = '' }) => escapeHtml(reason), key: ({ reason = '' }) => reason },
    );
  }
  return `<section><h2>Settings</h2>${table(settingsOf(report), columns)}</section>`;
}

interface Setting {
  name: string;
  value: string;
  from?: SettingReport['from'];
  reason?: string;
}

/** Everything of the report that is a setting. */
function settingsOf({
  mode,
  format,
  activationType,
  weightType,
  perChannel,
  calibration,
  settings = [],
}: QuantizeReport): Setting[] {
  const listed = new Set(settings.map(({ name }) => name));
  const rows: [string, unknown][] = [
    ['mode', mode],
    ['format', format],
    ['activationType', activationType],
    ['weightType', weightType],
    ['perChannel', perChannel],
    ['calibrationMethod', calibration?.method],
    ['calibration samples', calibration?.samples],
    ['engine', calibration?.engine],
  ];
  return [
    ...rows.flatMap(([name, value]) =>
      value === undefined || listed.has(name) ? [] : [{ name, value: String(value) }],
    ),
    ...settings.map(({ value, ...setting }) => ({
      ...setting,
      value: typeof value === 'object' ? JSON.stringify(value) : String(value),
    })),
  ];
}

function table<Row>(rows: readonly Row[], columns: readonly Column<Row>[]): string {
  const isNumeric = columns.map(({ key }) => rows.length > 0 && typeof key?.(rows[0]) === 'number');
  const head = columns.map(
    ({ header, key }, i) =>
      `<th${isNumeric[i] ? ' class="number"' : ''}>${key ? `<button type="button">${header}</button>` : header}</th>`,
  );
  const body = rows.map((row) => {
    const cells = columns.map(({ cell, key }, i) => {
      const sortKey = key?.(row);
      const attributes = `${isNumeric[i] ? ' class="number"' : ''}${sortKey === undefined ? '' : ` data-key="${escapeHtml(String(sortKey))}"`}`;
      return `<td${attributes}>${cell(row)}</td>`;
    });
    return `<tr>${cells.join('')}</tr>`;
  });
  return `<div class="scroll"><table><thead><tr>${head.join('')}</tr></thead><tbody>\n${body.join('\n')}\n</tbody></table></div>`;
}

function decibels(db: number | undefined): string {
  const width = db === undefined ? 0 : Math.min(100, Math.max(2, (db / 60) * 100));
  const bar = db === undefined ? '' : `<i class="bar ${grade(db)}" style="width:${width.toFixed(0)}%"></i>`;
  return `<span class="db">${formatDb(db)}${bar}</span>`;
}

function number(value: number): string {
  return value === 0 || !Number.isFinite(value) ? String(value) : value.toPrecision(3).replace(/e([+-])/, ' e$1');
}

function interval([low, high]: readonly [number, number]): string {
  return `[${number(low)}, ${number(high)}]`;
}

function share(value: number): string {
  return value === 0 ? '–' : value < 0.0001 ? '&lt; 0.01 %' : `${(100 * value).toFixed(2)} %`;
}

function kilobytes(bytes: number): string {
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

const STYLE = `
:root{--ink:#1c2430;--dim:#667085;--paper:#fff;--back:#f4f6f9;--line:#e3e7ee;--good:#3b82c4;--fair:#e0a030;--poor:#d64545;--mark:#0f766e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#98a2b3;--paper:#1b212b;--back:#12161d;--line:#2c3440;--good:#5b9bd9;--fair:#d9a441;--poor:#e06c6c;--mark:#4fd1c5}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1240px;margin:0 auto;padding:28px 20px 60px}h1{font-size:24px;margin:0;overflow-wrap:anywhere}h2{font-size:17px;margin:0 0 8px}header p{margin:4px 0 0;color:var(--dim)}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:18px;margin-top:18px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:14px;background:none;border:0;padding:0}
.card{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:14px 16px;min-width:0}.card h3{margin:0;font-size:12px;font-weight:600;color:var(--dim);text-transform:uppercase;letter-spacing:.04em}
.card strong{display:block;font-size:23px;line-height:1.35}.card span{color:var(--dim);font-size:12.5px;display:block;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.note{color:var(--dim);margin:0 0 10px}.warning{background:var(--paper);border:1px solid var(--line);border-left:4px solid var(--fair);border-radius:6px;padding:8px 12px;margin:12px 0 0}
.scroll{overflow:auto;max-height:680px}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th{position:sticky;top:0;background:var(--paper);text-align:left;font-size:12px;color:var(--dim);font-weight:600;border-bottom:2px solid var(--line);padding:6px 10px;white-space:nowrap;z-index:1}
th button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer}th button:hover{color:var(--ink)}th[aria-sort=ascending] button::after{content:" ↑"}th[aria-sort=descending] button::after{content:" ↓"}
td{border-bottom:1px solid var(--line);padding:6px 10px;vertical-align:middle}td b{font-weight:550;overflow-wrap:anywhere}small{color:var(--dim);overflow-wrap:anywhere}svg+br+small{white-space:nowrap}tr:last-child td{border-bottom:0}.number{text-align:right}
.db{display:inline-block;min-width:84px;white-space:nowrap}.bar{display:block;height:4px;border-radius:2px;margin-top:3px}.bar.good{background:var(--good)}.bar.fair{background:var(--fair)}.bar.poor{background:var(--poor)}
svg text{font-size:11px;fill:var(--dim)}.grid{stroke:var(--line)}rect.good{fill:var(--good)}rect.fair{fill:var(--fair)}rect.poor{fill:var(--poor)}.hit{fill:transparent}g:hover .hit{fill:var(--line);opacity:.6}
.accumulated{fill:none;stroke:var(--mark);stroke-width:2;stroke-linejoin:round}.values{fill:var(--good);opacity:.75}.range{fill:none;stroke:var(--mark);stroke-width:1.6}
footer{color:var(--dim);margin-top:18px;font-size:12.5px}
`.replaceAll('\n', '');

/** Sorts a table by the column whose header was clicked, then the other way round. */
const SCRIPT = `
document.querySelectorAll('th button').forEach(button=>button.onclick=()=>{
const th=button.parentNode,row=th.parentNode,column=[...row.children].indexOf(th),body=th.closest('table').tBodies[0];
const sign=th.ariaSort==='ascending'?-1:1;for(const other of row.children)other.ariaSort=null;th.ariaSort=sign>0?'ascending':'descending';
const key=tr=>{const text=tr.children[column].dataset.key,number=Number(text);return text!==''&&!isNaN(number)?number:text};
body.append(...[...body.rows].sort((a,b)=>{const x=key(a),y=key(b);return sign*(typeof x===typeof y?(x<y?-1:x>y?1:0):typeof x==='number'?-1:1)}));
});`.replaceAll('\n', '');

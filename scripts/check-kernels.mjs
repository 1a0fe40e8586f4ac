// Checks the machine code of the GEMM micro-kernels: in the K loop of every instance nothing goes to or comes from the
// stack, every product is made once and no operand is loaded again. Compilers lose this silently: one register too few and
// a tile runs at half its speed, with the same results.
//   node scripts/check-kernels.mjs [build folder]     (default: build; needs objdump)
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const build = process.argv[2] ?? join(root, 'build');

const ZMM_TILES = [14, 13, 12, 11, 10].map((rows) => [rows, 2]);
ZMM_TILES.push(...[9, 8, 7].map((rows) => [rows, 3]), ...[6, 5, 4, 3].map((rows) => [rows, 4]), [2, 8], [1, 8]);
const YMM_TILES = [
  [6, 1],
  [4, 1],
  [2, 2],
  [1, 4],
];

/** Tiles of rows x panels. */
const AMX_TILES = [
  [2, 2],
  [2, 1],
  [1, 4],
  [1, 3],
  [1, 2],
  [1, 1],
];

/** One register less: no 14 rows, and nine rows have two panels. */
const TIGHT_ZMM_TILES = ZMM_TILES.filter(([rows]) => rows !== 14).map(([rows, panels]) => [
  rows,
  rows === 9 ? 2 : panels,
]);

/**
 * By room and file. product: the instructions of one product. vectors: accumulators of a row of a panel (16 columns), and
 * loads of a row of B. folded: each product loads B itself. tiles: rows x panels that must be there, in the order of the
 * kernel table.
 */
const FILES = {
  'avx2/gemm': { product: ['vpmaddwd', 'vpaddd'], vectors: 2, tiles: YMM_TILES },
  'avx2/gemm_bounded': {
    product: ['vpmaddubsw', 'vpmaddwd', 'vpaddd'],
    vectors: 2,
    folded: true,
    tiles: YMM_TILES,
  },
  'avxvnni/gemm': { product: ['vpdpbusd'], vectors: 2, tiles: YMM_TILES },
  'avx512bw/gemm': { product: ['vpmaddwd', 'vpaddd'], vectors: 1, tiles: ZMM_TILES },
  'avx512bw/gemm_bounded': { product: ['vpmaddubsw', 'vpmaddwd', 'vpaddd'], vectors: 1, tiles: TIGHT_ZMM_TILES },
  'avx512vnni/gemm': { product: ['vpdpbusd'], vectors: 1, tiles: ZMM_TILES },
  'amxint8/gemm': { product: ['tdpbusd', 'tdpbssd'], tiles: AMX_TILES },
};

let passed = 0;
let failed = 0;
let skipped = 0;

const tool = spawnSync('objdump', ['--version'], { encoding: 'utf8' });
for (const [file, traits] of Object.entries(FILES)) {
  const object = join(build, 'CMakeFiles/q8_core.dir/native/kernels', `${file}.cc.o`);
  const reason = tool.status !== 0 ? 'objdump not found' : existsSync(object) ? undefined : 'not in this build';
  if (reason) {
    skipped++;
    console.log(`${file}: skipped, ${reason}`);
  } else {
    (traits.tiles === AMX_TILES ? checkAmx : checkFile)(file, traits, object);
  }
}
console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed === 0 ? 0 : 1;

function checkFile(file, traits, object) {
  const missing = new Set(traits.tiles.map(([rows, panels]) => `${rows}x${panels * 16}`));
  for (const { name, rows, panels, loops } of instances(object, traits)) {
    const problems = loops.map((loop) => problemOf(loop, traits, rows, panels)).filter(Boolean);
    // gemm_rows<> holds narrower instances that were inlined; multiply<> and gemm<> are one of their own.
    const isTile = !name.startsWith('gemm_rows');
    const own = traits.vectors * rows * panels;
    if (isTile && !loops.some((loop) => loop.counts[0] > 0 && loop.counts[0] % own === 0)) problems.push('no K loop');
    if (isTile) missing.delete(`${rows}x${panels * 16}`);
    record(`${file} ${name}`, problems);
  }
  for (const tile of missing) record(`${file} ${tile}`, ['no such instance']);
}

/**
 * The K loops of AMX hold calls and branches, but a step of K has neither: it loads the tiles of A (tileloadd) and of B
 * (tileloaddt1) once each, and multiplies every one with every other.
 */
function checkAmx(file, { product, tiles }, object) {
  const isTileOperation = /^(tileload|tdp)/;
  // What computes addresses, and loads and stores of registers, may stand between.
  const isAddress = /^(lea|mov|vmovq|add|sub|shl|imul|nop)/;
  const { stdout } = spawnSync('objdump', ['-d', '-C', '--no-show-raw-insn', object], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  const missing = new Set(product.flatMap((name) => tiles.map(([rows, panels]) => `${name} ${rows}x${panels}`)));
  let step = [];
  const end = () => {
    const of = (pattern) => step.filter((code) => pattern.test(code)).length;
    const [rows, panels] = [of(/^tileloadd /), of(/^tileloaddt1 /)];
    const products = product.map((name) => of(new RegExp(`^${name} `)));
    // A loop of products alone measures the peak.
    if (step.length > 0 && rows + panels > 0) {
      const made = product[products.findIndex((count) => count > 0)];
      const isRight = products.includes(0) && products[0] + products[1] === rows * panels;
      const name = `${made} ${rows}x${panels}`;
      record(`${file} ${name}`, isRight ? [] : [`${products.join(' and ')} products in a step`]);
      missing.delete(name);
    }
    step = [];
  };
  for (const [, code] of stdout.matchAll(/^\s*[0-9a-f]+:\t(.*)$/gm)) {
    if (isTileOperation.test(code)) step.push(code);
    else if (!isAddress.test(code)) end();
  }
  for (const tile of missing) record(`${file} ${tile}`, ['no such step']);
}

/** What is wrong with a loop of an instance, which may also be that of its last panels, fewer at a time. */
function problemOf({ counts, loads, stack }, { vectors, folded = false }, rows, panels) {
  if (stack > 0) return `${stack} stack accesses in the K loop`;
  for (let live = panels; live > 0; live--) {
    const products = vectors * rows * live;
    const steps = counts[0] / products;
    if (!Number.isInteger(steps)) continue;
    const least = steps * (folded ? rows + products : rows + vectors * live);
    // Sixteen registers cannot always keep A for the next panel.
    const most = folded
      ? steps * rows * live + steps * products
      : vectors === 1
        ? least
        : steps * (rows + vectors) * live;
    if (counts.every((count) => count === counts[0]) && loads >= least && loads <= most) return undefined;
  }
  return `${counts.join(' and ')} multiply-adds with ${loads} loads fit no number of panels`;
}

/** Every instance of multiply<rows, panels>, gemm<> and gemm_rows<> that has K loops. */
function instances(object, { product }) {
  const { stdout } = spawnSync('objdump', ['-d', '-C', '--no-show-raw-insn', object], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  return stdout.split('\n\n').flatMap((block) => {
    const [, name, rows, panels] = /::((?:multiply|gemm|gemm_rows)<(\d+)ul, (\d+)ul>)\(.*>:/.exec(block) ?? [];
    const loops = name ? straightLoops(block).map((body) => count(body, block, product)) : [];
    const kLoops = loops.filter(({ counts }) => counts[0] > 0);
    if (kLoops.length === 0) return [];
    return [{ name, rows: Number(rows), panels: Number(panels), loops: kLoops }];
  });
}

function count(body, block, product) {
  const isStack = /mov +%rsp,%rbp/.test(block) ? /\(%r[sb]p/ : /\(%rsp/;
  return {
    counts: product.map((mnemonic) => body.filter((code) => code.startsWith(mnemonic)).length),
    loads: body.filter((code) => /\(.*%r/.test(code) && !/^(lea|nop|cs nop|data16|prefetch)/.test(code)).length,
    stack: body.filter((code) => isStack.test(code)).length,
  };
}

/** The bodies of loops without any other jump. Nothing else is a K loop; cold code that jumps back is no loop at all. */
function straightLoops(block) {
  const lines = [...block.matchAll(/^\s*([0-9a-f]+):\t(.*)$/gm)].map(([, address, code]) => ({
    address: Number.parseInt(address, 16),
    code: code.replace('{vex} ', ''),
  }));
  const at = new Map(lines.map(({ address }, index) => [address, index]));
  return lines.flatMap(({ code }, end) => {
    const target = /^j(?!mp)\w+ +([0-9a-f]+) /.exec(code)?.[1];
    const start = target === undefined ? undefined : at.get(Number.parseInt(target, 16));
    if (start === undefined || start > end) return [];
    const body = lines.slice(start, end).map((line) => line.code);
    return body.some((line) => /^(j|ret|call)/.test(line)) ? [] : [body];
  });
}

function record(what, problems) {
  if (problems.length === 0) {
    passed++;
    return;
  }
  failed++;
  console.log(`${what}: ${problems.join('; ')}`);
}

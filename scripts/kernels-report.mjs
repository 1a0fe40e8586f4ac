// Writes docs/kernels.md: how close every GEMM micro-kernel comes to the multiply limit of CPUs that need not be at
// hand. Takes the K loops out of the compiled objects of both architectures and lets llvm-mca run them on its models
// of the cores. Where qemu-user has the instructions, it also counts what a whole tile executes.
//   node scripts/kernels-report.mjs            (needs llvm-19, a C compiler, qemu-user 7.2, and the builds of
//                                               scripts/test-isa.mjs, which it brings up to date)
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const ITERATIONS = 200;
const PANEL = 16;
/** Depth of the tiles whose instructions are counted, and how often one runs: what starts and ends the process cancels. */
const COUNT_K = 512;
const COUNT_TIMES = 200;

/**
 * By room, or file of a room where that is not gemm: the instruction that stands for a multiply-accumulate, how many of them one K step of kr needs for so many
 * rows of a panel, the cores of llvm-mca to run on, and the CPU model of qemu-user that has the instructions (none of
 * them has AVX-VNNI or AVX-512).
 */
const ROOMS = {
  avx2: {
    arch: 'x64',
    multiply: 'vpmaddwd',
    kr: 2,
    perPanel: (rows) => 2 * rows,
    cpus: ['haswell', 'skylake', 'znver3', 'alderlake'],
    model: 'Haswell',
  },
  'avx2/gemm_bounded': {
    arch: 'x64',
    multiply: 'vpmaddubsw',
    kr: 4,
    perPanel: (rows) => 2 * rows,
    cpus: ['haswell', 'skylake', 'znver3'],
  },
  avxvnni: {
    arch: 'x64',
    multiply: 'vpdpbusd',
    kr: 4,
    perPanel: (rows) => 2 * rows,
    cpus: ['alderlake', 'sapphirerapids'],
  },
  avx512bw: {
    arch: 'x64',
    multiply: 'vpmaddwd',
    kr: 2,
    perPanel: (rows) => rows,
    cpus: ['skylake-avx512', 'icelake-server'],
  },
  'avx512bw/gemm_bounded': {
    arch: 'x64',
    multiply: 'vpmaddubsw',
    kr: 4,
    perPanel: (rows) => rows,
    cpus: ['skylake-avx512', 'icelake-server'],
  },
  avx512vnni: {
    arch: 'x64',
    multiply: 'vpdpbusd',
    kr: 4,
    perPanel: (rows) => rows,
    cpus: ['icelake-server', 'sapphirerapids', 'znver4'],
  },
  neon: {
    arch: 'arm64',
    multiply: 'sadalp',
    kr: 2,
    perPanel: (rows) => 4 * rows,
    cpus: ['cortex-a72', 'neoverse-n1'],
    model: 'cortex-a72',
  },
  neondot: {
    arch: 'arm64',
    multiply: 'sdot',
    kr: 4,
    perPanel: (rows) => 4 * rows,
    cpus: ['neoverse-n1', 'neoverse-v1', 'neoverse-v2', 'apple-m1'],
    model: 'neoverse-n1',
  },
  neoni8mm: {
    arch: 'arm64',
    multiply: 'smmla',
    kr: 8,
    perPanel: (rows) => 8 * Math.ceil(rows / 2),
    cpus: ['neoverse-v1', 'neoverse-v2', 'neoverse-n2'],
    model: 'max',
  },
};
const TRIPLES = {
  x64: ['-mtriple=x86_64'],
  arm64: ['-mtriple=aarch64', '-mattr=+dotprod,+i8mm'],
};

requireTools();
const scratch = mkdtempSync(join(tmpdir(), 'q8-kernels-'));
const plugin = buildPlugin();
const builds = { [process.arch]: 'build' };
builds[process.arch === 'x64' ? 'arm64' : 'x64'] = process.arch === 'x64' ? 'build-linux-arm64' : 'build-linux-x64';
const sections = Object.entries(ROOMS).flatMap(([room, traits]) => {
  const file = room.includes('/') ? room : `${room}/gemm`;
  const object = join(root, builds[traits.arch], 'CMakeFiles/q8_core.dir/native/kernels', `${file}.cc.o`);
  return existsSync(object) ? [reportRoom(room, traits, object)] : [];
});
if (sections.length === 0) fail('No built kernels. Build them with: npm run build:native -- --target linux-arm64');
writeFileSync(join(root, 'docs/kernels.md'), `${introduction()}\n${sections.join('\n')}`);
rmSync(scratch, { recursive: true });

/** One table: kernels down, cores across. */
function reportRoom(room, traits, object) {
  const loops = findLoops(object, traits);
  const limit = loops.find(({ tile }) => !tile);
  // The widest instance for each number of rows; the narrower ones serve the last columns only.
  const kernels = loops
    .filter(({ tile, rows, panels }) => tile && !loops.some((other) => other.rows === rows && other.panels > panels))
    .sort((a, b) => b.rows - a.rows);
  const runs = traits.cpus.map((cpu) => simulate(cpu, traits, [limit, ...kernels]));
  const best = traits.cpus.map((_, column) => runs[column][0].cycles / limit.multiplies);
  const header = ['tile', `${traits.multiply} / loads / other`, 'per MAC', 'executed', 'stack', ...traits.cpus];
  const rows = kernels.map((kernel, index) => {
    const steps = kernel.multiplies / (traits.perPanel(kernel.rows) * kernel.panels);
    const cells = traits.cpus.map((_, column) => {
      const { cycles, bottleneck } = runs[column][index + 1];
      const percent = (100 * kernel.multiplies * best[column]) / cycles;
      return `${(cycles / steps).toFixed(2)}, ${percent.toFixed(0)} % (${bottleneck})`;
    });
    const per = (count) => Number((count / steps).toFixed(1));
    const counts = [kernel.multiplies, kernel.loads, kernel.others].map(per).join(' / ');
    const macs = steps * traits.kr * kernel.rows * kernel.panels * PANEL;
    const executed = countExecuted(room, traits, kernel)?.toFixed(4) ?? '';
    return [kernel.tile, counts, (kernel.body.length / macs).toFixed(4), executed, kernel.stack, ...cells];
  });
  const limits = [
    'limit',
    '',
    '',
    '',
    '',
    ...best.map((cycles) => `${(1 / cycles).toFixed(2)} ${traits.multiply} a cycle`),
  ];
  const lines = [header, header.map(() => '---'), ...rows, limits].map((cells) => `| ${cells.join(' | ')} |`);
  return `## ${room}\n\nOne K step is ${traits.kr} k.\n\n${lines.join('\n')}\n`;
}

/** Instructions per multiply-add of a call of the tile, counted under emulation; undefined where there is no emulator. */
function countExecuted(room, { arch, model }, { tile, rows, panels }) {
  if (!model || !plugin) return undefined;
  const tests = arch === process.arch ? 'build-native-tests' : builds[arch];
  const [emulator, sysroot] = arch === 'x64' ? ['qemu-x86_64', []] : ['qemu-aarch64', ['-L', '/usr/aarch64-linux-gnu']];
  const program = join(root, tests, 'test/native/q8_run_tile');
  // Instances that only serve the last rows of a tile are in no list.
  const { stdout: tiles } = spawnSync(emulator, [...sysroot, '-cpu', model, program, room], { encoding: 'utf8' });
  if (!tiles.includes(`${tile} `)) return undefined;
  const count = (times) => {
    const options = [...sysroot, '-cpu', model, '-plugin', plugin, program, room, tile, String(COUNT_K), String(times)];
    const { status, stderr } = spawnSync(emulator, options, { encoding: 'utf8' });
    if (status !== 0) fail(`${emulator} ${options.join(' ')}: ${stderr}`);
    return Number(/^instructions (\d+)$/m.exec(stderr)[1]);
  };
  return (count(COUNT_TIMES + 1) - count(1)) / COUNT_TIMES / (rows * panels * PANEL * COUNT_K);
}

/** The counting plugin for qemu-user, after the programs that it counts. Undefined, and said so, where that is not to be had. */
function buildPlugin() {
  const file = join(scratch, 'count-instructions.so');
  const source = join(root, 'scripts/count-instructions.c');
  const compiled = spawnSync('cc', ['-O2', '-shared', '-fPIC', '-o', file, source], { stdio: 'inherit' }).status === 0;
  const { stdout } = spawnSync('qemu-aarch64', ['--help'], { encoding: 'utf8' });
  if (compiled && stdout?.includes('-plugin')) return file;
  process.stderr.write('q8: instructions are not counted: that takes cc and a qemu-user with plugins\n');
  return undefined;
}

/** The K loop of every multiply<rows, panels> (gemm<> where that is inlined), and of peak_loop (without a tile). */
function findLoops(object, { multiply }) {
  const text = execFileSync('llvm-objdump-19', ['-d', '--no-show-raw-insn', '-C', object], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  return text.split(/\n\n/).flatMap((block) => {
    const name = /<(.*)>:/.exec(block)?.[1] ?? '';
    const shape = /::(?:multiply|gemm)<(\d+)ul, (\d+)ul>/.exec(name);
    if (!shape && !/::peak_loop\(/.test(name)) return [];
    const body = hottestLoop(block, multiply);
    if (!body) return [];
    const count = (pattern) => body.filter((line) => pattern.test(line)).length;
    const multiplies = count(new RegExp(`\\b${multiply}\\b`));
    const [rows, panels] = shape ? [Number(shape[1]), Number(shape[2])] : [];
    // Pairs of registers count as one load.
    const loads = body.filter(isLoad).length;
    const stack = count(/%rsp|%rbp|\[sp|\[x29/);
    const tile = shape && `${rows}x${panels * PANEL}`;
    return [{ tile, rows, panels, body, multiplies, loads, others: body.length - multiplies - loads, stack }];
  });
}

function isLoad(line) {
  return /^(ld[pru]|ldur|ld1)/.test(line) || /^v?(mov|pbroadcast|pmovsx|pmovzx|broadcast)\w*\s+[-\w]*\(/.test(line);
}

/** The instructions of the innermost loop with the most multiplies, its branch made local. */
function hottestLoop(block, multiply) {
  const lines = [...block.matchAll(/^\s*([0-9a-f]+):\s+(.*)$/gm)].map(([, address, code]) => ({
    address: Number.parseInt(address, 16),
    code: code
      .replaceAll('\t', ' ')
      .replace(/ +(# |\/\/ ).*$/, '')
      .trim(),
  }));
  const isMultiply = ({ code }) => code.replace('{vex} ', '').startsWith(multiply);
  let best;
  for (const [end, { address, code }] of lines.entries()) {
    const branch = /^(?:j\w+|b\.\w+|cbn?z|tbn?z)\b.*?0x([0-9a-f]+) </.exec(code);
    const start = branch ? lines.findIndex((line) => line.address === Number.parseInt(branch[1], 16)) : -1;
    if (start < 0 || lines[end].address < lines[start].address || address < lines[start].address) continue;
    const loop = lines.slice(start, end + 1);
    const density = loop.filter(isMultiply).length / loop.length;
    if (!best || density > best.density) best = { density, loop };
  }
  if (!best || best.density === 0) return undefined;
  return best.loop.map((line) => line.code.replace(/0x[0-9a-f]+ <.*>$/, 'again'));
}

/** Cycles of one round of each loop on a core, and what holds it back. */
function simulate(cpu, { arch }, loops) {
  const regions = loops.map(({ body }, index) => {
    const code = body.map((line) => line.replace(/\bagain\b/, `again${index}`)).join('\n');
    return `# LLVM-MCA-BEGIN loop${index}\nagain${index}:\n${code}\n# LLVM-MCA-END\n`;
  });
  const options = [...TRIPLES[arch], `-mcpu=${cpu}`, `-iterations=${ITERATIONS}`, '-json'];
  const { status, stdout, stderr } = spawnSync('llvm-mca-19', options, {
    input: regions.join(''),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (status !== 0) fail(`llvm-mca-19 ${options.join(' ')}: ${stderr.slice(0, 2000)}`);
  const { CodeRegions, TargetInfo } = JSON.parse(stdout);
  return CodeRegions.map((region, index) => {
    const { TotalCycles, TotaluOps, DispatchWidth } = region.SummaryView;
    const cycles = TotalCycles / ITERATIONS;
    const usage = new Array(TargetInfo.Resources.length).fill(0);
    for (const { InstructionIndex, ResourceIndex, ResourceUsage } of region.ResourcePressureView.ResourcePressureInfo) {
      if (InstructionIndex < loops[index].body.length) usage[ResourceIndex] += ResourceUsage;
    }
    const busiest = usage.indexOf(Math.max(...usage));
    const frontEnd = TotaluOps / ITERATIONS / DispatchWidth;
    const bound = Math.max(usage[busiest], frontEnd);
    const bottleneck =
      bound < 0.9 * cycles
        ? 'latency'
        : frontEnd > usage[busiest]
          ? 'front end'
          : TargetInfo.Resources[busiest].replace(/\W.*$/, '');
    return { cycles, bottleneck };
  });
}

function introduction() {
  const version = /version (\S+)/.exec(execFileSync('llvm-mca-19', ['--version'], { encoding: 'utf8' }))[1];
  return `# How close the GEMM kernels come to each core

Written by \`npm run kernels:report\`; do not edit.

Each line is the K loop of one micro-kernel, taken from the compiled object (GCC, the flags of the release build) and
run by llvm-mca ${version} on its model of the core. A cell says: cycles per K step, percent of the core's multiply
limit, and what holds the loop back: a port of the model, the front end, or latency. The limit is what the model gives
for the room's register-only peak loop, without loads. "stack" counts accesses to the stack inside the loop: 0 means
that nothing spills. Counts of instructions are per K step; "per MAC" counts all instructions of the loop. "executed" is
what a whole call of the tile at K = ${COUNT_K} executed per multiply-add, its beginning and int32 epilogue included: counted
by running it under qemu-user as ${Object.entries(ROOMS)
    .flatMap(([room, { model }]) => (model ? [`${model} (${room})`] : []))
    .join(', ')}. qemu has no AVX-VNNI and no AVX-512.

These are models, not measurements: all loads hit the first-level cache, the models differ from the silicon in places
(the one of cortex-a72 is that of cortex-a57, apple-m1 uses that of an older Apple core, sapphirerapids lacks the second
512-bit VNNI port), and their entries for new instructions are the least certain. Use them to compare kernels on one
core. \`npm run bench\` measures the core at hand.
`;
}

function requireTools() {
  const missing = ['llvm-objdump-19', 'llvm-mca-19'].filter(
    (tool) => spawnSync(tool, ['--version'], { stdio: 'ignore' }).status !== 0,
  );
  if (missing.length > 0) fail(`${missing.join(' and ')} not found. Install with: apt-get install llvm-19`);
}

function fail(text) {
  process.stderr.write(`q8: ${text}\n`);
  process.exit(1);
}

/** `q8 cpuinfo`: what the CPU offers, what q8 makes of it, and on request how fast that is. */
import type { Command } from 'commander';
import { type CpuInfo, cpuInfo } from '../../kernels';
import type { CommandContext } from '../context';
import { formatPairs } from '../ui/table';
import { formatCache } from '../ui/units';

export function addCpuinfo(program: Command, context: CommandContext): void {
  program
    .command('cpuinfo')
    .description('show the CPU, the kernels chosen for it and the threads q8 uses')
    .option('--measure', 'also measure the peak of one core and what qgemm reaches of it')
    .action(({ measure = false }: { measure?: boolean }) => {
      const { terminal, isJson } = context;
      const info = cpuInfo({ measure });
      if (isJson) terminal.printJson(info);
      else terminal.print(formatCpu(info, terminal.out.bold));
    });
}

function formatCpu(info: CpuInfo, styleName: (text: string) => string): string {
  const { isa, caches, kernels, measured, versions } = info;
  const others = isa.compiled.filter((name) => !isa.supported.includes(name));
  const pairs: [string, string][] = [
    ['CPU', `${info.cpu} (${info.arch})`],
    ['Features', info.features.join(' ') || 'none that q8 has a use for'],
    ['Kernels', `${isa.selected}: ${isa.label}${isa.forced ? ', forced by Q8_ISA' : ''}`],
    ['', `this CPU also runs ${isa.supported.filter((name) => name !== isa.selected).join(', ') || 'nothing else'}`],
    ['', `built, but not for this CPU: ${others.join(', ') || 'none'}`],
    ...Object.entries(kernels).map(([types, { kernel, instruction, tile, bounded }], i): [string, string] => [
      i === 0 ? 'A x B' : '',
      `${types} runs on ${kernel}, ${instruction}, tile ${tile}${
        bounded ? `; bounded weights on ${bounded.instruction}, tile ${bounded.tile}` : ''
      }`,
    ]),
    ['Threads', `${info.threads} (${describeThreads(info)})`],
    ['Caches', `L1d ${formatCache(caches.l1)}, L2 ${formatCache(caches.l2)}, L3 ${formatCache(caches.l3)}`],
    ['Versions', `q8 ${versions.q8}, Node ${versions.node}`],
  ];
  if (measured) {
    const { peak, qgemm, percentOfPeak, bounded } = measured;
    pairs.push(
      ['Peak', `${peak.toFixed(1)} GMAC/s on one core, on registers alone`],
      ['qgemm', `${qgemm.toFixed(1)} GMAC/s on one thread for 1024^3, ${percentOfPeak.toFixed(0)} % of the peak`],
    );
    if (bounded) {
      pairs.push(['', `${bounded.qgemm.toFixed(1)} with bounded weights, ${bounded.percentOfPeak.toFixed(0)} %`]);
    }
  }
  return formatPairs(pairs, styleName);
}

function describeThreads({ cores, affinity, cgroupQuota }: CpuInfo): string {
  const quota = cgroupQuota > 0 ? `container quota ${cgroupQuota.toFixed(1)}` : 'no container quota';
  return `${cores} logical CPUs, affinity ${affinity}, ${quota}`;
}

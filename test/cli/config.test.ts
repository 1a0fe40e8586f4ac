/** Every option of quantize() can be given on the command line, and thereby in a config file. */
import assert from 'node:assert/strict';
import { Command } from 'commander';
import { addQuantize } from '../../lib/cli/commands/quantize';
import type { CommandContext } from '../../lib/cli/context';
import { STATIC_KEYS } from '../../lib/quantize/options';

/** What a command line cannot give, or gives under another name. */
const OTHER_NAMES: Record<string, string | undefined> = {
  accuracy: 'minSqnr',
  analyze: 'report',
  signal: undefined,
  onProgress: undefined,
  baseDirectory: undefined,
};

describe('the options of q8 quantize', () => {
  it('are those of quantize()', () => {
    const program = new Command();
    addQuantize(program, {} as CommandContext);
    const flags = new Set(program.commands[0].options.map((option) => option.attributeName()));
    for (const key of Object.keys(STATIC_KEYS)) {
      const flag = key in OTHER_NAMES ? OTHER_NAMES[key] : key;
      if (flag !== undefined) assert.ok(flags.has(flag), `no flag for ${key}`);
    }
  });
});

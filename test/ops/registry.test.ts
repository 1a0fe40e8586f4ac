import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Graph } from '../../lib/graph/graph';
import { OPERATORS } from '../../lib/ops';
import { lookupOp, opDefinition, unsupported } from '../../lib/ops/registry';

const FOLDER = path.join(__dirname, '../../lib/ops');
const NOT_OPERATORS = new Set(['define-op.ts', 'index.ts', 'registry.ts']);

function nodeOf(op: string, domain = ''): ReturnType<Graph['addNode']> {
  return new Graph().addNode({ name: 'the_node', op, domain, inputs: [], outputs: [] });
}

describe('operators: registry', () => {
  it('lists every file of the folder, sorted', () => {
    const imported = [...fs.readFileSync(path.join(FOLDER, 'index.ts'), 'utf8').matchAll(/from '\.\/(.+)'/g)]
      .map((match) => `${match[1]}.ts`)
      .filter((file) => !NOT_OPERATORS.has(file));
    const files = fs.readdirSync(FOLDER).filter((file) => file.endsWith('.ts') && !NOT_OPERATORS.has(file));
    assert.deepEqual(
      imported,
      files.sort((a, b) => (a.slice(0, -3) < b.slice(0, -3) ? -1 : 1)),
    );
  });

  it('names files after operators', () => {
    const kebab = (type: string): string =>
      type
        .replace('NaN', 'Nan')
        .replace(/([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])/g, '$1$3-$2$4')
        .toLowerCase();
    for (const { type } of OPERATORS)
      assert.ok(fs.existsSync(path.join(FOLDER, `${kebab(type)}.ts`)), `${type} in ${kebab(type)}.ts`);
  });

  it('has no operator twice', () => {
    const names = OPERATORS.map(({ domain, type }) => `${domain}:${type}`);
    assert.equal(new Set(names).size, names.length);
  });

  it('finds operators by domain and type', () => {
    assert.equal(opDefinition('', 'Conv')?.type, 'Conv');
    assert.equal(opDefinition('ai.onnx', 'Conv'), opDefinition('', 'Conv'));
    assert.equal(opDefinition('com.microsoft', 'Conv'), undefined);
    assert.equal(lookupOp(nodeOf('QGemm', 'com.microsoft'))?.type, 'QGemm');
  });

  it('explains what is missing', () => {
    const error = unsupported(nodeOf('Convv'));
    assert.equal(error.code, 'ERR_Q8_UNSUPPORTED_OP');
    assert.equal(error.node, 'the_node');
    assert.match(error.message, /ai\.onnx\.Convv.*"the_node".*did you mean Conv\?/);
    assert.match(unsupported(nodeOf('QGemm')).message, /QGemm is an operator of domain com\.microsoft/);
    assert.equal(unsupported(nodeOf('Zzzzzz')).hint, undefined);
  });
});

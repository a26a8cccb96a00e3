import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { forbiddenLayers, forbiddenPackages, LAYERS, readImports, violations } from './layers.ts';

interface LintOverride {
  readonly files: readonly string[];
  readonly rules: Readonly<Record<string, unknown>>;
}

const edges = readImports('src');

describe('import order of src/', () => {
  it('is kept by every file', () => {
    expect(edges.length).toBeGreaterThan(10);
    expect(violations(edges)).toEqual([]);
  });

  it.each([
    ['to the right', 'tensor/graph.ts', '../engine/engine.ts', 'src/tensor/graph.ts: tensor must not import from engine'],
    ['to a sibling', 'formats/a.ts', '../tokenizer/b.ts', 'src/formats/a.ts: formats must not import from tokenizer'],
    ['from a subfolder', 'tensor/ggml/a.ts', '../../models/b.ts', 'src/tensor/ggml/a.ts: tensor must not import from models'],
    ['to a root file', 'engine/a.ts', '../llm.ts', 'src/engine/a.ts: engine must not import from llm.ts'],
    ['out of a new folder', 'extras/a.ts', '../util/errors.ts', 'src/extras/a.ts: layer extras has no place'],
    ['of a package owned by another', 'tensor/a.ts', 'koffi', 'src/tensor/a.ts: only native may import koffi'],
    ['of an unknown package', 'util/a.ts', '@scope/thing/deep', 'src/util/a.ts: package @scope/thing has no owner'],
  ])('refuses an import %s', (_what, from, specifier, message) => {
    expect(violations([{ from, specifier }])).toEqual([expect.stringContaining(message)]);
  });

  it.each([
    ['to the left', 'engine/a.ts', '../tensor/graph.ts'],
    ['inside a folder', 'tensor/ggml/a.ts', '../graph.ts'],
    ['of Node', 'util/a.ts', 'node:fs'],
    ['of a package by its owner', 'batch/csv.ts', 'csv-parse/sync'],
  ])('allows an import %s', (_what, from, specifier) => {
    expect(violations([{ from, specifier }])).toEqual([]);
  });

  it('is the one that the linter enforces', () => {
    const { overrides } = JSON.parse(readFileSync('.oxlintrc.json', 'utf8')) as { overrides: LintOverride[] };
    const enforced = overrides.filter(({ rules }) => 'no-restricted-imports' in rules);
    expect(enforced.map(({ files, rules }) => ({ files, rule: rules['no-restricted-imports'] }))).toEqual(LAYERS.flat().map(lintRule));
  });
});

function lintRule(layer: string): { files: string[]; rule: unknown } {
  const paths = forbiddenPackages(layer);
  const targets = forbiddenLayers(layer).map((name) => (name.endsWith('.ts') ? `${name.replace('.', String.raw`\.`)}$` : `${name}/`));
  const patterns = [
    { regex: `^(${paths.join('|')})(/|$)`, message: 'Another folder owns this package, see test/meta/layers.ts.' },
    { regex: String.raw`^\.{1,2}/(\.\./)*` + `(${targets.join('|')})`, message: 'Against the import order, see test/meta/layers.ts.' },
  ];
  const file = layer.endsWith('.ts') ? `src/${layer}` : `src/${layer}/**`;
  return { files: [file], rule: ['error', { patterns: targets.length > 0 ? patterns : patterns.slice(0, 1) }] };
}

/** The import order of src/, as data for the tests of this folder. */
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix, relative, sep } from 'node:path';
import ts from 'typescript';

/** A folder or root file imports only from groups to its left; members of one group do not import each other. */
export const LAYERS: readonly (readonly string[])[] = [
  ['util'],
  ['native'],
  ['tensor'],
  ['formats', 'quant', 'tokenizer', 'sampling', 'hub'],
  ['models'],
  ['policy'],
  ['weights', 'kv', 'profile'],
  ['convert'],
  ['engine'],
  ['requests.ts'],
  ['llm'],
  ['llm.ts'],
  ['batch'],
  ['cluster', 'server', 'apps'],
  ['cli', 'index.ts'],
];

/** Packages that only one layer may import, so that each can be replaced in one place. */
export const PACKAGE_OWNERS: Readonly<Record<string, string>> = {
  koffi: 'native',
  tokenizers: 'tokenizer',
  pbf: 'tokenizer',
  '@huggingface/hub': 'hub',
  '@huggingface/jinja': 'tokenizer',
  'csv-parse': 'batch',
  'csv-stringify': 'batch',
  commander: 'cli',
};

export interface ImportEdge {
  /** Path of the importing file inside src/, with slashes. */
  readonly from: string;
  /** As written in the source. */
  readonly specifier: string;
}

/** Every import, export-from, dynamic import and import type of all files under `root`. */
export function readImports(root: string): ImportEdge[] {
  const files = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile() && entry.name.endsWith('.ts'));
  return files.flatMap((entry) => {
    const path = join(entry.parentPath, entry.name);
    const from = relative(root, path).split(sep).join('/');
    return ts.preProcessFile(readFileSync(path, 'utf8')).importedFiles.map(({ fileName }) => ({ from, specifier: fileName }));
  });
}

/** One sentence per edge that breaks the order. */
export function violations(edges: readonly ImportEdge[]): string[] {
  return edges.flatMap((edge) => {
    const problem = edge.specifier.startsWith('.') ? relativeProblem(edge) : packageProblem(edge);
    return problem === undefined ? [] : [`src/${edge.from}: ${problem} ('${edge.specifier}')`];
  });
}

/** What `layer` may not import: layers to its right, and the other members of its own group. */
export function forbiddenLayers(layer: string): string[] {
  const own = rank(layer);
  return LAYERS.flat().filter((other) => other !== layer && rank(other) >= own);
}

export const forbiddenPackages = (layer: string): string[] => Object.keys(PACKAGE_OWNERS).filter((name) => PACKAGE_OWNERS[name] !== layer);

const layerOf = (path: string): string => path.split('/')[0]!;

const rank = (layer: string): number => LAYERS.findIndex((group) => group.includes(layer));

function relativeProblem({ from, specifier }: ImportEdge): string | undefined {
  const target = posix.join(posix.dirname(from), specifier);
  if (target.startsWith('../')) return undefined; // package.json, for the version
  const [layer, other] = [layerOf(from), layerOf(target)];
  const unknown = [layer, other].find((name) => rank(name) < 0);
  if (unknown !== undefined) return `layer ${unknown} has no place in the import order, see test/meta/layers.ts`;
  return forbiddenLayers(layer).includes(other) ? `${layer} must not import from ${other}` : undefined;
}

function packageProblem({ from, specifier }: ImportEdge): string | undefined {
  if (specifier.startsWith('node:')) return undefined;
  const name = specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
  const owner = PACKAGE_OWNERS[name];
  if (owner === undefined) return `package ${name} has no owner, see test/meta/layers.ts`;
  return owner === layerOf(from) ? undefined : `only ${owner} may import ${name}`;
}

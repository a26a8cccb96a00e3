/** Files of the repository as the tests of this folder read them; paths have slashes and start at the root. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';

export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly type: string;
  readonly engines: Readonly<Record<string, string>>;
  readonly bin: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly scripts: Readonly<Record<string, string>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly optionalDependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

export const readText = (path: string): string => readFileSync(path, 'utf8');

export const readManifest = (): Manifest => JSON.parse(readText('package.json')) as Manifest;

/** Installed, built or downloaded, never written by us. */
const FOREIGN = new Set(['node_modules', 'dist', 'coverage', '.git', 'docs/api', 'models', 'test/fixtures', 'examples/data']);

/** Hand-written files below `folder`, by extension without the dot. */
export function listFiles(folder: string, extensions: readonly string[]): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = folder === '.' ? entry.name : `${folder}/${entry.name}`;
    if (FOREIGN.has(entry.name) || FOREIGN.has(path)) return [];
    if (entry.isDirectory()) return listFiles(path, extensions);
    return extensions.includes(entry.name.slice(entry.name.lastIndexOf('.') + 1)) ? [path] : [];
  });
}

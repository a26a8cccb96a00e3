/** Prints files and lines by folder, and the longest files, so that growth is seen: `npm run size`. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface SourceFile {
  readonly path: string;
  /** The first two folders, such as `src/engine`. */
  readonly folder: string;
  readonly lines: number;
}

const ROOTS = ['src', 'test', 'bench', 'scripts', 'examples'];
const LONGEST = 5;

const roots = ROOTS.filter((root) => existsSync(root));
const files = roots.flatMap(sourceFiles);
for (const [folder, group] of groupByFolder(files)) {
  print(folder, group.length, sum(group));
}
for (const root of roots) {
  const group = files.filter(({ path }) => path.startsWith(`${root}/`));
  print(`total ${root}`, group.length, sum(group));
}
for (const { path, lines } of files.toSorted((a, b) => b.lines - a.lines).slice(0, LONGEST)) print(path, 1, lines);

function sourceFiles(root: string): SourceFile[] {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts') && !entry.parentPath.includes('node_modules'))
    .map((entry) => {
      const path = join(entry.parentPath, entry.name).replaceAll('\\', '/');
      const folder = entry.parentPath.split(/[\\/]/).slice(0, 2).join('/');
      return { path, folder, lines: readFileSync(path, 'utf8').trimEnd().split('\n').length };
    });
}

function groupByFolder(all: readonly SourceFile[]): Map<string, SourceFile[]> {
  const groups = new Map<string, SourceFile[]>();
  for (const file of all) groups.set(file.folder, [...(groups.get(file.folder) ?? []), file]);
  return groups;
}

function sum(group: readonly SourceFile[]): number {
  return group.reduce((total, { lines }) => total + lines, 0);
}

function print(name: string, count: number, lines: number): void {
  console.log(`${name.padEnd(48)} ${String(count).padStart(4)} files ${String(lines).padStart(6)} lines`);
}

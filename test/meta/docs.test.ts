import { existsSync, statSync } from 'node:fs';
import { dirname, posix, relative, resolve } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { listFiles, readManifest, readText } from './repository.ts';

const PAGES = [...listFiles('.', ['md']), 'models/tidy-opt-5m/README.md', 'test/fixtures/README.md'].filter((path) => existsSync(path));

interface Block {
  /** Of the file that the compiler sees; names page and line. */
  readonly name: string;
  readonly text: string;
}

describe('documentation', () => {
  it('has TypeScript that compiles against the public types', () => {
    expect(compileErrors(PAGES.flatMap((page) => blocks(page, readText(page))))).toEqual([]);
  });

  it('would fail on TypeScript that does not', () => {
    const page = ['```ts', 'const rows: number = "many";', '```'].join('\n');
    expect(compileErrors(blocks('PAGE.md', page))).toEqual([expect.stringMatching(/PAGE\.md-2.*not assignable/)]);
  });

  it.each(PAGES)('%s links to files and headings that exist', (page) => {
    expect(brokenLinks(page, readText(page))).toEqual([]);
  });

  it('would find a broken link', () => {
    const text = '[a](no-such-file.md) [b](../outside.md) [c](README.md#no-such-heading) [d](https://example.org) `[e](x)`';
    expect(brokenLinks('CONTRIBUTING.md', text)).toEqual(['no-such-file.md', '../outside.md', 'README.md#no-such-heading']);
  });

  it.each(PAGES)('%s names scripts that package.json has', (page) => {
    expect(unknownScripts(readText(page))).toEqual([]);
  });

  it('would find an unknown script', () => {
    expect(unknownScripts('`npm run check`, `npm start`, `npm run polish -- --all`')).toEqual(['polish']);
  });
});

function blocks(page: string, text: string): Block[] {
  return [...text.matchAll(/^```(?:ts|typescript)\n([\s\S]*?)^```/gm)].map((match) => {
    const line = text.slice(0, match.index).split('\n').length + 1;
    return { name: resolve(`${page.replaceAll('/', '-')}-${line}.ts`), text: match[1]! };
  });
}

/** Compiles each block as a module in the root of the repository, where `flexllmgen` means our own sources. */
function compileErrors(sources: readonly Block[]): string[] {
  if (sources.length === 0) return [];
  const texts = new Map(sources.map(({ name, text }) => [name, text]));
  const { config } = ts.readConfigFile('tsconfig.json', (path) => ts.sys.readFile(path)) as { config: unknown };
  const options: ts.CompilerOptions = {
    ...ts.parseJsonConfigFileContent(config, ts.sys, '.').options,
    paths: { flexllmgen: [resolve('src/index.ts')] },
    moduleDetection: ts.ModuleDetectionKind.Force, // top-level await without an import
    noUnusedLocals: false,
    declaration: false,
    isolatedDeclarations: false,
  };
  const host = ts.createCompilerHost(options);
  const withBlocks: ts.CompilerHost = {
    ...host,
    fileExists: (path) => texts.has(resolve(path)) || host.fileExists(path),
    readFile: (path) => texts.get(resolve(path)) ?? host.readFile(path),
    getSourceFile: (path, languageVersion, ...rest) => {
      const text = texts.get(resolve(path));
      return text === undefined ? host.getSourceFile(path, languageVersion, ...rest) : ts.createSourceFile(path, text, languageVersion);
    },
  };
  const program = ts.createProgram([...texts.keys()], options, withBlocks);
  const problems = [...texts.keys()].flatMap((name) => {
    const source = program.getSourceFile(name);
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
  });
  return problems.map(
    ({ file, messageText }) => `${relative('.', file?.fileName ?? '')}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`,
  );
}

function brokenLinks(page: string, text: string): string[] {
  const prose = text.replaceAll(/^```[\s\S]*?^```/gm, '').replaceAll(/`[^`\n]*`/g, '');
  const targets = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
  return targets.filter((target) => !/^[a-z]+:/.test(target) && !linkExists(page, target));
}

function linkExists(page: string, target: string): boolean {
  const [file, heading] = target.split('#') as [string, string?];
  const path = file === '' ? page : posix.normalize(posix.join(dirname(page), file));
  if (path.startsWith('../') || !existsSync(path)) return false;
  return heading === undefined || (statSync(path).isFile() && headings(readText(path)).includes(heading));
}

/** Anchors as GitHub makes them. */
function headings(text: string): string[] {
  const titles = [...text.matchAll(/^#+ (.+)$/gm)].map(([, title]) => title!.trim().toLowerCase());
  return titles.map((title) => title.replaceAll(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(' ', '-'));
}

function unknownScripts(text: string): string[] {
  const { scripts } = readManifest();
  const named = [...text.matchAll(/\bnpm (?:run ([\w:-]+)|(start|test)\b)/g)].map(([, script, short]) => script ?? short!);
  return named.filter((name) => !(name in scripts));
}

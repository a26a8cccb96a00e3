import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const FOLDER = fileURLToPath(new URL('../../native/build/linux-x64/', import.meta.url));
/** Only AVX-512 instructions have these registers and masks. */
const WIDE = /%zmm|%[xy]mm(?:1[6-9]|2\d|3[01])\b|%k[0-7]\b/;
const AVX = /%ymm/;
const TILES = /%tmm/;

function hasObjdump(): boolean {
  try {
    return existsSync(FOLDER) && execFileSync('objdump', ['--version']).length > 0;
  } catch {
    return false;
  }
}

const instructionsOf = (isa: string): string[] =>
  execFileSync('objdump', ['-d', '--no-show-raw-insn', `${FOLDER}libflexllmgen-${isa}.so`], { encoding: 'utf8', maxBuffer: 2 ** 28 }).split(
    '\n',
  );

it.runIf(hasObjdump()).each<[string, RegExp[], RegExp[]]>([
  ['portable', [], [WIDE, AVX]],
  ['avx2', [AVX], [WIDE]],
  ['vnni', [WIDE], [TILES]],
  ['vnni-bf16', [WIDE], [TILES]],
])('the library for %s has no instruction of a wider set', (isa, present, absent) => {
  const lines = instructionsOf(isa);
  for (const pattern of present) expect(lines.some((line) => pattern.test(line))).toBe(true);
  for (const pattern of absent) expect(lines.filter((line) => pattern.test(line))).toEqual([]);
});

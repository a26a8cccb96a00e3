import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { jobFolder, table } from './job-folder.ts';
import { KILLED_FAKE, killedOptions } from './killed-job.ts';

const CHILD = fileURLToPath(new URL('killed-child.ts', import.meta.url));

/** Runs the job where no file may grow beyond a number of blocks of 1024 bytes. */
function runLimited(input: string, output: string, blocks: number, stdin: string): { status: number | null; notice: string } {
  const script = `ulimit -f ${blocks}; exec "$0" --import tsx "$1" "$2" "$3"`;
  const child = spawnSync('bash', ['-c', script, process.execPath, CHILD, input, output], {
    encoding: 'utf8',
    input: stdin,
    env: { ...process.env, TSX_DISABLE_CACHE: '1' },
  });
  return { status: child.status, notice: child.stdout + child.stderr };
}

it.skipIf(process.platform === 'win32').each([
  ['the journal', 3, 'in.csv', 'out.csv.journal', 1],
  ['the output', 8, 'in.csv', 'out.csv.part', 25],
  ['the copy of stdin', 3, '-', 'out.csv.input.part', 0],
])(
  'a file-size limit while writing %s ends with exit code 4, and the job goes on',
  { timeout: 60_000 },
  async (_what, blocks, name, file, reused) => {
    await using folder = await jobFolder();
    const wide = table(25, (row) => (name === '-' || file.endsWith('.part') ? `text ${row}${' '.repeat(400)}` : `text ${row}`));
    const input = name === '-' ? '-' : await folder.write(name, wide);
    const { status, notice } = runLimited(input, folder.path('out.csv'), blocks, wide);
    expect(notice).toContain(`no room to write ${folder.path(file)} (EFBIG); make room: `);
    expect(status).toBe(4);
    expect(await folder.names()).not.toContain('out.csv.part');
    const again = await folder.run(killedOptions(input, folder.path('out.csv'), Readable.from([Buffer.from(wide)])), KILLED_FAKE);
    expect([again.exitCode, again.summary.rows.total]).toEqual([3, 25]);
    expect(again.summary.rows.reused).toBeGreaterThanOrEqual(reused);
  },
);

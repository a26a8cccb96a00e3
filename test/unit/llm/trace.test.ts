import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LLM } from '../../../src/llm.ts';
import type { LoadOptions } from '../../../src/llm/load-options.ts';
import { readTrace } from '../../../src/profile/chrome-trace.ts';
import { summarizeTrace } from '../../../src/profile/trace-summary.ts';
import { UsageError } from '../../../src/util/errors.ts';
import type { LaneTotals } from '../../../src/util/lanes.ts';
import { fixtureFolder } from '../../helpers/golden.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

let folder: Awaited<ReturnType<typeof makeTemporaryFolder>>;
beforeEach(async () => void (folder = await makeTemporaryFolder()));
afterEach(() => folder[Symbol.asyncDispose]());

const load = (options: LoadOptions) => LLM.load(fixtureFolder('opt'), { device: 'reference', compute: 'f32', ...options });

/** @returns the lanes that each sweep reports */
async function sweeps(llm: LLM): Promise<(readonly LaneTotals[])[]> {
  const lanes: (readonly LaneTotals[])[] = [];
  for await (const event of llm.stream([{ prompt: [5, 6, 7], params: { maxTokens: 3, ignoreEos: true } }]))
    if (event.type === 'sweep') lanes.push(event.stats.lanes);
  return lanes;
}
const piecesOf = (lanes: readonly LaneTotals[]): number => lanes.find(({ lane }) => lane === 'compute')!.pieces;

describe('lanes of a model', () => {
  it('are reported by every sweep, in all streams together', async () => {
    await using llm = await load({});
    const first = await sweeps(llm);
    const pieces = first.map(piecesOf);
    expect(pieces).toEqual([1, 2, 3].map((sweep) => sweep * pieces[0]!));
    expect((await sweeps(llm)).map(piecesOf)[0]).toBe(4 * pieces[0]!);
    for (const { busySeconds } of first.flat()) expect(busySeconds).toBeGreaterThan(0);
  });

  it('are written when the model is disposed of, once', async () => {
    const trace = join(folder.path, 't.json');
    const llm = await load({ trace });
    const lanes = (await sweeps(llm)).at(-1)!;
    expect(readdirSync(folder.path)).toEqual([]);
    await llm[Symbol.asyncDispose]();
    const found = summarizeTrace(await readTrace(trace)).lanes;
    expect(found.map(({ lane, pieces }) => [lane, pieces])).toEqual(expect.arrayContaining([['compute', piecesOf(lanes)]]));
    rmSync(trace);
    await llm[Symbol.asyncDispose]();
    expect(readdirSync(folder.path)).toEqual([]);
  });

  it('are not written over another file, which is found out before anything is loaded', async () => {
    const trace = join(folder.path, 'table.csv');
    writeFileSync(trace, 'a,b\n');
    await expect(load({ trace })).rejects.toThrow(UsageError);
    await expect(load({ trace: join(folder.path, 'none', 't.json') })).rejects.toThrow(UsageError);
    expect(readFileSync(trace, 'utf8')).toBe('a,b\n');
  });

  it('that cannot be written are a notice and no failure', async () => {
    const trace = join(folder.path, 't.json');
    const notices: string[] = [];
    const llm = await load({ trace, onNotice: (notice) => notices.push(notice) });
    await sweeps(llm);
    writeFileSync(trace, 'somebody else was faster');
    await llm[Symbol.asyncDispose]();
    expect(notices).toEqual([expect.stringMatching(/^the trace .*t\.json was not written: .*something else has this name/)]);
    expect(readFileSync(trace, 'utf8')).toBe('somebody else was faster');
  });
});

import { mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { findBenchModel } from '../../../src/apps/bench-model.ts';
import { measure } from '../../../src/apps/bench-opt.ts';
import type { ModelShape } from '../../../src/llm/model-shape.ts';
import type { GenerationEvent, GenerationRequest } from '../../../src/requests.ts';
import { MemoryError, RequestError, UsageError } from '../../../src/util/errors.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

const SHAPE: ModelShape = { layers: 1, hiddenSize: 8, kvColumns: 8, vocabularySize: 5, parameters: 100, endTokenIds: [2, 4] };
const TASK = { gpuBatchSize: 2, numGpuBatches: 1, promptTokens: 40, newTokens: 4 };

/**
 * A model whose rows have their first token one sweep after the other; a sweep takes as many seconds as its number says. Admits `room` rows
 * at a time.
 */
function slowModel({ room = 99, failing = false } = {}) {
  const asked: GenerationRequest[][] = [];
  let clock = 0;
  async function* stream(
    source: Iterable<GenerationRequest> | AsyncIterable<GenerationRequest>,
  ): AsyncGenerator<GenerationEvent, void, void> {
    const rows: GenerationRequest[] = [];
    asked.push(rows);
    for await (const request of source) rows.push(request);
    if (failing) yield { type: 'failed', index: 0, error: new RequestError('no') };
    const admitted = rows.slice(0, room);
    const most = rows[0]!.params!.maxTokens!;
    const prompt = admitted.reduce((sum, row) => sum + (row.prompt as number[]).length, 0);
    for (let sweep = 1; sweep < most + admitted.length; sweep++) {
      clock += 1000 * sweep;
      for (const index of admitted.keys())
        if (sweep > index && sweep - index <= most) yield { type: 'token', index, id: 0, text: `${index}${sweep} ` };
      const tokens = { prompt, promptComputed: prompt, promptShared: 0, generated: 0 };
      const seconds = { load: 0, prefill: 0, decode: 0 };
      yield { type: 'sweep', stats: { sweeps: sweep, running: admitted.length, peakGpuBytes: 7, tokens, seconds, lanes: [] } };
    }
  }
  const info = { model: 'slow', family: 'opt', contextLength: 64, fingerprint: '', kernels: '' };
  return { asked, now: () => clock, model: { info, shape: SHAPE, stream } };
}

describe('measure', () => {
  it('ends the prefill with the last first token, and times every sweep behind it', async () => {
    const { model, now, asked } = slowModel();
    expect(await measure(model, TASK, { now })).toEqual({
      prefillSeconds: 1 + 2,
      prefillGenerated: 3,
      decodeSeconds: [3, 4, 5],
      peakGpuBytes: 7,
      texts: ['01 02 03 04 ', '12 13 14 15 '],
    });
    expect(asked.map((rows) => rows.map(({ prompt, params }) => [(prompt as number[]).length, params!.maxTokens]))).toEqual([
      [[32, 1]],
      [
        [40, 4],
        [40, 4],
      ],
    ]);
  });

  it('makes the same prompts every time, other ones for each row, without ends', async () => {
    const [first, second] = [slowModel(), slowModel()];
    for (const { model, now } of [first, second]) await measure(model, TASK, { now });
    expect(first.asked).toEqual(second.asked);
    const prompts = first.asked[1]!.map(({ prompt }) => prompt as number[]);
    expect(prompts[0]).not.toEqual(prompts[1]);
    expect([...new Set(prompts.flat())].toSorted((a, b) => a - b)).toEqual([0, 1, 3]);
    expect(first.asked[1]![0]!.params).toMatchObject({ ignoreEos: true });
  });

  it('stops when it has seen enough, while no row may leave before', async () => {
    const { model, now, asked } = slowModel();
    const { prefillSeconds, decodeSeconds } = await measure(model, { ...TASK, newTokens: 20, cutTokens: 3 }, { now });
    expect({ prefillSeconds, decodeSeconds }).toEqual({ prefillSeconds: 3, decodeSeconds: [3, 4] });
    expect(asked[1]!.map(({ params }) => params!.maxTokens)).toEqual([20, 20]);
  });

  it('refuses rows that do not fit', async () => {
    const { model, now } = slowModel({ room: 1 });
    await expect(measure(model, { ...TASK, newTokens: 25 }, { now })).rejects.toThrow(UsageError);
    await expect(measure(model, TASK, { now })).rejects.toThrow(MemoryError);
    await expect(measure(slowModel({ failing: true }).model, TASK, { now })).rejects.toThrow(RequestError);
  });
});

describe('findBenchModel', () => {
  afterEach(() => void vi.restoreAllMocks());

  it('takes random weights, a model at the path or in it, or what the name says', async () => {
    await using folder = await makeTemporaryFolder();
    const home = folder.path;
    vi.spyOn(os, 'homedir').mockReturnValue(home);
    mkdirSync(join(home, 'opt-125m'));
    writeFileSync(join(home, 'opt-125m', 'config.json'), '{}');
    writeFileSync(join(home, 'opt-1.3b.gguf'), '');
    const find = async (model: string, path: string) => findBenchModel(model, path);
    expect(await find('facebook/OPT-6.7B', '/x/_DUMMY_')).toEqual({ name: 'opt-6.7b', dummy: true });
    expect(await find('facebook/OPT-125m', home)).toEqual({ name: join(home, 'opt-125m'), dummy: false });
    expect(await find('facebook/opt-125m', '~')).toEqual({ name: join(home, 'opt-125m'), dummy: false });
    expect(await find('any', '~/opt-125m')).toEqual({ name: join(home, 'opt-125m'), dummy: false });
    expect(await find('opt-1.3b', home)).toEqual({ name: join(home, 'opt-1.3b.gguf'), dummy: false });
    expect(await find('any', join(home, 'opt-1.3b.gguf'))).toEqual({ name: join(home, 'opt-1.3b.gguf'), dummy: false });
    expect(await find('facebook/opt-30b', '~/nothing')).toEqual({ name: 'facebook/opt-30b', dummy: false });
  });
});

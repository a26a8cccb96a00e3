import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LLM } from '../../../src/llm.ts';
import type { LoadOptions } from '../../../src/llm/load-options.ts';
import type { GenerationEvent, GenerationRequest, GenerationResult, RunStats } from '../../../src/requests.ts';
import { RequestError, UsageError } from '../../../src/util/errors.ts';
import { fixtureFolder, readGolden } from '../../helpers/golden.ts';

const REFERENCE: LoadOptions = { device: 'reference', compute: 'f32' };
const golden = readGolden('opt');
const TEXT = golden.texts![0]!;
const loadOpt = (options: LoadOptions = {}) => LLM.load(fixtureFolder('opt'), { ...REFERENCE, ...options });

async function collect(stream: AsyncIterable<GenerationEvent>): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

const ofType = <T extends GenerationEvent['type']>(events: readonly GenerationEvent[], type: T) =>
  events.filter((event): event is Extract<GenerationEvent, { type: T }> => event.type === type);
const idsOf = (results: readonly GenerationResult[]) => results.map(({ tokenIds }) => tokenIds);

describe('LLM', () => {
  let llm: LLM;
  beforeAll(async () => {
    llm = await loadOpt({ gpuBatchSize: 3, numGpuBatches: 2 });
  });
  afterAll(() => llm[Symbol.asyncDispose]());

  it('says what it is', () => {
    expect(llm.info).toMatchObject({ model: fixtureFolder('opt'), family: 'opt', contextLength: 256, kernels: 'reference' });
    expect(llm.info.fingerprint).toMatch(/compute f32 kv f32$/);
    expect(llm.plan).toMatchObject({ gpuBatchSize: 3, numGpuBatches: 2, kvType: 'f32' });
    expect([llm.tokenText(2), llm.tokenText(10_000)]).toEqual(['</s>', '']);
  });

  it('takes text and ids, and gives results in the order of the prompts, whichever ends first', async () => {
    const prompts = [TEXT.text, golden.prompts[2]!, { prompt: golden.prompts[0]!, params: { maxTokens: 2 } }, golden.prompts[1]!];
    const results = await llm.generate(prompts, { maxTokens: 6, ignoreEos: true });
    expect(results.map(({ index }) => index)).toEqual([0, 1, 2, 3]);
    expect(idsOf(results)).toEqual([
      golden.greedy[TEXT.prompt]!.slice(0, 6),
      golden.greedy[2]!.slice(0, 6),
      golden.greedy[0]!.slice(0, 2),
      golden.greedy[1]!.slice(0, 6),
    ]);
    expect(results[0]!.promptTokenIds).toEqual(golden.prompts[TEXT.prompt]);
    expect(results.every(({ finishReason, logprobs, promptLogprobs }) => finishReason === 'length' && !logprobs && !promptLogprobs)).toBe(
      true,
    );
    expect(await llm.generate([])).toEqual([]);
  });

  it('streams tokens, then the finished row, then the sweep; texts of tokens make the text', async () => {
    const requests = [
      { prompt: TEXT.text, params: { maxTokens: 24, ignoreEos: true } },
      { prompt: golden.prompts[8]!, params: { maxTokens: 5, ignoreEos: true } },
    ];
    const events = await collect(llm.stream(requests));
    const types = events.filter((event) => event.type === 'sweep' || event.index === 1).map(({ type }) => type);
    expect([types.slice(0, 8), types.slice(8, 12)]).toEqual([
      'token sweep token sweep token sweep token sweep'.split(' '),
      'token finished sweep sweep'.split(' '),
    ]);
    expect(events.at(-1)!.type).toBe('sweep');
    const results = ofType(events, 'finished').map(({ result }) => result);
    expect(results.map(({ index }) => index)).toEqual([1, 0]);
    expect(results[1]!.text).toBe(TEXT.completion);
    for (const result of results) {
      const tokens = ofType(events, 'token').filter(({ index }) => index === result.index);
      expect(tokens.map(({ id }) => id)).toEqual(result.tokenIds);
      expect(tokens.map(({ text }) => text).join('')).toBe(result.text);
    }
  });

  it('counts what a stream did', async () => {
    const requests = [0, 1, 2, 3].map((i) => ({ prompt: golden.prompts[i]!, params: { maxTokens: 3, ignoreEos: true } }));
    const stats = ofType(await collect(llm.stream(requests)), 'sweep').map((event) => event.stats);
    const prompt = requests.reduce((sum, request) => sum + request.prompt.length, 0);
    expect(stats.map(({ sweeps, running }) => [sweeps, running])).toEqual([
      [1, 4],
      [2, 4],
      [3, 0],
    ]);
    const last: RunStats = stats.at(-1)!;
    expect(last.tokens).toEqual({ prompt, promptComputed: prompt, promptShared: 0, generated: 12 });
    expect(last.seconds.prefill).toBeGreaterThan(0);
    expect(last.seconds.decode).toBeGreaterThan(0);
    expect(stats[0]!.seconds.decode).toBe(0);
  });

  it('ends before a stop string, also one over several tokens, and reports it as stop', async () => {
    const { completion } = TEXT;
    const stop = completion.slice(6, 11);
    const [cut] = await llm.generate([TEXT.text], { maxTokens: 24, ignoreEos: true, stop: ['never there', stop] });
    expect(cut!.text).toBe(completion.slice(0, completion.indexOf(stop)));
    expect(cut!.finishReason).toBe('stop');
    expect(cut!.tokenIds.length).toBeLessThan(24);
    expect(cut!.tokenIds).toEqual(golden.greedy[TEXT.prompt]!.slice(0, cut!.tokenIds.length));
  });

  it('gives back at the end what it held back for a stop string', async () => {
    const { completion } = TEXT;
    const stop = `${completion.slice(-1)}!`;
    const events = await collect(llm.stream([{ prompt: TEXT.text, params: { maxTokens: 24, ignoreEos: true, stop: [stop] } }]));
    const [result] = ofType(events, 'finished').map((event) => event.result);
    expect([result!.text, result!.finishReason]).toEqual([completion, 'length']);
    expect(
      ofType(events, 'token')
        .map(({ text }) => text)
        .join(''),
    ).toBe(completion);
  });

  it('ends at a stop id and at the end-of-sequence token, which are no text', async () => {
    const ids = golden.greedy[2]!;
    const stopId = ids[5]!;
    const [cut] = await llm.generate([golden.prompts[2]!], { maxTokens: 24, ignoreEos: true, stopTokenIds: [stopId] });
    expect(cut!.tokenIds).toEqual(ids.slice(0, ids.indexOf(stopId) + 1));
    expect(cut!.finishReason).toBe('stop');
    const [whole] = await llm.generate([golden.prompts[2]!], { maxTokens: cut!.tokenIds.length - 1, ignoreEos: true });
    expect(cut!.text).toBe(whole!.text);
  });

  it('scores prompts', async () => {
    const [result] = await llm.generate([golden.prompts[3]!], { maxTokens: 0, promptLogprobs: 1 });
    expect([result!.tokenIds, result!.text, result!.promptLogprobs!.length]).toEqual([[], '', 33]);
    for (const [i, entry] of result!.promptLogprobs!.entries())
      expect(entry?.logprob ?? 0).toBeCloseTo(golden.prompt_logprobs[3]![i] ?? 0, 3);
  });

  const sampled: GenerationRequest[] = golden.prompts.slice(0, 5).map((prompt, i) => ({
    prompt,
    key: 100 + i,
    params: { temperature: 1.5, topK: 20, topP: 0.9, seed: 7, maxTokens: 8, ignoreEos: true },
  }));

  it('samples a row by seed and key, whatever its place in the batch and the size of the block', async () => {
    const wanted = idsOf(await llm.generate(sampled));
    expect(idsOf(await llm.generate(sampled.toReversed())).reverse()).toEqual(wanted);
    expect(idsOf(await llm.generate([sampled[3]!]))).toEqual([wanted[3]]);
    await using one = await loadOpt({ gpuBatchSize: 1 });
    expect(idsOf(await one.generate(sampled))).toEqual(wanted);
    expect(idsOf(await one.generate(sampled, {}))).toEqual(wanted);
    const others = sampled.map((request) => ({ ...request, key: request.key! + 1 }));
    expect(idsOf(await one.generate(others))).not.toEqual(wanted);
    const seeds = sampled.map((request) => ({ ...request, params: { ...request.params, seed: 8 } }));
    expect(idsOf(await one.generate(seeds))).not.toEqual(wanted);
  });

  it('takes the index as key if none is given', async () => {
    const params = { temperature: 1.5, maxTokens: 6, ignoreEos: true };
    const twins = await llm.generate([golden.prompts[2]!, golden.prompts[2]!], params);
    expect(twins[0]!.tokenIds).not.toEqual(twins[1]!.tokenIds);
    const keyed = await llm.generate(
      [
        { prompt: golden.prompts[2]!, key: 1 },
        { prompt: golden.prompts[2]!, key: 0 },
      ],
      params,
    );
    expect(idsOf(keyed)).toEqual(idsOf(twins).reverse());
  });
});

describe('requests that cannot be served', () => {
  const bad: [string, GenerationRequest, RegExp][] = [
    ['too long', { prompt: Array.from({ length: 300 }, () => 5) }, /the prompt has 300 tokens, the model's context is 256/],
    ['empty', { prompt: [] }, /the prompt has no tokens/],
    ['an id outside the vocabulary', { prompt: [1, 640] }, /token id 640 is not in the vocabulary of 640/],
    ['a negative id', { prompt: [-1] }, /token id -1 is not in the vocabulary/],
    ['an id that would wrap around', { prompt: [2 ** 32 + 5] }, /token ids expected, got 4294967301/],
    ['no number', { prompt: [NaN] }, /token ids expected, got NaN/],
    ['no integer', { prompt: [1.5] }, /token ids expected, got 1.5/],
    ['a bad parameter', { prompt: [1], params: { topP: 2 } }, /topP must be/],
    ['a bad key', { prompt: [1], key: -1 }, /key: an integer from 0 to 4294967295 expected, got -1/],
  ];
  let llm: LLM;
  beforeAll(async () => {
    llm = await loadOpt({ gpuBatchSize: 2 });
  });
  afterAll(() => llm[Symbol.asyncDispose]());

  it.each(bad)('%s: fail alone, others go on', async (_what, request, message) => {
    const good = { prompt: golden.prompts[1]!, params: { maxTokens: 2, ignoreEos: true } };
    const events = await collect(llm.stream([good, request, good]));
    const [failed, ...more] = ofType(events, 'failed');
    expect([failed!.index, more]).toEqual([1, []]);
    expect(failed!.error).toBeInstanceOf(RequestError);
    expect(failed!.error.message).toMatch(message);
    expect(
      ofType(events, 'finished')
        .map(({ index }) => index)
        .toSorted((a, b) => a - b),
    ).toEqual([0, 2]);
    await expect(llm.generate([good, request])).rejects.toThrow(message);
    await expect(llm.generate([good, request])).rejects.toThrow(/^prompt 1: /);
  });

  it('huge texts are refused before they are encoded', async () => {
    const before = process.memoryUsage.rss();
    const start = performance.now();
    const [failed] = ofType(await collect(llm.stream([{ prompt: 'a word '.repeat(1_500_000) }])), 'failed');
    expect(failed!.error).toBeInstanceOf(RequestError);
    expect(failed!.error.message).toMatch(/^the prompt has at least \d{6,8} tokens, the model's context is 256$/);
    expect(performance.now() - start).toBeLessThan(1000); // encoding takes 7 s and 1.7 GB
    expect(process.memoryUsage.rss() - before).toBeLessThan(200e6);
  });

  it('come out while nothing runs, and in pieces when there are many', async () => {
    let pulled = 0;
    function* source() {
      for (; pulled < 200; pulled++) yield { prompt: [] };
    }
    const stream = llm.stream(source());
    expect(await stream.next()).toMatchObject({ value: { type: 'failed', index: 0 } });
    expect(pulled).toBeLessThan(70);
    expect(await collect(stream)).toHaveLength(199);
  });

  it('need a tokenizer for text and stop strings', async () => {
    await using bare = await LLM.load(fixtureFolder('galactica'), REFERENCE);
    const { prompts, greedy } = readGolden('galactica');
    const requests = [
      { prompt: 'text' },
      { prompt: [1, 2], params: { stop: ['x'] } },
      { prompt: prompts[1]!, params: { maxTokens: 3, ignoreEos: true } },
    ];
    const events = await collect(bare.stream(requests));
    expect(ofType(events, 'failed').map(({ error }) => error.message)).toEqual([
      'the model has no tokenizer; its prompts must be token ids',
      'stop: the model has no tokenizer; use stop token ids',
    ]);
    expect(ofType(events, 'finished').map(({ result }) => [result.tokenIds, result.text])).toEqual([[greedy[1]!.slice(0, 3), '']]);
    expect(bare.tokenText(5)).toBe('');
  });
});

describe('streams that end early', () => {
  const long = { prompt: golden.prompts[1]!, params: { maxTokens: 100, ignoreEos: true } };

  it('by a signal, with its reason; the next stream works', async () => {
    await using llm = await loadOpt();
    const controller = new AbortController();
    const run = async (): Promise<void> => {
      for await (const event of llm.stream([long], { signal: controller.signal })) if (event.type === 'token') controller.abort();
    };
    await expect(run()).rejects.toThrow(expect.objectContaining({ name: 'AbortError' }));
    await expect(llm.generate([long], {}, { signal: AbortSignal.abort() })).rejects.toThrow(/aborted/);
    expect(idsOf(await llm.generate([golden.prompts[0]!], { maxTokens: 2, ignoreEos: true }))).toEqual([golden.greedy[0]!.slice(0, 2)]);
  });

  it('are refused while another one runs', async () => {
    await using llm = await loadOpt();
    const first = llm.stream([long]);
    await first.next();
    await expect(llm.generate([long])).rejects.toThrow(UsageError);
    await first.return();
    expect(await llm.generate([[1]], { maxTokens: 1 })).toHaveLength(1);
  });

  it('abandoned ones do not hold up disposal, and throw when they are taken up again', async () => {
    const llm = await loadOpt();
    const stream = llm.stream([long]);
    await stream.next();
    await llm[Symbol.asyncDispose]();
    await llm[Symbol.asyncDispose]();
    await expect(collect(stream)).rejects.toThrow(new UsageError('the model is closed'));
    await expect(llm.generate([long])).rejects.toThrow(new UsageError('the model is closed'));
  });

  it('disposal in the middle of a sweep ends it at the next layer', async () => {
    const llm = await loadOpt();
    const stream = llm.stream([long]);
    await stream.next();
    const ended = collect(stream).catch((cause: unknown) => cause); // begins a sweep
    await llm[Symbol.asyncDispose]();
    expect(await ended).toEqual(new UsageError('the model is closed'));
  });
});

describe('LLM.load', () => {
  it.each<[string, string, LoadOptions, RegExp]>([
    ['no such folder', '/no/such/model', REFERENCE, /\/no\/such\/model/],
    ['an unknown shape', 'opt-1t', { ...REFERENCE, dummy: true }, /opt-1t: no published shape; known are opt-125m, /],
    ['too little memory', fixtureFolder('opt'), { ...REFERENCE, memoryBytes: 1e6 }, /^the model needs .* 1\.00 MB may be used/],
    ['a batch of no rows', fixtureFolder('opt'), { ...REFERENCE, gpuBatchSize: 0 }, /gpuBatchSize: a positive integer expected, got 0/],
    ['no threads', fixtureFolder('opt'), { threads: -1 }, /threads: a positive integer expected, got -1/],
    ['half a row', fixtureFolder('opt'), { rows: { count: 0.5, promptTokens: 1 } }, /rows\.count: an integer from 0 on expected, got 0\.5/],
    ['half a batch', fixtureFolder('opt'), { ...REFERENCE, numGpuBatches: 1.5 }, /numGpuBatches: a positive integer expected, got 1.5/],
  ])('refuses %s', async (_what, name, options, message) => await expect(LLM.load(name, options)).rejects.toThrow(message));

  it('knows the defaults of the caller', async () => {
    await using llm = await loadOpt({ defaults: { maxTokens: 3, ignoreEos: true } });
    expect(idsOf(await llm.generate([golden.prompts[0]!]))).toEqual([golden.greedy[0]!.slice(0, 3)]);
    expect(idsOf(await llm.generate([golden.prompts[0]!], { maxTokens: 2 }))).toEqual([golden.greedy[0]!.slice(0, 2)]);
  });
});

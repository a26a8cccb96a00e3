import { describe, expect, it } from 'vitest';
import { jsonLines } from '../helpers/cli.ts';
import { jobFolder, type JobResult } from '../helpers/cli-job.ts';
import { fixtureFolder, LOGPROB_TOLERANCE, readGolden } from '../helpers/golden.ts';

interface Choice {
  readonly index: number;
  readonly text: string;
  readonly finish_reason: string;
  readonly logprobs: {
    readonly tokens: string[];
    readonly token_logprobs: (number | null)[];
    readonly top_logprobs: (Record<string, number> | null)[];
    readonly text_offset: number[];
  } | null;
  readonly token_ids?: number[];
}

interface Line {
  readonly id: string;
  readonly custom_id: string | null;
  readonly response: { readonly status_code: number; readonly body: { readonly model: string; readonly choices: Choice[] } };
}

const MODEL = fixtureFolder('opt');
const golden = readGolden('opt');
const texts = golden.texts!.map(({ text, completion, prompt }) => ({ text, completion, ids: golden.prompts[prompt]! }));
/** The goldens go on past the end of a sequence. */
const LENGTH = { max_tokens: 24, ignore_eos: true };

const request = (id: string, body: object): string =>
  `${JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/completions', body: { model: 'any', ...body } })}\n`;

/** Bodies in, result lines out, through the model whose results are known. */
async function answer(bodies: readonly object[], flags: readonly string[] = []): Promise<JobResult & { lines: Line[]; choices: Choice[] }> {
  const input = bodies.map((body, i) => request(`request-${i}`, body)).join('');
  using folder = jobFolder({ 'in.jsonl': input });
  const result = await folder.run(['-i', 'in.jsonl', '-o', 'out.jsonl', '-m', MODEL, '--compute', 'f32', ...flags]);
  const lines = jsonLines(folder.read('out.jsonl')) as unknown as Line[];
  return { ...result, lines, choices: lines.flatMap(({ response }) => response?.body.choices ?? []) };
}

function largestError(got: readonly (number | null)[], wanted: readonly (number | null)[]): number {
  expect(got.map((value) => value === null)).toEqual(wanted.map((value) => value === null));
  return Math.max(...got.map((value, i) => Math.abs((value ?? 0) - (wanted[i] ?? 0))));
}

describe('a file of OpenAI batch lines', () => {
  it('is answered with the ids and log-probabilities of the golden model', async () => {
    const bodies = golden.prompts.map((prompt) => ({ prompt, ...LENGTH, logprobs: 0, echo: true, return_token_ids: true }));
    const { status, summary, choices } = await answer(bodies, ['--gpu-batch-size', '3']);
    expect({ status, rows: summary!.rows }).toEqual({ status: 0, rows: { total: 10, done: 10, failed: 0, reused: 0 } });
    for (const [i, { token_ids: ids, logprobs, finish_reason: reason }] of choices.entries()) {
      expect(ids).toEqual(golden.greedy[i]);
      expect(reason).toBe('length');
      const wanted = [...golden.prompt_logprobs[i]!, ...golden.greedy_logprobs[i]!];
      expect(largestError(logprobs!.token_logprobs, wanted), `prompt ${i}`).toBeLessThanOrEqual(LOGPROB_TOLERANCE);
    }
  });

  it('takes prompts as text or as token ids', async () => {
    const { choices } = await answer(texts.flatMap(({ text, ids }) => [text, ids, [ids], [text]].map((prompt) => ({ prompt, ...LENGTH }))));
    expect(choices.map(({ text }) => text)).toEqual(texts.flatMap(({ completion }) => Array.from({ length: 4 }, () => completion)));
  });

  it('scores prompts: echo, and no tokens', async () => {
    const { status, summary, choices } = await answer([
      ...golden.prompts.map((prompt) => ({ prompt, max_tokens: 0, echo: true, logprobs: 2 })),
      ...texts.map(({ text }) => ({ prompt: text, max_tokens: 0, echo: true, logprobs: 0 })),
    ]);
    expect({ status, generated: summary!.tokens.generated }).toEqual({ status: 0, generated: 0 });
    for (const [i, wanted] of golden.prompt_logprobs.entries()) {
      const { token_logprobs: scores, top_logprobs: top, tokens, text_offset: offsets } = choices[i]!.logprobs!;
      expect(largestError(scores, wanted)).toBeLessThanOrEqual(LOGPROB_TOLERANCE);
      expect([tokens.length, offsets.length, top.length]).toEqual([wanted.length, wanted.length, wanted.length]);
      // Two alternatives and the token itself; tokens of the same text are one.
      for (const alternatives of top.slice(1)) expect(Object.keys(alternatives!).length).toBeLessThanOrEqual(3);
    }
    expect(choices.slice(golden.prompts.length).map(({ text }) => text)).toEqual(texts.map(({ text }) => text));
  });

  it('returns a prompt alone: echo, no tokens, no scores', async () => {
    const { status, choices } = await answer(texts.map(({ text }) => ({ prompt: text, max_tokens: 0, echo: true })));
    expect(status).toBe(0);
    expect(choices).toEqual(texts.map(({ text }) => ({ index: 0, text, finish_reason: 'length', logprobs: null })));
  });

  it('obeys max_tokens, stop and echo', async () => {
    const [{ text: prompt, completion }] = texts as [(typeof texts)[0]];
    const stop = completion.slice(3, 6);
    const before = completion.slice(0, completion.indexOf(stop));
    const { choices } = await answer([
      { prompt, ...LENGTH, stop },
      { prompt, ...LENGTH, stop: ['nowhere', stop] },
      { prompt, ...LENGTH, max_tokens: 1, return_token_ids: true },
      { prompt, ...LENGTH, echo: true },
    ]);
    expect(choices.map(({ text, finish_reason: reason }) => [text, reason])).toEqual([
      [before, 'stop'],
      [before, 'stop'],
      [expect.any(String), 'length'],
      [prompt + completion, 'length'],
    ]);
    expect(choices[2]!.token_ids).toHaveLength(1);
  });

  it('draws the same tokens for the same seed, and the most probable one from the smallest share', async () => {
    const [{ text: prompt, completion }] = texts as [(typeof texts)[0]];
    const drawn = { prompt, ...LENGTH, temperature: 1.5 };
    const bodies = [
      { ...drawn, seed: 1 },
      { ...drawn, seed: 1, top_p: 1e-6 },
      { ...drawn, seed: 1, top_k: 1 },
      { prompt, ...LENGTH, temperature: 0, seed: 1 },
    ];
    const first = await answer(bodies);
    const second = await answer(bodies, ['--gpu-batch-size', '1', '--seed', '9', '--temperature', '3']);
    const [other] = (await answer([{ ...drawn, seed: 2 }])).choices;
    expect(first.choices[0]!.text).not.toBe(completion);
    expect(first.choices.slice(1).map(({ text }) => text)).toEqual([completion, completion, completion]);
    expect(second.choices).toEqual(first.choices);
    expect(other!.text).not.toBe(first.choices[0]!.text);
  });

  it('takes from the flags what a body leaves out', async () => {
    const [{ text: prompt }] = texts as [(typeof texts)[0]];
    const { choices } = await answer(
      [
        { prompt, return_token_ids: true },
        { prompt, return_token_ids: true, max_tokens: 2 },
      ],
      ['--max-tokens', '5', '--ignore-eos'],
    );
    expect(choices.map(({ token_ids: ids }) => ids!.length)).toEqual([5, 2]);
  });
});

describe('a result line', () => {
  it('has the shape of the batch API; the model of the command line wins', async () => {
    const { ids, completion } = texts[0]!;
    const { lines } = await answer([{ model: 'gpt-3.5-turbo-instruct', prompt: ids, ...LENGTH, user: 'somebody' }]);
    const id = (prefix: string): unknown => expect.stringMatching(new RegExp(`^${prefix}[0-9a-f]{24}$`));
    expect(lines).toEqual([
      {
        id: id('batch_req_'),
        custom_id: 'request-0',
        response: {
          status_code: 200,
          request_id: id('req_'),
          body: {
            id: id('cmpl-'),
            object: 'text_completion',
            created: expect.any(Number),
            model: MODEL,
            choices: [{ index: 0, text: completion, finish_reason: 'length', logprobs: null }],
            usage: { prompt_tokens: ids.length, completion_tokens: 24, total_tokens: ids.length + 24 },
          },
        },
        error: null,
      },
    ]);
  });

  it('has an id of the row and the hash of its content', async () => {
    const bodies = texts.map(({ text }) => ({ prompt: text, max_tokens: 1 }));
    const split = ({ id }: Line): string[] => /^batch_req_(.{8})(.{16})$/.exec(id)!.slice(1);
    const forth = (await answer(bodies)).lines.map(split);
    const back = (await answer(bodies.toReversed())).lines.map(split);
    expect(forth.map(([row]) => row)).toEqual(['00000000', '00000001', '00000002']);
    expect(back.map(([row]) => row)).toEqual(forth.map(([row]) => row));
    expect(back.map(([, hash]) => hash)).toEqual(forth.map(([, hash]) => hash).toReversed());
    expect(new Set(forth.map(([, hash]) => hash)).size).toBe(3);
  });

  it('is the same in every run, but for the time', async () => {
    const bodies = texts.map(({ text }) => ({ prompt: text, max_tokens: 4, logprobs: 1 }));
    const timeless = ({ lines }: { lines: Line[] }): string => JSON.stringify(lines).replaceAll(/"created":\d+/g, '');
    expect(timeless(await answer(bodies))).toBe(timeless(await answer(bodies)));
  });

  it('tells what is wrong with a request, and the others are answered', async () => {
    const { text: prompt } = texts[0]!;
    const wrong: [object, string | null, RegExp][] = [
      [{ prompt, n: 2 }, 'n', /^line 1: n is not supported, got 2$/],
      [{ prompt, best_of: 3 }, 'best_of', /^line 2: best_of is not supported, got 3$/],
      [{ prompt, response_format: { type: 'json_object' } }, 'response_format', /^line 3: response_format is not supported/],
      [{ prompt, frequency_penalty: 2.5 }, 'frequency_penalty', /^line 4: frequency_penalty must be a number from -2 to 2, got 2.5$/],
      [{ prompt, max_tokens: 'ten' }, 'max_tokens', /^line 5: max_tokens must be an integer.*got "ten"$/],
      [{ prompt, max_tokens: 0 }, 'max_tokens', /^line 6: max_tokens must be at least 1 without echo, got 0$/],
      [{ prompt, stop: Array.from({ length: 17 }, (_, i) => `${i}`) }, 'stop', /^line 7: stop must be .* at most 16 texts/],
      [{ prompt: 'license '.repeat(200) }, null, /^line 8: the prompt has \d{3,} tokens, the model's context is 256$/],
      [{ prompt: [5000] }, null, /^line 9: token id 5000 is not in the vocabulary of 640$/],
    ];
    const { status, summary, lines } = await answer([...wrong.map(([body]) => body), { prompt, ...LENGTH }]);
    expect({ status, rows: summary!.rows }).toEqual({ status: 3, rows: { total: 10, done: 1, failed: 9, reused: 0 } });
    for (const [i, [, param, message]] of wrong.entries()) {
      expect(lines[i]).toMatchObject({
        custom_id: `request-${i}`,
        response: { status_code: 400, body: { error: { message: expect.stringMatching(message), type: 'invalid_request_error', param } } },
        error: null,
      });
    }
    expect(lines[9]).toMatchObject({ response: { status_code: 200, body: { choices: [{ text: texts[0]!.completion }] } } });
  });
});

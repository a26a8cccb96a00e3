import { describe, expect, it } from 'vitest';
import type { JobOptions } from '../../../src/batch/types.ts';
import type { FakeOptions } from '../../helpers/fake-generator.ts';
import { jobFolder, type JobRun } from './job-folder.ts';

interface JsonlRun extends JobRun {
  readonly text: string;
  readonly lines: Record<string, unknown>[];
}

async function runJsonl(input: string | Buffer, options: Partial<JobOptions> = {}, fake: FakeOptions = {}): Promise<JsonlRun> {
  await using folder = await jobFolder();
  const paths = { input: await folder.write('in.jsonl', input), output: folder.path('out.jsonl') };
  const run = await folder.run({ ...paths, ...options }, fake);
  const text = await folder.read('out.jsonl');
  return {
    ...run,
    text,
    lines: text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>),
  };
}

const request = (body: object, rest: object = {}): string =>
  `${JSON.stringify({ custom_id: 'a', method: 'POST', url: '/v1/completions', ...rest, body: { model: 'm', prompt: 'Hi', ...body } })}\n`;

describe('plain objects', () => {
  it('keep their text and gain keys', async () => {
    const { lines, text, exitCode, generator } = await runJsonl(
      '{"id": 12345678901234567890, "text":"ü"}\r\n\n{ "text" : 1.50 , "x":{} }\n{"text":null}',
    );
    expect(exitCode).toBe(0);
    expect(generator!.requests.map(({ prompt }) => prompt)).toEqual(['Input: ü', 'Input: 1.5', 'Input: ']);
    expect(text.split('\n')[0]).toMatch(
      /^\{"id": 12345678901234567890, "text":"ü","completion":"<.*","finish_reason":"stop","error":null\}$/,
    );
    expect(Object.keys(lines[1]!)).toEqual(['text', 'x', 'completion', 'finish_reason', 'error']);
    expect(lines).toHaveLength(3);
  });

  it('are read at their key "prompt" without a template, as text or token ids', async () => {
    const { generator, lines } = await runJsonl('{"prompt":"Hi"}\n{"prompt":[72,105]}\n{}\n', {
      prompt: undefined,
      returnTokenIds: true,
    } as object);
    expect(generator!.requests.map(({ prompt }) => prompt)).toEqual(['Hi', [72, 105]]);
    expect(lines[0]!.token_ids).toEqual(lines[1]!.token_ids);
    expect(lines[2]).toEqual({
      completion: null,
      finish_reason: null,
      error: 'line 3: no --prompt or --user was given, and there are neither "messages" nor a "prompt" of text or token ids',
    });
  });

  it('become error rows when they are none', async () => {
    const bad = Buffer.concat([
      Buffer.from('[1]\n"text"\n{"text":1,\n{"text":"'),
      Buffer.from([0xc3]),
      Buffer.from('"}\n{"other":1}\n{"text":1,"completion":2,"error":3}\n{"text":"ok"}\n'),
    ]);
    const { lines, exitCode, summary } = await runJsonl(bad);
    expect(exitCode).toBe(3);
    expect(summary.rows).toEqual({ total: 7, done: 1, failed: 6, reused: 0 });
    expect(lines.map((line) => line.completion_error ?? line.error)).toEqual([
      'line 1: no JSON object: [1]',
      'line 2: no JSON object: "text"',
      'line 3: no JSON object: {"text":1,',
      'line 4: not UTF-8',
      'line 5: no key "text", which the prompt names; keys: other',
      'line 6: has a key "completion" already; choose another with --column',
      null,
    ]);
    expect(lines[5]).toMatchObject({ text: 1, completion: 2, error: 3 });
  });

  it('refuse a template whose column is in none of them', async () => {
    await expect(runJsonl('{"a":1,"b":2}\n{"c":1}\n')).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining('"text" is in no line of'),
    });
  });

  it('of an empty file are an empty file', async () => {
    await using folder = await jobFolder();
    const { exitCode, generator } = await folder.run({ input: await folder.write('in.jsonl', '\n'), output: folder.path('out.jsonl') });
    expect([exitCode, generator, await folder.read('out.jsonl')]).toEqual([0, undefined, '']);
  });
});

describe("OpenAI's batch lines", () => {
  it('pass their fields, over the flags', async () => {
    const body = {
      max_tokens: 3,
      temperature: 0.5,
      top_p: 0.9,
      min_p: 0.05,
      repetition_penalty: 1.1,
      presence_penalty: -1,
      frequency_penalty: 0.5,
      top_k: -1,
      seed: 5,
      stop: 'x',
      logprobs: 1,
      ignore_eos: true,
      n: 1,
      user: 'me',
      suffix: null,
    };
    const { generator } = await runJsonl(request(body), { params: { maxTokens: 9, topK: 4, stopTokenIds: [2] } });
    expect(generator!.requests).toEqual([
      {
        prompt: 'Hi',
        key: 0,
        params: {
          maxTokens: 3,
          temperature: 0.5,
          topP: 0.9,
          minP: 0.05,
          repetitionPenalty: 1.1,
          presencePenalty: -1,
          frequencyPenalty: 0.5,
          topK: 0,
          seed: 5,
          stop: ['x'],
          stopTokenIds: [2],
          logprobs: 1,
          ignoreEos: true,
        },
      },
    ]);
  });

  it('are answered in the batch output format', async () => {
    const { lines } = await runJsonl(request({ max_tokens: 2, return_token_ids: true }), {}, { model: 'tidy' });
    const id = expect.stringMatching(/_[0-9a-f]{24}$/);
    expect(lines).toEqual([
      {
        id,
        custom_id: 'a',
        response: {
          status_code: 200,
          request_id: id,
          body: {
            id: expect.stringMatching(/^cmpl-[0-9a-f]{24}$/),
            object: 'text_completion',
            created: expect.any(Number),
            model: 'tidy',
            choices: [
              {
                index: 0,
                text: expect.stringMatching(/^<.$/),
                finish_reason: 'length',
                logprobs: null,
                token_ids: [60, expect.any(Number)],
              },
            ],
            usage: { prompt_tokens: 2, completion_tokens: 2, total_tokens: 4 },
          },
        },
        error: null,
      },
    ]);
  });

  it('score their prompt with echo and no tokens', async () => {
    const { lines } = await runJsonl(request({ prompt: 'Hé!', max_tokens: 0, echo: true, logprobs: 1 }));
    expect((lines[0] as { response: { body: { choices: unknown[] } } }).response.body.choices).toEqual([
      {
        index: 0,
        text: 'Hé!',
        finish_reason: 'length',
        logprobs: {
          tokens: ['H', 'é', '!'],
          token_logprobs: [null, -2.33, -0.33],
          top_logprobs: [null, { a: -0.5, é: -2.33 }, { a: -0.5, '!': -0.33 }],
          text_offset: [0, 1, 2],
        },
      },
    ]);
  });

  it('return their prompt alone with echo, no tokens and no log-probabilities', async () => {
    const { lines } = await runJsonl(request({ prompt: 'Hé!', max_tokens: 0, echo: true }));
    expect((lines[0] as { response: { body: { choices: unknown[] } } }).response.body.choices).toEqual([
      { index: 0, text: 'Hé!', finish_reason: 'length', logprobs: null },
    ]);
  });

  it.each([
    ['n', { n: 2 }, 'n is not supported, got 2'],
    ['best_of', { best_of: 3 }, 'best_of is not supported, got 3'],
    ['response_format', { response_format: { type: 'json_object' } }, 'response_format is not supported'],
    ['presence_penalty', { presence_penalty: 2.1 }, 'presence_penalty must be a number from -2 to 2, got 2.1'],
    ['frequency_penalty', { frequency_penalty: '0' }, 'frequency_penalty must be a number from -2 to 2, got "0"'],
    ['repetition_penalty', { repetition_penalty: 0 }, 'repetition_penalty must be a number above 0, at most 100, got 0'],
    ['min_p', { min_p: 1.5 }, 'min_p must be a number from 0 to 1, got 1.5'],
    ['logit_bias', { logit_bias: { 5: 1 } }, 'logit_bias is not supported'],
    ['stream', { stream: true }, 'stream is not supported'],
    ['surprise', { surprise: 1 }, 'surprise is not supported'],
    ['toString', { toString: 1 }, 'toString is not supported'],
    ['max_tokens', { max_tokens: -1 }, 'max_tokens must be an integer from 0'],
    ['max_tokens', { max_tokens: 0 }, 'max_tokens must be at least 1 without echo, got 0'],
    ['max_tokens', { max_tokens: 0, logprobs: 2 }, 'max_tokens must be at least 1 without echo, got 0'],
    ['temperature', { temperature: '0' }, 'temperature must be a number from 0 to 100, got "0"'],
    ['top_p', { top_p: 0 }, 'top_p must be a number above 0, at most 1, got 0'],
    ['seed', { seed: -1 }, 'seed must be an integer from 0 to 4294967295'],
    ['stop', { stop: [''] }, 'stop must be'],
    ['stop', { stop: Array.from({ length: 17 }, (_, i) => `${i}`) }, 'stop must be a text or a list of at most 16 texts, none empty'],
    ['stop_token_ids', { stop_token_ids: [2 ** 31] }, 'stop_token_ids must be a list of token ids, at most 2147483647'],
    ['logprobs', { logprobs: 21 }, 'logprobs must be an integer from 0 to 20, got 21'],
    ['prompt', { prompt: ['a', 'b'] }, 'prompt must be one text or one list of token ids'],
    ['prompt', { prompt: [] }, 'prompt must be'],
    ['prompt', { prompt: [1, -2] }, 'prompt must be'],
  ])('name a field that is not served: %s %j', async (param, body, message) => {
    const { lines, exitCode, generator } = await runJsonl(request(body));
    expect([exitCode, generator]).toEqual([3, undefined]);
    const error = {
      message: expect.stringContaining(`line 1: ${message}`),
      type: 'invalid_request_error',
      param,
      code: expect.any(String),
    };
    expect(lines[0]).toMatchObject({ custom_id: 'a', response: { status_code: 400, body: { error } }, error: null });
  });

  it.each([
    [{ custom_id: 5 }, 'custom_id'],
    [{ url: '/v1/embeddings' }, 'url'],
    [{ method: 'GET' }, 'method'],
  ])('name what is wrong around the body: %j', async (rest, param) => {
    const { lines } = await runJsonl(request({}, rest));
    expect(lines[0]).toMatchObject({ response: { status_code: 400, body: { error: { param } } } });
  });

  it('are mixed with others, refuse a second use of an id, and answer what is no line', async () => {
    const { lines, summary } = await runJsonl(
      `${request({})}${request({})}oops\n{"text":"x"}\noops\n${request({ prompt: ['Hi'] }, { custom_id: 'b' })}`,
    );
    expect(summary.rows).toMatchObject({ total: 6, done: 3, failed: 3 });
    expect(lines[1]).toMatchObject({ custom_id: 'a', response: { body: { error: { message: 'line 2: second use of custom_id "a"' } } } });
    expect(lines[2]).toMatchObject({
      custom_id: null,
      response: null,
      error: { code: 'invalid_json_line', message: 'line 3: no JSON object: oops' },
    });
    expect(lines[4]).toEqual({ completion: null, finish_reason: null, error: 'line 5: no JSON object: oops' });
    expect(lines[5]).toMatchObject({ custom_id: 'b', response: { status_code: 200 } });
  });

  it('tell of prompts that are too long', async () => {
    const { lines } = await runJsonl(request({ prompt: 'x'.repeat(1001) }));
    expect(lines[0]).toMatchObject({
      response: { status_code: 400, body: { error: { message: "line 1: prompt of 1001 tokens, the model's context has 1000" } } },
    });
  });
});

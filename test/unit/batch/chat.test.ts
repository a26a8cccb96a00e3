import { describe, expect, it } from 'vitest';
import { MAX_MESSAGES } from '../../../src/batch/messages.ts';
import type { JobOptions } from '../../../src/batch/types.ts';
import type { GenerationParams } from '../../../src/requests.ts';
import type { FakeOptions } from '../../helpers/fake-generator.ts';
import { jobFolder, type JobRun } from './job-folder.ts';

type Line = Record<string, unknown> & {
  readonly response: { readonly status_code: number; readonly body: { choices: Record<string, unknown>[]; error: { param: string } } };
};

interface JsonlRun extends JobRun {
  readonly lines: Line[];
}

async function runJsonl(input: string, options: Partial<JobOptions> = {}, fake: FakeOptions = {}): Promise<JsonlRun> {
  await using folder = await jobFolder();
  const paths = { input: await folder.write('in.jsonl', input), output: folder.path('out.jsonl'), prompt: undefined } as object;
  const run = await folder.run({ ...paths, ...options }, fake);
  const lines = (await folder.read('out.jsonl')).trimEnd().split('\n');
  return { ...run, lines: lines.map((line) => JSON.parse(line) as Line) };
}

const HI = [{ role: 'user', content: 'Hi' }];
const chatLine = (body: object, id = 'a'): string =>
  `${JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/chat/completions', body: { model: 'm', messages: HI, ...body } })}\n`;
const completionLine = (id: string): string =>
  `${JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/completions', body: { prompt: 'Hi' } })}\n`;
const plainLines = (...rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const prompts = ({ generator }: JobRun): unknown[] => generator!.requests.map(({ prompt }) => prompt);

describe('a chat line', () => {
  it.each<[string, object, GenerationParams]>([
    ['nothing', {}, { maxTokens: 9, logprobs: 3 }],
    ['max_tokens', { max_tokens: 4 }, { maxTokens: 4, logprobs: 3 }],
    ['max_completion_tokens', { max_completion_tokens: 4 }, { maxTokens: 4, logprobs: 3 }],
    ['the same limit twice', { max_completion_tokens: 4, max_tokens: 4 }, { maxTokens: 4, logprobs: 3 }],
    ['a limit that is null', { max_completion_tokens: null, max_tokens: 5 }, { maxTokens: 5, logprobs: 3 }],
    [
      'sampling',
      { temperature: 0.5, top_p: 0.9, top_k: -1, seed: 5, stop: 'x', stop_token_ids: [7], ignore_eos: true },
      { maxTokens: 9, logprobs: 3, temperature: 0.5, topP: 0.9, topK: 0, seed: 5, stop: ['x'], stopTokenIds: [7], ignoreEos: true },
    ],
    ['logprobs', { logprobs: true }, { maxTokens: 9, logprobs: 0 }],
    ['alternatives', { logprobs: true, top_logprobs: 20 }, { maxTokens: 9, logprobs: 20 }],
    ['no logprobs', { logprobs: false, top_logprobs: 0 }, { maxTokens: 9 }],
    [
      'what asks for nothing',
      {
        n: 1,
        stream: false,
        stream_options: { include_usage: true },
        frequency_penalty: 0,
        presence_penalty: 0,
        repetition_penalty: 1,
        min_p: 0,
        logit_bias: {},
        response_format: { type: 'text' },
        tools: [],
        functions: null,
        tool_choice: 'none',
        function_call: 'none',
        parallel_tool_calls: true,
        modalities: ['text'],
        store: false,
        echo: false,
        add_generation_prompt: true,
        continue_final_message: false,
        chat_template_kwargs: {},
        service_tier: 'auto',
        user: 'me',
        metadata: { a: 'b' },
      },
      { maxTokens: 9, logprobs: 3 },
    ],
  ])('passes %s, over the flags', async (_what, body, params) => {
    const run = await runJsonl(chatLine(body), { params: { maxTokens: 9, logprobs: 3 } });
    expect(run.exitCode).toBe(0);
    expect(run.generator!.requests).toEqual([{ prompt: { messages: HI }, key: 0, params }]);
  });

  it.each([
    ['max_tokens', { max_tokens: 0 }, 'max_tokens must be an integer from 1'],
    ['max_completion_tokens', { max_completion_tokens: 1.5 }, 'max_completion_tokens must be an integer from 1'],
    ['max_completion_tokens', { max_tokens: 4, max_completion_tokens: 5 }, 'max_tokens is 4, max_completion_tokens is 5'],
    ['temperature', { temperature: 101 }, 'temperature must be a number from 0 to 100'],
    ['logprobs', { logprobs: 2 }, 'logprobs must be true or false, got 2'],
    ['top_logprobs', { logprobs: true, top_logprobs: 21 }, 'top_logprobs must be an integer from 0 to 20, got 21'],
    ['top_logprobs', { top_logprobs: 2 }, 'top_logprobs needs logprobs true, got nothing'],
    ['n', { n: 2 }, 'n is not supported, got 2'],
    ['stream', { stream: true }, 'stream is not supported'],
    ['response_format', { response_format: { type: 'json_schema' } }, 'response_format is not supported'],
    ['tools', { tools: [{ type: 'function' }], tool_choice: 'none' }, 'tools is not supported'],
    ['tool_choice', { tool_choice: 'required' }, 'tool_choice is not supported, got "required"'],
    ['modalities', { modalities: ['text', 'audio'] }, 'modalities is not supported'],
    ['reasoning_effort', { reasoning_effort: 'low' }, 'reasoning_effort is not supported'],
    ['chat_template_kwargs', { chat_template_kwargs: { enable_thinking: false } }, 'chat_template_kwargs is not supported'],
    ['add_generation_prompt', { add_generation_prompt: false }, 'add_generation_prompt is not supported, got false'],
    ['echo', { echo: true }, 'echo is not supported, got true'],
    ['prompt', { prompt: 'Hi' }, 'prompt is not supported, got "Hi"'],
    ['best_of', { best_of: 1 }, 'best_of is not supported'],
    ['constructor', { constructor: 1 }, 'constructor is not supported'],
  ])('is refused for its field %s: %j', async (param, body, message) => {
    const { lines, exitCode, generator } = await runJsonl(chatLine(body));
    expect([exitCode, generator]).toEqual([3, undefined]);
    const error = { message: expect.stringContaining(`line 1: ${message}`) as string, type: 'invalid_request_error', param };
    expect(lines).toMatchObject([{ custom_id: 'a', response: { status_code: 400, body: { error } }, error: null }]);
  });

  const user = (content: unknown): object[] => [{ role: 'user', content }];
  it.each<[string, unknown, string]>([
    ['messages', undefined, 'messages must be a list of at least one message, got nothing'],
    ['messages', [], 'messages must be a list of at least one message, got []'],
    ['messages', 'Hi', 'messages must be a list'],
    [
      'messages',
      Array.from({ length: MAX_MESSAGES + 1 }, () => HI[0]),
      `messages: at most ${MAX_MESSAGES} are read, got ${MAX_MESSAGES + 1}`,
    ],
    ['messages[0]', ['Hi'], 'messages[0] must be an object with role and content, got "Hi"'],
    ['messages[0].role', [{ content: 'Hi' }], 'messages[0].role must be one of system, developer, user, assistant, tool, got nothing'],
    ['messages[1].role', [...HI, { role: 'function', content: 'x' }], 'messages[1].role must be one of'],
    ['messages[0].content', user(null), 'messages[0].content must be text or a list of text parts, got null'],
    ['messages[0].content', user([]), 'messages[0].content must be text or a list of text parts, got []'],
    [
      'messages[0].content[1]',
      user([{ type: 'text', text: 'a' }, 'b']),
      'messages[0].content[1] must be an object of type "text", got "b"',
    ],
    ['messages[0].content[0].text', user([{ type: 'text' }]), 'messages[0].content[0].text must be text, got nothing'],
    [
      'messages[0].content[1].type',
      user([
        { type: 'text', text: 'a' },
        { type: 'image_url', image_url: { url: 'data:' } },
      ]),
      'messages[0].content[1]: parts of type "image_url" are not supported, only "text"',
    ],
    [
      'messages[0].content[0].type',
      user([{ type: 'input_audio', input_audio: {} }]),
      'messages[0].content[0]: parts of type "input_audio"',
    ],
    [
      'messages[1].tool_calls',
      [...HI, { role: 'assistant', content: null, tool_calls: [{ id: 'x' }] }],
      'messages[1].tool_calls is not supported, got [{"id":"x"}]',
    ],
    ['messages[0].reasoning_content', [{ ...HI[0], reasoning_content: 'hm' }], 'messages[0].reasoning_content is not supported'],
  ])('is refused for %s (case %#)', async (param, messages, message) => {
    const { lines, exitCode } = await runJsonl(chatLine({ messages }));
    expect(exitCode).toBe(3);
    expect(lines[0]!.response.body.error).toMatchObject({ param, message: expect.stringContaining(`line 1: ${message}`) as string });
  });

  it('may hold every role, texts in parts, and what no template needs', async () => {
    const messages = [
      { role: 'developer', content: 'Be terse.' },
      {
        role: 'user',
        name: 'Ann',
        content: [
          { type: 'text', text: 'a' },
          { type: 'text', text: 'b' },
        ],
      },
      { role: 'assistant', content: 'c', refusal: null, tool_calls: [], annotations: [] },
      { role: 'tool', content: '', tool_call_id: 'x' },
      { role: 'system', content: 'd' },
    ];
    expect(prompts(await runJsonl(chatLine({ messages })))).toEqual([
      {
        messages: [
          { role: 'system', content: 'Be terse.' },
          { role: 'user', content: 'a\nb' },
          { role: 'assistant', content: 'c' },
          { role: 'tool', content: '' },
          { role: 'system', content: 'd' },
        ],
      },
    ]);
  });

  it('is answered by a chat completion', async () => {
    const body = { max_tokens: 2, return_token_ids: true };
    const { lines } = await runJsonl(chatLine(body), {}, { model: 'tidy' });
    const id = expect.stringMatching(/_[0-9a-f]{24}$/) as string;
    expect(lines).toEqual([
      {
        id,
        custom_id: 'a',
        response: {
          status_code: 200,
          request_id: id,
          body: {
            id: expect.stringMatching(/^chatcmpl-[0-9a-f]{24}$/) as string,
            object: 'chat.completion',
            created: expect.any(Number) as number,
            model: 'tidy',
            choices: [
              {
                index: 0,
                message: { role: 'assistant', content: expect.stringMatching(/^<.$/) as string, refusal: null },
                finish_reason: 'length',
                logprobs: null,
                token_ids: [60, expect.any(Number)],
              },
            ],
            usage: { prompt_tokens: 9, completion_tokens: 2, total_tokens: 11 },
          },
        },
        error: null,
      },
    ]);
  });

  it('has log-probabilities in the form of the chat API, with the bytes of each token', async () => {
    const { lines } = await runJsonl(chatLine({ logprobs: true, top_logprobs: 1 }));
    const [{ message, logprobs }] = lines[0]!.response.body.choices as [
      { message: { content: string }; logprobs: { content: { token: string; bytes: number[] }[]; refusal: null } },
    ];
    const top = [{ token: 'a', logprob: -0.5, bytes: [97] }];
    expect(logprobs.content[0]).toEqual({ token: '<', logprob: -0.6, bytes: [60], top_logprobs: top });
    expect(logprobs.content.find(({ token }) => token === 'é')).toMatchObject({ bytes: [0xc3, 0xa9], top_logprobs: top });
    expect(logprobs.refusal).toBeNull();
    expect(Buffer.from(logprobs.content.flatMap(({ bytes }) => bytes)).toString()).toBe(message.content);
  });

  it('has logprobs of the flags in that form, too', async () => {
    const { lines } = await runJsonl(chatLine({ max_tokens: 1 }), { params: { logprobs: 0 } });
    expect(lines[0]!.response.body.choices[0]!.logprobs).toMatchObject({ content: [{ token: '<' }] });
  });

  it('stands beside others in one file, each answered in its own form', async () => {
    const { lines, summary } = await runJsonl(
      `${chatLine({})}${completionLine('b')}${chatLine({}, 'b')}oops\n${plainLines({ messages: HI })}${chatLine({ n: 2 }, 'c')}`,
    );
    expect(summary.rows).toMatchObject({ total: 6, done: 3, failed: 3 });
    expect(lines[0]!.response.body).toMatchObject({ object: 'chat.completion', choices: [{ message: { role: 'assistant' } }] });
    expect(lines[1]!.response.body).toMatchObject({ object: 'text_completion', choices: [{ text: expect.any(String) as string }] });
    expect(lines[2]!.response.body.error).toMatchObject({ message: 'line 3: second use of custom_id "b"' });
    expect(lines[3]).toMatchObject({ response: null, error: { code: 'invalid_json_line' } });
    expect(lines[4]).toMatchObject({ completion: expect.any(String) as string, error: null });
    expect(lines[5]!.response.body.error.param).toBe('n');
  });

  it('that is too long or refused by the template is an error row', async () => {
    const { lines } = await runJsonl(
      `${chatLine({ messages: [{ role: 'user', content: 'x'.repeat(1001) }] })}${chatLine({ messages: [{ role: 'user', content: 'bad' }] }, 'b')}`,
      {},
      { failing: 'bad' },
    );
    expect(lines.map(({ response }) => (response.body.error as unknown as { message: string }).message)).toEqual([
      "line 1: prompt of 1008 tokens, the model's context has 1000",
      'line 2: refused by the fake',
    ]);
  });
});

describe('a plain object with messages', () => {
  it('is a conversation, and gains the same keys as others', async () => {
    const run = await runJsonl(plainLines({ id: 1, messages: HI }, { prompt: 'Hi' }, { messages: HI, prompt: null }), {
      params: { logprobs: 0 },
    });
    expect(prompts(run)).toEqual([{ messages: HI }, 'Hi', { messages: HI }]);
    expect(Object.keys(run.lines[0]!)).toEqual(['id', 'messages', 'completion', 'finish_reason', 'logprobs', 'error']);
    expect(Object.keys(run.lines[0]!['logprobs'] as object)).toContain('token_logprobs');
  });

  it('is an error row where it is none, or has a prompt as well', async () => {
    const { lines } = await runJsonl(plainLines({ messages: HI, prompt: 'Hi' }, { messages: 'Hi' }, { messages: [{ role: 'user' }] }));
    expect(lines.map(({ error }) => error)).toEqual([
      'line 1: has both "prompt" and "messages"; leave out one of them',
      'line 2: messages must be a list of at least one message, got "Hi"',
      'line 3: messages[0].content must be text or a list of text parts, got nothing',
    ]);
  });

  it('is read as any other with --prompt', async () => {
    expect(prompts(await runJsonl(plainLines({ a: 'x', messages: HI, prompt: 'p' }), { prompt: '{{a}}' }))).toEqual(['x']);
  });
});

describe('--system and --user', () => {
  it('make a conversation of the columns of a CSV', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', 'id,text\nde,Grüße\nfr,Salut\n');
    const options = { prompt: undefined, system: 'Speak {{id}}.', user: 'Say {{ text }}' } as object;
    const run = await folder.run(options);
    expect(prompts(run)).toEqual([
      {
        messages: [
          { role: 'system', content: 'Speak de.' },
          { role: 'user', content: 'Say Grüße' },
        ],
      },
      {
        messages: [
          { role: 'system', content: 'Speak fr.' },
          { role: 'user', content: 'Say Salut' },
        ],
      },
    ]);
    expect(await folder.read('out.csv')).toMatch(/^id,text,completion,finish_reason,error\n/);
  });

  it('make one of the keys of plain objects, whatever else these have', async () => {
    const run = await runJsonl(plainLines({ a: 1, messages: HI, prompt: 'p' }), { user: 'One: {{a}}' });
    expect(prompts(run)).toEqual([{ messages: [{ role: 'user', content: 'One: 1' }] }]);
  });

  it('go before what rows bring: their messages, unless these have a system, or their prompt', async () => {
    const own = [{ role: 'developer', content: 'mine' }, ...HI];
    const run = await runJsonl(
      plainLines({ a: 'x', messages: HI }, { a: 'y', messages: own }, { a: 'z', prompt: 'Hi' }, { a: '', prompt: [1] }, { prompt: 'Hi' }),
      { system: 'S {{a}}' },
    );
    const system = (content: string): object => ({ role: 'system', content });
    expect(prompts(run)).toEqual([
      { messages: [system('S x'), ...HI] },
      { messages: [system('mine'), ...HI] },
      { messages: [system('S z'), ...HI] },
    ]);
    expect(run.lines.slice(3).map(({ error }) => error)).toEqual([
      'line 4: --system makes a conversation, but the key "prompt" holds token ids',
      'line 5: no key "a", which the prompt names; keys: prompt',
    ]);
  });

  it('leave OpenAI lines as they are', async () => {
    expect(prompts(await runJsonl(chatLine({}), { system: 'S' }))).toEqual([{ messages: HI }]);
  });

  it.each([
    ['--prompt beside --user', { prompt: 'a', user: 'b' }, /give one or the other/],
    ['--prompt beside --system', { prompt: 'a', system: 'b' }, /give one or the other/],
    ['an empty --user', { user: '' }, /--user is empty/],
    ['an empty --system', { user: 'a', system: '' }, /--system is empty/],
    ['a column that is in no line', { user: '{{b}}' }, /column "b" is in no line/],
    ['a column of --system that is in no line', { system: '{{b}}', user: '{{a}}' }, /column "b" is in no line/],
  ])('refuse %s', async (_what, options, message) => {
    await expect(runJsonl(plainLines({ a: 1 }), options)).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringMatching(message) as string,
    });
  });

  it('refuse a CSV with --system alone, and a column that it does not have', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', 'id\n1\n');
    await expect(folder.run({ prompt: undefined, system: 'S' } as object)).rejects.toThrow(/a CSV needs --prompt or --user/);
    await expect(folder.run({ prompt: undefined, system: '{{x}}', user: '{{id}}' } as object)).rejects.toThrow(/column "x" is not in/);
  });

  it('are noticed when they name no column', async () => {
    const { notice } = await runJsonl(plainLines({ a: 1 }, { a: 2 }), { user: 'b', system: 'c' });
    expect(notice).toMatch(/names no \{\{column\}\}/);
    expect((await runJsonl(plainLines({ a: 1 }, { a: 1 }), { user: 'b', system: '{{a}}' })).notice).toBeUndefined();
  });
});

describe('a model without a chat template', () => {
  it('refuses the job at its first conversation, before anything is generated', async () => {
    await using folder = await jobFolder();
    const input = await folder.write('in.jsonl', `${completionLine('b')}\n${chatLine({})}${chatLine({}, 'c')}`);
    const job = { input, output: folder.path('out.jsonl'), prompt: undefined } as object;
    await expect(folder.run(job, { hasChatTemplate: false, model: 'old' })).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringMatching(/^line 3 is a conversation, but old has no chat template; .*--prompt.* -m$/) as string,
    });
    expect(await folder.names()).toEqual(['in.jsonl']);
  });

  it('serves rows that are none, and error rows', async () => {
    const { exitCode, summary } = await runJsonl(`${completionLine('b')}${chatLine({ n: 2 })}`, {}, { hasChatTemplate: false });
    expect([exitCode, summary.rows.done]).toEqual([3, 1]);
  });
});

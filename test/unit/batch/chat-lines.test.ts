import { describe, expect, it } from 'vitest';
import { MAX_MESSAGES } from '../../../src/batch/messages.ts';
import type { GenerationParams } from '../../../src/requests.ts';
import { chatLine, completionLine, HI, plainLines, prompts, runJsonl } from './conversations.ts';

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
    [
      'penalties and min-p, also where they ask for nothing',
      { frequency_penalty: 0, presence_penalty: 0.5, repetition_penalty: 1, min_p: 0.1 },
      { maxTokens: 9, logprobs: 3, frequencyPenalty: 0, presencePenalty: 0.5, repetitionPenalty: 1, minP: 0.1 },
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

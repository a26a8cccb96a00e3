import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { jsonLines } from '../helpers/cli.ts';
import { type JobFolder, jobFolder } from '../helpers/cli-job.ts';
import { readFixtureJson } from '../helpers/golden.ts';

interface Chat {
  readonly messages: readonly { readonly role: string; readonly content: string }[];
  readonly add_generation_prompt: boolean;
  readonly ids: readonly number[];
}

interface Line {
  readonly custom_id?: string;
  readonly completion?: string;
  readonly response: {
    readonly body: {
      readonly object: string;
      readonly choices: readonly { readonly text?: string; readonly message?: { readonly content: string } }[];
      readonly usage: { readonly prompt_tokens: number };
      readonly error?: { readonly message: string; readonly param: string | null };
    };
  };
}

/** A model with a chat template, and conversations with the token ids that transformers makes of them. */
const MODEL = fileURLToPath(new URL('../fixtures/gguf/llama-f32.gguf', import.meta.url));
const chats = (readFixtureJson('tokenizers/llama-bpe/golden.json') as { chats: readonly Chat[] }).chats.filter(
  (chat) => chat.add_generation_prompt,
);
const FLAGS = ['-m', MODEL, '--compute', 'f32', '--max-tokens', '8', '--ignore-eos'];
const JSONL = ['-i', 'in.jsonl', '-o', 'out.jsonl', ...FLAGS];
const LENGTH = { max_tokens: 8, ignore_eos: true };

const jsonl = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
const chatLine = (id: string, body: object): object => ({ custom_id: id, method: 'POST', url: '/v1/chat/completions', body });
const idsLine = (id: string, prompt: readonly number[]): object => ({
  custom_id: id,
  method: 'POST',
  url: '/v1/completions',
  body: { prompt, ...LENGTH },
});
const output = (folder: JobFolder): Line[] => jsonLines(folder.read('out.jsonl')) as unknown as Line[];

describe('a file of conversations', () => {
  it('is answered as the token ids of their template are, whatever form a line has', async () => {
    const rows = chats.flatMap(({ messages, ids }, i) => [
      chatLine(`chat-${i}`, { messages, ...LENGTH, logprobs: true, top_logprobs: 1 }),
      idsLine(`ids-${i}`, ids),
      { messages },
    ]);
    using folder = jobFolder({ 'in.jsonl': jsonl(rows) });
    expect(await folder.run(JSONL)).toMatchObject({ status: 0, message: '' });
    const lines = output(folder);
    for (const [i, { ids }] of chats.entries()) {
      const [chat, plain, row] = lines.slice(3 * i, 3 * i + 3) as [Line, Line, Line];
      const { choices, usage, object } = chat.response.body;
      const text = plain.response.body.choices[0]!.text!;
      expect([object, plain.response.body.object]).toEqual(['chat.completion', 'text_completion']);
      expect(usage.prompt_tokens).toBe(ids.length);
      expect([choices[0]!.message!.content, row.completion]).toEqual([text, text]);
      expect(choices[0]).toMatchObject({ finish_reason: 'length', logprobs: { content: { length: 8 } } });
    }
  });

  it('knows developers as the system, and texts in parts', async () => {
    const [, { messages, ids }] = chats as [Chat, Chat];
    const other = messages.map(({ role, content }) => ({
      role: role === 'system' ? 'developer' : role,
      content: [{ type: 'text', text: content }],
    }));
    expect(other[0]!.role).toBe('developer');
    using folder = jobFolder({ 'in.jsonl': jsonl([chatLine('a', { messages: other, ...LENGTH }), idsLine('b', ids)]) });
    expect(await folder.run(JSONL)).toMatchObject({ status: 0 });
    const [chat, plain] = output(folder).map(({ response }) => response.body) as [Line['response']['body'], Line['response']['body']];
    expect(chat.usage).toEqual(plain.usage);
    expect(chat.choices[0]!.message!.content).toBe(plain.choices[0]!.text);
  });

  it('has error rows where the template or the context refuses a conversation', async () => {
    const twice = Array.from({ length: 2 }, () => ({ role: 'user', content: 'a' }));
    const long = [{ role: 'user', content: 'license '.repeat(200) }];
    using folder = jobFolder({ 'in.jsonl': jsonl([twice, long].map((messages, i) => chatLine(`${i}`, { messages }))) });
    expect(await folder.run(JSONL)).toMatchObject({ status: 3 });
    expect(output(folder).map(({ response }) => response.body.error!.message)).toEqual([
      expect.stringMatching(/^line 1: messages: the chat template refuses them: .*roles must alternate/),
      expect.stringMatching(/^line 2: the prompt has (at least )?\d{3,} tokens, the model's context is 256$/),
    ]);
  });

  it('goes on after a kill', async () => {
    const rows = Array.from({ length: 12 }, (_, i) =>
      chatLine(`${i}`, { messages: [{ role: 'user', content: `row ${i}` }], logprobs: true }),
    );
    using whole = jobFolder({ 'in.jsonl': jsonl(rows) });
    expect(await whole.run(JSONL)).toMatchObject({ status: 0 });
    using folder = jobFolder({ 'in.jsonl': jsonl(rows) });
    const killed = await folder.run([...JSONL, '--gpu-batch-size', '2'], { env: { FLEXLLMGEN_CRASH_AT: 'journal-line:2' } });
    expect(killed).toMatchObject({ signal: 'SIGKILL' });
    const { status, summary } = await folder.run(JSONL);
    expect(status).toBe(0);
    expect(summary!.rows.reused).toBeGreaterThan(0);
    const timeless = (job: JobFolder): string => job.read('out.jsonl').replaceAll(/"created":\d+/g, '');
    expect(timeless(folder)).toBe(timeless(whole));
  });

  it('needs a model with a chat template', async () => {
    using folder = jobFolder({ 'in.jsonl': jsonl([chatLine('a', { messages: chats[0]!.messages })]) });
    const { status, message } = await folder.run(['-i', 'in.jsonl', '-o', 'out.jsonl']);
    expect({ status, names: folder.names() }).toEqual({ status: 2, names: ['in.jsonl'] });
    expect(message).toMatch(/line 1 is a conversation, but .*tidy-opt-5m has no chat template/);
  });
});

describe('--system and --user', () => {
  it('make a conversation of each row of a table', async () => {
    const [, { messages, ids }] = chats as [Chat, Chat];
    const [system, user] = messages as [Chat['messages'][0], Chat['messages'][0]];
    using folder = jobFolder({ 'in.csv': 'question\nWhat is 2 + 2?\n', 'in.jsonl': jsonl([idsLine('a', ids)]) });
    expect(user.content).toBe('What is 2 + 2?');
    const csv = await folder.run([...FLAGS, '--system', system.content, '--user', '{{question}}']);
    expect(csv).toMatchObject({ status: 0, message: '', summary: { tokens: { prompt: ids.length } } });
    await folder.run(JSONL);
    const { text } = output(folder)[0]!.response.body.choices[0]!;
    expect(folder.read('out.csv').replaceAll('""', '"')).toContain(text);
  });

  it('exclude --prompt', async () => {
    using folder = jobFolder({ 'in.csv': 'a\nb\n' });
    const { status, message } = await folder.run([...FLAGS, '--prompt', '{{a}}', '--user', '{{a}}']);
    expect({ status, message }).toEqual({ status: 2, message: expect.stringContaining('give one or the other') as string });
  });
});

describe('--prompt with a model of conversations', () => {
  it.each([
    ['is noticed', [], /^this model was trained on conversations; --user in place of --prompt/],
    ['is not, with --quiet', ['--quiet'], /^$/],
  ])('%s', async (_what, flags, expected) => {
    using folder = jobFolder({ 'in.csv': 'a\nb\nc\n' });
    const { status, message } = await folder.run([...FLAGS, '--prompt', 'x {{a}}', ...flags]);
    expect(status).toBe(0);
    expect(message).toMatch(expected);
    expect(message.split('trained on conversations').length).toBeLessThanOrEqual(2);
  });

  it('is no matter for a model without a template', async () => {
    using folder = jobFolder({ 'in.csv': 'a\nb\nc\n' });
    expect(await folder.run(['--prompt', 'x {{a}}', '--max-tokens', '2'])).toMatchObject({ status: 0, message: '' });
  });
});

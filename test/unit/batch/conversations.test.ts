import { describe, expect, it } from 'vitest';
import { chatLine, completionLine, HI, plainLines, prompts, runJsonl } from './conversations.ts';
import { jobFolder } from './job-folder.ts';

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
    await expect(folder.run({ prompt: undefined, system: 'S' } as object)).rejects.toThrow(
      /a CSV needs a prompt, such as .* or --user "\{\{id\}\}"/,
    );
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

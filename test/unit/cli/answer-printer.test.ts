import { describe, expect, it } from 'vitest';
import { jsonPrinter, streamPrinter, textPrinter, type AnswerPrinter } from '../../../src/cli/answer-printer.ts';
import type { GenerationEvent, GenerationResult } from '../../../src/requests.ts';
import { RequestError } from '../../../src/util/errors.ts';

function capture() {
  const text = { out: '', err: '' };
  const output = { out: (more: string) => void (text.out += more), err: (more: string) => void (text.err += more) };
  return { text, output };
}

function show(printer: AnswerPrinter, events: readonly GenerationEvent[]): void {
  for (const event of events) printer(event);
}

const token = (index: number, id: number, text: string): GenerationEvent => ({ type: 'token', index, id, text });
const failed = (index: number): GenerationEvent => ({ type: 'failed', index, error: new RequestError('too\nlong') });
function finished(index: number, text: string, more: Partial<GenerationResult> = {}): GenerationEvent {
  return { type: 'finished', index, result: { index, text, tokenIds: [7, 8], finishReason: 'stop', promptTokenIds: [1, 2, 3], ...more } };
}

describe('a single answer', () => {
  it('grows, and ends with what was held back', () => {
    const { text, output } = capture();
    const printer = streamPrinter(output, false);
    show(printer, [token(0, 7, 'so'), token(0, 8, '')]);
    expect(text.out).toBe('so');
    show(printer, [finished(0, 'so long')]);
    expect(text.out).toBe('so long\n');
  });

  it('may be token ids', () => {
    const { text, output } = capture();
    show(streamPrinter(output, true), [token(0, 7, ''), token(0, 8, ''), finished(0, '')]);
    expect(text.out).toBe('7 8\n');
  });
});

describe('several answers', () => {
  const events = [token(1, 5, 'x'), finished(2, 'c'), finished(0, 'a'), failed(1)];

  it('are printed in the order of the prompts', () => {
    const { text, output } = capture();
    show(textPrinter(output, false), events);
    expect(text).toEqual({ out: 'a\nc\n', err: 'flexllmgen: prompt 2: too\\nlong\n' });
  });

  it('may be token ids', () => {
    const { text, output } = capture();
    show(textPrinter(output, true), [finished(0, 'a')]);
    expect(text.out).toBe('7 8\n');
  });

  it('are a line of JSON each, the failed ones included', () => {
    const { text, output } = capture();
    const prompts = new Map<number, string>([
      [0, 'A'],
      [1, 'B'],
      [2, 'C'],
    ]);
    const logprobs = [{ id: 7, logprob: -1, top: [{ id: 8, logprob: -0.5 }] }];
    const printer = jsonPrinter(output, { prompts, tokenText: (id) => `<${id}>`, withTokenIds: true });
    show(printer, [finished(2, 'c', { logprobs }), finished(0, 'a'), failed(1)]);
    const lines = text.out.trimEnd().split('\n');
    const common = { tokenIds: [7, 8], finishReason: 'stop', promptTokens: 3, generatedTokens: 2 };
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { index: 0, prompt: 'A', text: 'a', ...common },
      { index: 1, prompt: 'B', error: { code: 'request', message: 'too\nlong' } },
      {
        index: 2,
        prompt: 'C',
        text: 'c',
        ...common,
        logprobs: [{ id: 7, text: '<7>', logprob: -1, top: [{ id: 8, text: '<8>', logprob: -0.5 }] }],
      },
    ]);
    expect(prompts.size).toBe(0);
  });
});

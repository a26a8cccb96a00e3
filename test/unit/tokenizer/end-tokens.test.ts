import { describe, expect, it } from 'vitest';
import { endTokenIds, loadEndTokenIds } from '../../../src/tokenizer/end-tokens.ts';
import { parseTokenizer } from '../../../src/tokenizer/tokenizer.ts';
import { load, OPT } from './opt-folder.ts';

/** Ordinary token 0, then the given ones in their order. */
const tokenizerWith = (tokens: Readonly<Record<string, boolean>>) =>
  parseTokenizer(
    'tokenizer.json',
    JSON.stringify({
      added_tokens: Object.entries(tokens).map(([content, special], i) => ({
        id: i + 1,
        content,
        special,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
      })),
      decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: { type: 'BPE', vocab: { a: 0 }, merges: [] },
    }),
  );

describe('endTokenIds', () => {
  it.each<[string, Record<string, boolean>, string | undefined, number[]]>([
    ['ends of turns', { '<|im_start|>': true, '<|im_end|>': true, '<|endoftext|>': true }, undefined, [2, 3]],
    ['the named one', { '<s>': true, '</s>': true }, '</s>', [2]],
    ['no others', { '<s>': true, '</s>': true }, undefined, []],
    ['no ordinary tokens', { '<|im_end|>': false }, undefined, []],
    ['the end of a message in most formats', { '<|end|>': true }, undefined, [1]],
    ['but not where turns have several', { '<|end|>': true, '<|return|>': true, '<|call|>': true }, undefined, [2, 3]],
  ])('takes %s', async (_what, tokens, eos, expected) => {
    expect(endTokenIds(await tokenizerWith(tokens), eos)).toEqual(expected);
  });

  it('takes the end token that the settings of a folder name', async () => {
    expect(await loadEndTokenIds(OPT, await load(OPT))).toEqual([2]);
  });
});

/** Rows on the kernels against the reference in TypeScript: the same ids and the same bits of log-probabilities, on every instruction set. */
import { afterAll, describe, expect, it } from 'vitest';
import type { Kernels, Team } from '../../src/native/kernels.ts';
import { NativeRows } from '../../src/sampling/native-rows.ts';
import { TokenCounts } from '../../src/sampling/penalties.ts';
import { uniform } from '../../src/sampling/random.ts';
import { type LogitsRow, type TakenRow, takenOrError } from '../../src/sampling/rows.ts';
import type { ChoiceParams } from '../../src/sampling/sampler.ts';
import { availableKernels } from '../helpers/kernels.ts';
import { bitSet, randomLogits } from '../unit/sampling/naive.ts';

const OFF: ChoiceParams = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 11,
};
const GREEDY = { ...OFF, temperature: 0 };

/** Vocabularies around the edges of blocks and vectors, and of models; how many rows of each. */
const SIZES = [
  [1, 40],
  [7, 400],
  [8, 100],
  [255, 100],
  [256, 100],
  [257, 100],
  [1000, 1500],
  [50_272, 60],
  [152_064, 30],
] as const;

const pick = <T>(values: readonly T[], u: number): T => values[Math.floor(u * values.length)]!;

/** The `i`-th row of a vocabulary: parameters, ties, ruled out tokens, masks and penalties by chance, of which each row has its own. */
function randomRow(vocabulary: number, i: number): LogitsRow {
  let draws = 0;
  const chance = (): number => uniform(vocabulary, i, draws++);
  const params: ChoiceParams = {
    temperature: pick([0, 1e-3, 0.3, 0.7, 1, 1, 1, 2.5, 10, 100], chance()),
    topK: pick([0, 0, 0, 1, 2, 5, 50, 300, vocabulary - 1, vocabulary, 1e6], chance()),
    topP: pick([1, 1, 0.9, 0.5, 1e-12, 0.999, 1 - 1e-12, 0.1], chance()),
    minP: pick([0, 0, 0, 0.01, 0.3, 1], chance()),
    repetitionPenalty: pick([1, 1, 1.3, 0.8], chance()),
    presencePenalty: pick([0, 0, 0.7, -1], chance()),
    frequencyPenalty: pick([0, 0, 0.1, -0.2], chance()),
    seed: i,
  };
  const logits = randomLogits(vocabulary, pick([0, 0.1, 3, 3, 20], chance()), i, chance() < 0.3);
  if (chance() < 0.3) for (let id = 0; id < vocabulary - 1; id += 3) logits[id] = -Infinity;
  if (chance() < 0.1) logits.fill(-0, 0, vocabulary >> 1);
  const one = Math.floor(chance() * vocabulary);
  const mask = pick([undefined, undefined, undefined, (id: number) => id % 5 !== 2, (id: number) => id === one], chance());
  const tokens = new TokenCounts(Int32Array.from({ length: 20 }, () => Math.floor(chance() ** 2 * vocabulary)));
  for (let n = 0; n < 20; n++) tokens.add(Math.floor(chance() ** 2 * vocabulary));
  return {
    logits,
    params,
    place: { key: i, position: 5 },
    mask: mask && bitSet(vocabulary, mask),
    tokens,
    known: chance() < 0.1 ? one : undefined,
    alternatives: pick([undefined, undefined, 0, 5, 20], chance()),
  };
}

const rowsOf = (vocabulary: number, count: number): LogitsRow[] => Array.from({ length: count }, (_, i) => randomRow(vocabulary, i));

/** Errors by their message. */
const plain = (result: TakenRow | Error): unknown => (result instanceof Error ? `${result.name}: ${result.message}` : result);

/** The reference takes longer than all kernels together. */
const expectations = new Map<number, { readonly rows: readonly LogitsRow[]; readonly results: readonly unknown[] }>();
function expected(vocabulary: number, count: number): { readonly rows: readonly LogitsRow[]; readonly results: readonly unknown[] } {
  const known = expectations.get(vocabulary);
  if (known) return known;
  const rows = rowsOf(vocabulary, count);
  const made = { rows, results: rows.map((row) => plain(takenOrError(row))) };
  expectations.set(vocabulary, made);
  return made;
}

describe.each(availableKernels())('sampling on kernels %s', (_isa, kernels: Kernels) => {
  const teams = [1, 2, 3].map((threads): [number, Team] => [threads, kernels.teamCreate(threads)!]);
  const [, team] = teams[1]!;
  const native = new NativeRows();
  afterAll(() => {
    for (const [, each] of teams) kernels.teamFree(each);
  });
  const take = async (rows: readonly LogitsRow[], on = team): Promise<unknown[]> => (await native.take(kernels, on, rows)).map(plain);

  it.each(SIZES)('equals the reference: vocabulary of %d, %d rows', { timeout: 120_000 }, async (vocabulary, count) => {
    const { rows, results } = expected(vocabulary, count);
    for (const [threads, each] of teams) expect(await take(rows, each), `${threads} threads`).toEqual(results);
    expect(await take(rows.toReversed()), 'in another order').toEqual(results.toReversed());
    for (const i of [0, count >> 1]) expect(await take([rows[i]!]), 'alone').toEqual([results[i]]);
  });

  it('equals the reference wherever the random number falls', async () => {
    const logits = randomLogits(3000, 2, 1);
    for (const params of [OFF, { ...OFF, temperature: 0.9, topP: 0.95 }, { ...OFF, topK: 40, minP: 0.02 }]) {
      const rows = Array.from({ length: 2000 }, (_, position): LogitsRow => ({ logits, params, place: { key: 1, position } }));
      expect(await take(rows)).toEqual(rows.map((row) => plain(takenOrError(row))));
    }
  });

  it.each<[string, number, number | undefined]>([
    ['NaN', NaN, undefined],
    ['Infinity', Infinity, undefined],
    ['NaN where it is not allowed', NaN, 3],
    ['Infinity where it is not allowed', Infinity, 3],
  ])('refuses %s wherever it is, as the reference does, and no other row', async (_what, bad, allowed) => {
    for (const size of [7, 300, 1024]) {
      const good = randomLogits(size, 2, size);
      for (const at of [0, 5, size >> 1, size - 1]) {
        const logits = Float32Array.from(good);
        logits[at] = bad;
        if (bad !== bad && at === 5) new Uint32Array(logits.buffer)[at] = 0xffc00001; // with a sign
        const mask = allowed === undefined ? undefined : bitSet(size, (id) => id === allowed);
        for (const params of [GREEDY, OFF, { ...OFF, topK: 3, topP: 0.5 }]) {
          const rows: LogitsRow[] = [good, logits, good].map((each) => ({
            logits: each,
            params,
            place: { key: 1, position: 1 },
            mask,
            alternatives: 2,
          }));
          const results = await native.take(kernels, team, rows);
          expect(results.map((one) => one instanceof Error)).toEqual([false, true, false]);
          expect(results.map(plain)).toEqual(rows.map((row) => plain(takenOrError(row))));
          expect(plain(results[1]!)).toBe(`NumericError: logit of token ${at} is ${bad}`);
        }
      }
    }
  });

  it('refuses masks that leave nothing, and logits that are all -Infinity', async () => {
    const logits = randomLogits(300, 2, 1);
    logits[3] = -Infinity;
    const place = { key: 1, position: 1 };
    const masks = [new Uint32Array(0), new Uint32Array(10), bitSet(300, (id) => id === 3), undefined];
    const rows = masks.map((mask): LogitsRow => ({
      logits: mask ? logits : new Float32Array(300).fill(-Infinity),
      params: OFF,
      place,
      mask,
    }));
    const results = await take(rows);
    expect(results).toEqual(rows.map((row) => plain(takenOrError(row))));
    expect(results[0]).toMatch(/the mask allows none of the 300 tokens/);
    expect(results[2]).toMatch(/allows 1 of 300 tokens, and the model gives each of them probability 0/);
    expect(results[3]).toBe('NumericError: all 300 logits are -Infinity');
  });

  it('leaves logits and masks as they are', async () => {
    const { rows } = expected(1000, 1500);
    const some = rows.filter(({ mask }) => mask).slice(0, 20);
    const copies = some.map(({ logits, mask }) => [logits.slice(), mask!.slice()]);
    await take(some);
    expect(some.map(({ logits, mask }) => [logits, mask])).toEqual(copies);
  });

  it('has nothing to do for no rows', async () => expect(await take([])).toEqual([]));
});

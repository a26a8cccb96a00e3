import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createPlan, type ExecutionPlan } from '../../../src/engine/execution-plan.ts';
import { checkPlan } from '../../../src/engine/given-plan.ts';
import { checkPlanPlace, parsePlan, readPlan, writePlan } from '../../../src/engine/plan-file.ts';
import { FormatError, MemoryError, UsageError } from '../../../src/util/errors.ts';
import { placeWeights } from '../../helpers/hundred-layers.ts';
import { tinyModel } from '../../helpers/tiny-engine.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

const model = tinyModel();
const room = { kvType: 'f32', weightBytes: 100e6, placeWeights, budgetBytes: 60e6 } as const;
const plan = createPlan(model, { ...room, gpuBatchSize: 4, numGpuBatches: 2 });
const copy = (): Record<string, unknown> => JSON.parse(JSON.stringify(plan)) as Record<string, unknown>;

describe('a plan as JSON', () => {
  it('comes back from its file as it was, over a former one', async () => {
    await using folder = await makeTemporaryFolder();
    const path = join(folder.path, 'plan.json');
    for (const each of [createPlan(model, room), plan]) {
      await checkPlanPlace(path);
      await writePlan(path, each);
      expect(await readPlan(path)).toEqual(each);
    }
    expect(JSON.parse(readFileSync(path, 'utf8'))).toEqual(plan);
  });

  it('is dense where it comes from before there was sparse attention', () => {
    expect(parsePlan('p.json', { ...copy(), attnSparsity: undefined })).toEqual(plan);
    expect(parsePlan('p.json', { ...copy(), attnSparsity: 0.1 })).toEqual({ ...plan, attnSparsity: 0.1 });
  });

  it('keeps nothing that a plan has not', () => {
    const parsed = parsePlan('p.json', { ...copy(), __proto__: { x: 1 }, other: 'x' });
    expect(parsed).toEqual(plan);
    expect(Object.isFrozen(parsed.kvPages) && Object.isFrozen(parsed.bytes)).toBe(true);
  });

  it.each<[string, unknown, string]>([
    ['no object', [1], 'the plan: an object expected, got [1]'],
    ['nothing', {}, 'weights: an object expected, got nothing'],
    ['an unknown cache type', { ...copy(), kvType: 'f8' }, 'kvType: one of f32, f16, bf16, q8_0, q4_0, q4_1, g4 expected, got "f8"'],
    ['no values at all', { ...copy(), attnSparsity: 0 }, 'attnSparsity: a number in (0, 1] expected, got 0'],
    ['no rows', { ...copy(), gpuBatchSize: 0 }, 'gpuBatchSize: a whole number from 1 to 2147483647 expected, got 0'],
    ['half a batch', { ...copy(), numGpuBatches: 1.5 }, 'numGpuBatches: a whole number from 1 to 2147483647 expected, got 1.5'],
    ['too many tokens', { ...copy(), batchTokens: 1e300 }, 'batchTokens'],
    ['text for a number', { ...copy(), headRows: '128' }, 'headRows'],
    ['pages that are no list', { ...copy(), kvPages: { length: 1 } }, 'kvPages: a list of at most 1024 numbers expected, got {"length":1}'],
    ['endless pages', { ...copy(), kvPages: Array.from({ length: 2000 }, () => 1) }, 'kvPages: a list'],
    ['pages below none', { ...copy(), kvPages: [-1] }, 'kvPages[0]'],
    [
      'more than all weights',
      { ...copy(), weights: { ...plan.weights, share: 1.1 } },
      'weights.share: a number from 0 to 1 expected, got 1.1',
    ],
    ['bytes that are missing', { ...copy(), bytes: { ...plan.bytes, kv: undefined } }, 'bytes.kv: a whole number'],
    ['a long value', { ...copy(), kvType: 'x'.repeat(1e5) }, `got "${'x'.repeat(39)}`],
  ])('is refused with %s', (_what, value, message) => {
    const parse = () => parsePlan('p.json', value);
    expect(parse).toThrow(FormatError);
    expect(parse).toThrow(`p.json: no plan: `);
    expect(parse).toThrow(message);
    expect(() => parse()).not.toThrow('x'.repeat(41));
  });

  it('may be of a time when log-probabilities were not counted', () => {
    const { results, ...others } = plan.bytes;
    expect(results).toBe(0);
    expect(parsePlan('p.json', { ...copy(), bytes: others })).toEqual(plan);
  });

  it('is not read from a file that is too long, and not written over another file', async () => {
    await using folder = await makeTemporaryFolder();
    const path = join(folder.path, 'rows.jsonl');
    writeFileSync(path, `{"a":"${'x'.repeat(1e5)}"}\n`);
    await expect(readPlan(path)).rejects.toThrow(/at most 65536/);
    await expect(checkPlanPlace(path)).rejects.toThrow(UsageError);
    await expect(checkPlanPlace(folder.path)).rejects.toThrow(UsageError);
    await expect(checkPlanPlace(join(folder.path, 'none', 'p.json'))).rejects.toThrow(/cannot be written to/);
    writeFileSync(path, '');
    await expect(checkPlanPlace(path)).resolves.toBeUndefined();
  });
});

describe('checkPlan', () => {
  it('takes the plan where it was made, with the memory of the program as it is now', () => {
    expect(checkPlan(model, plan, room)).toEqual(plan);
    const { bytes } = checkPlan(model, plan, { ...room, budgetBytes: 1e9, programBytes: 5e6 });
    expect(bytes).toEqual({ ...plan.bytes, program: 5e6, total: plan.bytes.total + 5e6 });
    const small = { ...room, budgetBytes: plan.bytes.total - 5 };
    expect(checkPlan(model, plan, { ...small, slackBytes: 5 })).toEqual(plan);
    expect(() => checkPlan(model, plan, { ...small, slackBytes: 4 })).toThrow(/may be used/);
    const whole = createPlan(model, { ...room, budgetBytes: 1e9 });
    expect(checkPlan(model, whole, { ...room, placeWeights: undefined, budgetBytes: 1e9 })).toEqual(whole);
  });

  it.each<[string, Partial<ExecutionPlan>, object, string]>([
    ['other rows asked for', {}, { gpuBatchSize: 8 }, 'plan: gpuBatchSize: 8 expected for this model, device and flags, got 4'],
    ['other batches asked for', {}, { numGpuBatches: 1 }, 'numGpuBatches: 1 expected'],
    ['another sparsity', {}, { attnSparsity: 0.1 }, 'attnSparsity: 0.1 expected for this model, device and flags, got 1'],
    ['another cache type', {}, { kvType: 'f16' }, 'kvType: f16 expected for this model, device and flags, got f32'],
    ['another share asked for', {}, { weightShare: 0.001 }, 'weights.share: 0.001 expected'],
    ['more rows than tokens', { batchTokens: 3 }, {}, 'batchTokens: at least gpuBatchSize, 4, expected'],
    ['pages of other layers', { kvPages: [9, 9] }, {}, 'kvPages: numbers of 1 groups of layers expected'],
    ['more pages than bytes', { kvPages: [1e9] }, {}, 'bytes.kv'],
    ['too few pages', { kvPages: [5] }, { cachePositions: 6 * 64 }, 'kvPages: at least 6 for 384 positions expected'],
    ['one slot', { weights: { ...plan.weights, slots: 1 } }, {}, 'weights.slots: at least 2 expected'],
    ['slots without need', { weights: { share: 1, slots: 3, streamedBytes: 0 } }, {}, 'weights.slots: 0 expected'],
    ['another share than its bytes', { weights: { ...plan.weights, share: 0.3 } }, {}, 'weights.streamedBytes: 70000000 expected'],
    ['a device that streams nothing', {}, { placeWeights: undefined }, 'weights.share: 1 (the device keeps all weights in memory)'],
    ['another model', {}, { placeWeights: (share: number) => ({ ...placeWeights(share), residentBytes: 5 }) }, 'bytes.weights: 5 expected'],
    ['other buffers', {}, { stagingBytes: 7 }, 'bytes.staging: 7 expected for this model, device and flags, got 0'],
    ['less memory', {}, { budgetBytes: 30e6 }, 'at most 30.0 MB may be used'],
  ])('refuses %s', (_what, change, options, message) => {
    const check = () => checkPlan(model, { ...plan, ...change }, { ...room, ...options });
    expect(check).toThrow(UsageError);
    expect(check).toThrow(message);
  });
});

describe('createPlan, for so many positions', () => {
  const options = { kvType: 'f32', weightBytes: 1000, gpuBatchSize: 64 } as const;
  const page = 2 * 2 * 64 * 16 * 4;
  const { bytes } = createPlan(model, { ...options, budgetBytes: 1e9 });
  const fixed = bytes.total - bytes.kv;

  it('gives the cache more than its share, and refuses with the numbers', () => {
    const budgetBytes = fixed + 41 * page;
    expect(createPlan(model, { ...options, budgetBytes }).kvPages).toEqual([19]);
    expect(createPlan(model, { ...options, budgetBytes, cachePositions: 40 * 64 }).kvPages).toEqual([40]);
    const tooMany = () => createPlan(model, { ...options, budgetBytes, cachePositions: 41 * 64 });
    expect(tooMany).toThrow(MemoryError);
    expect(tooMany).toThrow(/KV cache of 2624 positions/);
  });
});

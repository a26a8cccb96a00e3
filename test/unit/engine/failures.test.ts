import { describe, expect, it } from 'vitest';
import type { EngineInput } from '../../../src/engine/sweep-outcome.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { collect, makeRequest, openTiny, runAll, type TinyEngine } from '../../helpers/tiny-engine.ts';
import { watchedDevice } from '../../helpers/watched-device.ts';

const isFree = ({ cache }: TinyEngine): boolean => cache.availablePages === cache.capacityPages;
const requests = (count: number) => Array.from({ length: count }, (_, id) => makeRequest(id, { tokens: 5, maxTokens: 30 }));

describe('a run that ends early gives all pages back', () => {
  it('aborted within a sweep: no further layer runs', async () => {
    const controller = new AbortController();
    const ran: string[] = [];
    const device = watchedDevice(({ name }) => {
      ran.push(name);
      if (ran.length === 6) controller.abort(new Error('enough'));
    });
    await using tiny = openTiny({ device, gpuBatchSize: 2, numGpuBatches: 2 });
    await expect(collect(tiny.engine.run(requests(8), controller.signal))).rejects.toThrow('enough');
    expect(ran).toEqual(['embed', 'embed', 'layer 0', 'layer 0', 'layer 1', 'layer 1']);
    expect(isFree(tiny)).toBe(true);
    expect((await runAll(tiny.engine, requests(2))).size).toBe(2);
  });

  it('aborted before it begins', async () => {
    await using tiny = openTiny();
    await expect(collect(tiny.engine.run(requests(2), AbortSignal.abort(new Error('never'))))).rejects.toThrow('never');
    expect(isFree(tiny)).toBe(true);
  });

  it('aborted while it waits for a source that does not answer', async () => {
    await using tiny = openTiny();
    const controller = new AbortController();
    const source: AsyncIterable<EngineInput> = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) };
    setTimeout(() => controller.abort(new Error('enough')), 5);
    await expect(collect(tiny.engine.run(source, controller.signal))).rejects.toThrow('enough');
    expect((await runAll(tiny.engine, requests(1))).size).toBe(1);
  });

  it('left by its consumer, who closes the source by that', async () => {
    await using tiny = openTiny();
    const log: string[] = [];
    function* source() {
      try {
        yield* requests(100);
      } finally {
        log.push('closed');
      }
    }
    for await (const { running } of tiny.engine.run(source())) {
      log.push(`${running} running`);
      break;
    }
    expect(log).toEqual(['4 running', 'closed']);
    expect(isFree(tiny)).toBe(true);
  });

  it.each([
    ['at once', 0],
    ['while sequences run', 2],
  ])('when its source fails %s', async (_what, count) => {
    async function* source() {
      yield* requests(count);
      throw new Error('disk on fire');
    }
    await using tiny = openTiny();
    await expect(collect(tiny.engine.run(source()))).rejects.toThrow('disk on fire');
    expect(isFree(tiny)).toBe(true);
    expect((await runAll(tiny.engine, requests(1))).size).toBe(1);
  });

  it('when the device fails', async () => {
    let runs = 0;
    const device = watchedDevice(() => {
      if (++runs === 9) throw new Error('device on fire');
    });
    await using tiny = openTiny({ device });
    await expect(collect(tiny.engine.run(requests(3)))).rejects.toThrow('device on fire');
    expect(isFree(tiny)).toBe(true);
    expect((await runAll(tiny.engine, requests(1))).size).toBe(1);
  });

  it('and after it everything else is freed too', async () => {
    const device = createReferenceDevice();
    const tiny = openTiny({ device });
    await tiny.engine.run(requests(3)).next();
    await tiny.engine.idle();
    await tiny[Symbol.asyncDispose]();
    expect(device.memory().usedBytes).toBe(0);
  });
});

describe('a slow source', () => {
  it('does not hold up what runs', async () => {
    await using tiny = openTiny();
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    async function* source() {
      yield makeRequest(0, { maxTokens: 5 });
      await gate;
      yield makeRequest(1, { maxTokens: 2 });
    }
    const finished: number[] = [];
    for await (const outcome of tiny.engine.run(source())) {
      finished.push(...outcome.finished.map(({ id }) => id));
      if (finished.length === 1) release();
    }
    expect(finished).toEqual([0, 1]);
  });

  it('is pulled from only as room appears', async () => {
    await using tiny = openTiny({ gpuBatchSize: 2 });
    let pulled = 0;
    function* source() {
      for (const request of requests(10)) {
        pulled++;
        yield { ...request, sampling: { ...request.sampling, maxTokens: 2 } };
      }
    }
    const seen: number[] = [];
    for await (const _outcome of tiny.engine.run(source())) seen.push(pulled);
    expect(seen).toEqual([2, 2, 4, 4, 6, 6, 8, 8, 10, 10]);
  });
});

/** Weights that are read anew for every sweep, from sources that fail and wait, and runs that are stopped. */
import { describe, expect, it } from 'vitest';
import type { Device } from '../../../src/tensor/device.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { FormatError } from '../../../src/util/errors.ts';
import type { WeightSource } from '../../../src/weights/weight-source.ts';
import { randomNumbers } from '../../helpers/tensors.ts';
import {
  collect,
  deeperModel,
  livelyWeights,
  makeRequest,
  openTiny,
  resultsOf,
  type TinyOptions,
  type PlainResult,
} from '../../helpers/tiny-engine.ts';
import { watchedDevice } from '../../helpers/watched-device.ts';

const CASES = 200;
/** Far more than a case takes. */
const HANGS_MS = 5000;
const UNREADABLE = /^weights\.bin: tensor "[\w.]+" cannot be read$/;

const model = () => deeperModel(64);

interface Faults {
  /** Called for every read of a matrix, with how many there were before; a promise is waited for. */
  readonly onRead: (count: number, name: string) => unknown;
}

/** Made once: its numbers take longer than a case. */
const sound = livelyWeights();

function faultyWeights({ onRead }: Faults): WeightSource {
  let count = 0;
  return {
    find: (spec, layer) => {
      const weight = sound.find(spec, layer);
      const read = async (first: number, target: Uint8Array): Promise<void> => {
        if (spec.role !== 'vector') await onRead(count++, spec.name);
        await weight.read(first, target);
      };
      return { dtype: weight.dtype, read };
    },
  };
}

const requests = (count = 3) => Array.from({ length: count }, (_, id) => makeRequest(id, { tokens: 2 + id, maxTokens: 2, logprobs: 1 }));

const isClear = (got: unknown): boolean => got instanceof FormatError && UNREADABLE.test(got.message);

type Results = Map<number, PlainResult>;

/** `options` of a case: anything that does not change results. */
function randomOptions(next: () => number): TinyOptions {
  const below = (n: number): number => Math.floor(next() * n);
  return {
    model: model(),
    weightShare: [0, 0.2, 0.5, 0.8][below(4)]!,
    slots: 2 + below(3),
    gpuBatchSize: 1 + below(3),
    numGpuBatches: 1 + below(2),
    overlap: next() < 0.6,
    batchTokens: [3, 5, 64][below(3)]!,
    sweepChunks: 1 + below(2),
  };
}

function numbersOf(seed: number): () => number {
  const numbers = randomNumbers(seed, 400).values();
  return () => (numbers.next().value! + 1) / 2;
}

async function inTime<T>(what: string, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} hangs`)), HANGS_MS);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** Waits in some reads, so that they end in other orders. */
const pause = (next: () => number): unknown =>
  next() < 0.3 ? new Promise<void>((resolve) => (next() < 0.1 ? setTimeout(resolve, 2) : setImmediate(resolve))) : undefined;

async function undisturbed(): Promise<Results> {
  await using tiny = openTiny({ model: model(), weights: sound });
  return resultsOf(await collect(tiny.engine.run(requests())));
}

/** @returns the error of a case, or its results */
async function runFaulty(seed: number, device: Device): Promise<Results | Error> {
  const next = numbersOf(seed);
  const failsAt = Math.floor(next() * 160);
  const onRead = (count: number, name: string): unknown => {
    if (count >= failsAt) throw new FormatError('weights.bin', `tensor "${name}" cannot be read`, { tensor: name });
    return pause(next);
  };
  await using tiny = openTiny({ ...randomOptions(next), device, weights: faultyWeights({ onRead }) });
  const run = (): Promise<Results | Error> => collect(tiny.engine.run(requests())).then(resultsOf, (cause: Error) => cause);
  const got = await run();
  // Whoever asks again is told so again.
  const again = got instanceof Error ? await run() : got;
  expect(isClear(again)).toBe(isClear(got));
  return got;
}

describe('weights in passing', () => {
  it(`that cannot be read end the run with one clear error, or never, in ${CASES} random cases`, { timeout: 60_000 }, async () => {
    const wanted = await undisturbed();
    let failures = 0;
    for (let seed = 1; seed <= CASES; seed++) {
      const device = createReferenceDevice();
      const got = await inTime(`case ${seed}`, runFaulty(seed, device));
      expect(isClear(got) ? wanted : got, `case ${seed}`).toEqual(wanted);
      expect(device.memory().usedBytes, `case ${seed}`).toBe(0);
      failures += isClear(got) ? 1 : 0;
    }
    expect(failures).toBeGreaterThan(CASES / 4);
    expect(failures).toBeLessThan(CASES);
  });

  it('stopped at any time, let later runs of the same engine get everything right', { timeout: 60_000 }, async () => {
    const wanted = await undisturbed();
    let stops = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const next = numbersOf(1000 + seed);
      let controller = new AbortController();
      let stopsAt = Math.floor(next() * 80);
      const onRead = (): unknown => {
        if (--stopsAt === 0) controller.abort(new Error('enough'));
        return pause(next);
      };
      const device = createReferenceDevice();
      const tiny = openTiny({ ...randomOptions(next), device, weights: faultyWeights({ onRead }) });
      for (let run = 0; run < 3; run++) {
        const ended = collect(tiny.engine.run(requests(), controller.signal)).then(resultsOf, (cause: Error) => cause.message);
        const got = await inTime(`case ${seed}`, ended);
        if (got === 'enough') stops++;
        expect(got === 'enough' ? wanted : got, `case ${seed}, run ${run}`).toEqual(wanted);
        controller = new AbortController();
        stopsAt = run === 0 ? Math.floor(next() * 80) : 0;
      }
      await tiny[Symbol.asyncDispose]();
      expect(device.memory().usedBytes).toBe(0);
    }
    expect(stops).toBeGreaterThan(20);
  });

  it('stopped while a layer computes, run no further layer', async () => {
    const controller = new AbortController();
    const ran: string[] = [];
    const device = watchedDevice(({ name }) => {
      ran.push(name);
      if (ran.length === 4) controller.abort(new Error('enough'));
    });
    await using tiny = openTiny({ model: model(), weights: sound, device, weightShare: 0, slots: 2 });
    await expect(collect(tiny.engine.run(requests(), controller.signal))).rejects.toThrow('enough');
    expect(ran).toEqual(['embed', 'layer 0', 'layer 1', 'layer 2']);
    expect(resultsOf(await collect(tiny.engine.run(requests())))).toEqual(await undisturbed());
  });
});

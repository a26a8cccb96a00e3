/** Whatever the model, the plan and the rows: nothing is read before it is there, and everything happens as early as the rules allow. */
import { describe, expect, it } from 'vitest';
import { layerGroups } from '../../../src/kv/layer-groups.ts';
import { attentionWindows } from '../../../src/models/model.ts';
import { SimulatedClock, SimulatedLane } from '../../../src/util/simulated-clock.ts';
import type { WeightPlacement, WeightRows } from '../../../src/weights/placement.ts';
import { simulatedWeights } from '../../../src/weights/simulated-weights.ts';
import type { WeightSource } from '../../../src/weights/weight-source.ts';
import { criticalPath, type LayerPieces, type RunFacts, type Span } from '../../helpers/critical-path.ts';
import { placementOf, plannedBytes, randomRun, type RandomRun } from '../../helpers/random-run.ts';
import { type ComputeEvent, makeSymbolicDevice, type SymbolicDevice } from '../../helpers/symbolic-device.ts';
import { collect, openTiny, resultsOf, type PlainResult } from '../../helpers/tiny-engine.ts';

const CASES = 500;
/** What the uploader reads at once. */
const PIECE_BYTES = 4 << 20;
/** The same sums in another order. */
const TOLERANCE = 1e-9;

const noContents: WeightSource = { find: () => ({ dtype: 'f32', read: async () => {} }) };

interface Outcome {
  readonly results: Map<number, PlainResult>;
  readonly device: SymbolicDevice;
  /** When the last row was done. */
  readonly seconds: number;
}

async function simulate({ model, sizes, homes, requests, rates }: RandomRun): Promise<Outcome> {
  const clock = new SimulatedClock();
  const device = makeSymbolicDevice({ ...rates, clock });
  const disk = { lane: new SimulatedLane(clock, rates.diskPlaces), bytesPerSecond: rates.diskBytesPerSecond };
  const tiny = openTiny({ ...sizes, ...homes, model, device, weights: device.watch(simulatedWeights(noContents, disk)) });
  const run = async (): Promise<Outcome> => {
    await clock.sleep(rates.beginBytes / rates.diskBytesPerSecond);
    const results = resultsOf(await collect(tiny.engine.run(requests)));
    return { results, device, seconds: clock.now };
  };
  const outcome = await clock.run(run());
  expect(tiny.cache.availablePages, 'pages that came back').toBe(tiny.cache.capacityPages);
  await clock.run(tiny[Symbol.asyncDispose]());
  expect(device.memory().usedBytes, 'bytes that were not freed').toBe(0);
  return outcome;
}

/** The same rows with all weights in memory and room for everything: one sweep computes all prompts whole, and nobody waits or shares. */
async function undisturbed({ model, requests, rates }: RandomRun): Promise<Map<number, PlainResult>> {
  const device = makeSymbolicDevice(rates);
  await using tiny = openTiny({
    model,
    device,
    weights: device.watch(noContents),
    gpuBatchSize: requests.length,
    batchTokens: 8192,
    headRows: 64,
    kvPages: layerGroups(attentionWindows(model)).map(() => 256),
    sharePrefixes: false,
    reserveAll: true,
  });
  return resultsOf(await collect(tiny.engine.run(requests)));
}

/** What the rules need to know of a run: how long everything takes, and in which slot a layer is. */
function factsOf({ model, homes, rates }: RandomRun, placement: WeightPlacement, device: SymbolicDevice): RunFacts {
  const known = new Set<WeightRows>();
  const secondsOf = (rows: readonly WeightRows[]): number[] =>
    rows.flatMap((each) => {
      if (known.has(each)) return []; // another layer uses it as well
      known.add(each);
      return piecesOf(each).map((bytes) => (each.weight.spec.values ? 0 : bytes / rates.diskBytesPerSecond));
    });
  const passing = device.reads.filter(({ arena }) => arena.startsWith('weights in passing'));
  const layers = placement.layers.map(({ resident, streamed }): LayerPieces => {
    const pieces = { stays: secondsOf(resident), passes: secondsOf(streamed) };
    // In the order of the layers: the first reading of each is next.
    return { ...pieces, slot: pieces.passes.length > 0 ? passing.splice(0, pieces.passes.length)[0]!.arena : undefined };
  });
  return {
    layers,
    sweeps: sweepsOf(
      device.computes,
      model.layers.map(({ name }) => name),
    ),
    begin: rates.beginBytes / rates.diskBytesPerSecond,
    diskPlaces: rates.diskPlaces,
    overlap: homes.overlap,
  };
}

const piecesOf = ({ byteLength }: WeightRows): number[] =>
  Array.from({ length: Math.ceil(byteLength / PIECE_BYTES) }, (_, i) => Math.min(PIECE_BYTES, byteLength - i * PIECE_BYTES));

/** Seconds by sweep, layer and run. */
function sweepsOf(computes: readonly ComputeEvent[], names: readonly string[]): number[][][] {
  const sweeps: number[][][] = [];
  let last = Infinity;
  for (const { program, seconds } of computes) {
    const layer = names.indexOf(program);
    if (layer < last) sweeps.push(names.map(() => []));
    sweeps.at(-1)![layer]!.push(seconds);
    last = layer;
  }
  return sweeps;
}

function expectSpans(what: string, got: readonly Span[], wanted: readonly Span[]): void {
  expect({ what, count: got.length }).toEqual({ what, count: wanted.length });
  const differs = (a: number, b: number): boolean => Math.abs(a - b) > TOLERANCE * Math.max(a, b);
  const at = got.findIndex(({ begin, end }, i) => differs(begin, wanted[i]!.begin) || differs(end, wanted[i]!.end));
  if (at >= 0) expect({ what, at, ...got[at] }).toEqual({ what, at, ...wanted[at] });
}

function expectMemory(run: RandomRun, placement: WeightPlacement, { peaks }: SymbolicDevice): void {
  const planned = plannedBytes(run, placement);
  const peak = (...names: string[]): number => names.reduce((sum, name) => sum + (peaks.get(name) ?? 0), 0);
  const { weights, kv, hidden, logits } = planned;
  expect({ weights: peak('weights'), kv: peak('keys', 'values'), hidden: peak('hidden'), logits: peak('logits') }).toEqual({
    weights,
    kv,
    hidden,
    logits,
  });
  // Less where few layers pass: some slots are not needed.
  expect(peak('weights in passing')).toBeLessThanOrEqual(planned.ring);
  expect(peak('outputs'), 'rows that pass the head').toBeLessThanOrEqual(planned.scratch);
}

/** Tokens that went through the model more often than once. */
function repeatedTokens({ results, device }: Outcome): number {
  const needed = [...results.values()].reduce(
    (sum, { promptTokens, generated }) => sum + promptTokens + Math.max(0, generated.length - 1),
    0,
  );
  return device.computes.reduce((sum, { tokens }) => sum + tokens, 0) - needed;
}

async function check(run: RandomRun): Promise<Outcome> {
  const outcome = await simulate(run);
  const { results, device, seconds } = outcome;
  expect(results.size, 'rows that are done').toBe(run.requests.length);
  for (const { id, sampling } of run.requests) expect(results.get(id)!.generated.length, `tokens of row ${id}`).toBe(sampling.maxTokens);
  const byId = (all: Outcome['results']) => [...all].sort(([a], [b]) => a - b);
  expect(byId(results)).toEqual(byId(await undisturbed(run)));
  const placement = placementOf(run, noContents, device);
  expectMemory(run, placement, device);
  const path = criticalPath(factsOf(run, placement, device));
  expectSpans('computing', device.computes, path.computes);
  // What is read ahead for a sweep that never comes ends as soon as it may.
  const isNeeded = ({ begin, end }: Span): boolean => end > begin && begin < seconds * (1 - TOLERANCE);
  expectSpans('reading', device.reads.filter(isNeeded), path.reads.filter(isNeeded));
  expect(Math.abs(seconds - path.computes.at(-1)!.end)).toBeLessThanOrEqual(TOLERANCE * seconds);
  return outcome;
}

describe('the engine', () => {
  it(`reads, computes and frees by the rules in ${CASES} random runs`, { timeout: 300_000 }, async () => {
    let repeated = 0;
    let passing = 0;
    for (let seed = 1; seed <= CASES; seed++) {
      const run = randomRun(seed);
      const outcome = await check(run).catch((cause: unknown) => {
        const { model, sizes, homes, rates } = run;
        throw new Error(`seed ${seed}: ${JSON.stringify({ family: model.family, ...sizes, ...homes, ...rates })}`, { cause });
      });
      if (repeatedTokens(outcome) > 0) repeated++;
      if (outcome.device.peaks.has('weights in passing')) passing++;
    }
    // What the rules are about happens: rows that leave for others, weights that pass.
    expect(repeated).toBeGreaterThan(CASES / 10);
    expect(passing).toBeGreaterThan(CASES / 2);
  });
});

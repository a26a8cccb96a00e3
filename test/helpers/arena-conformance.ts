/** Tensors that take turns in one piece of memory, and memory in RAM beside a device. */
import { expect, it } from 'vitest';
import { ARENA_ALIGNMENT, type Device, type Tensor, type Weight } from '../../src/tensor/device.ts';
import { byteLengthOf, type WeightType } from '../../src/tensor/dtype.ts';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import type { Bench } from './bench.ts';
import { naiveLinear } from './naive-ops.ts';
import { differences, download, encode, floatWeights, randomNumbers, Scope, upload } from './tensors.ts';

const PAGE = ARENA_ALIGNMENT;
const pagesOf = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE;
/** 1 / 64 in f16. */
const HALF_STEP = 0x2400;

export function describeArenas(bench: Bench, makeDevice: () => Promise<Device>): void {
  describePlacing(bench, makeDevice);
  describeTurns(bench);
  describeOverlap(bench);
  describeHost(bench);
}

function describePlacing({ scope }: Bench, makeDevice: () => Promise<Device>): void {
  it('frees an arena once, with all that is placed in it, and refuses later use', async () => {
    await using device = await makeDevice();
    if (!device.reserve) throw new Error('every device can place tensors');
    const arena = device.reserve('arena', 3 * PAGE);
    const used = device.memory().usedBytes;
    expect(used).toBeGreaterThanOrEqual(3 * PAGE);
    const tensor = arena.place('t', 'f32', [2, 8], PAGE);
    device.renew!(tensor);
    await device.write(tensor, 0, encode('f32', randomNumbers(1, 16)));
    expect([...(await download(device, tensor))]).toEqual([...randomNumbers(1, 16)]);
    tensor[Symbol.dispose]();
    expect(device.memory().usedBytes).toBe(used);
    expect([...(await download(device, tensor))]).toEqual([...randomNumbers(1, 16)]);
    arena[Symbol.dispose]();
    arena[Symbol.dispose]();
    expect(device.memory().usedBytes).toBe(0);
    await expect(device.read(tensor, 0, new Uint8Array(4))).rejects.toThrow(/tensor t/);
  });

  it('refuses places between pages, and beyond the end', async () => {
    await using device = await makeDevice();
    const arena = scope.add(device.reserve!('arena', 2 * PAGE));
    for (const [columns, offset] of [
      [4, 64],
      [4, -PAGE],
      [4, 2 * PAGE],
      [PAGE / 4 + 1, PAGE],
    ] as const)
      expect(() => arena.place('t', 'f32', [1, columns], offset)).toThrow(/tensor t: bytes .* of an arena of 8192/);
    scope.close();
  });
}

interface Turn {
  readonly tensor: Tensor;
  readonly bytes: Uint8Array;
  readonly wanted: Float32Array;
  run(): Promise<Float32Array>;
}

const [ROWS, INPUTS, OUTPUTS] = [3, 96, 33];

/** A product whose weight lies in an arena, and a bias and residual that do not; compiled once. */
async function makeTurn({ device, scope }: Bench, seed: number, type: WeightType, tensor: Tensor): Promise<Turn> {
  const xs = exactNumbers(seed, ROWS * INPUTS);
  const { bytes, values } = storedNumbers(type, seed + 1, OUTPUTS * INPUTS);
  const x = await upload(device(), scope, { shape: [ROWS, INPUTS], values: xs });
  const out = scope.add(device().allocate('out', 'f32', [ROWS, OUTPUTS]));
  const weight: Weight = {
    name: 'w',
    shape: [OUTPUTS, INPUTS],
    segments: [{ from: 0, to: OUTPUTS, layout: 'gguf', home: 'disk', tensor }],
  };
  const graph = new GraphBuilder('turn', ROWS);
  graph.store(graph.linear(graph.load(x), weight), out);
  let program: ReturnType<Device['compile']> | undefined;
  return {
    tensor,
    bytes,
    wanted: Float32Array.from(naiveLinear(xs, values, { rows: ROWS, inputs: INPUTS, outputs: OUTPUTS })),
    run: async () => {
      program ??= scope.add(device().compile(graph.finish()));
      await device().run(program);
      return await download(device(), out);
    },
  };
}

/** 64ths that all types store exactly. Blocks of 32 begin with the largest, so that activations in 8 bits are exact, too. */
const exactNumbers = (seed: number, count: number): Float32Array =>
  randomNumbers(seed, count).map((value, i) => (i % 32 === 0 ? 127 : Math.round(value * 127)) / 64);

/** Such numbers as a type stores them. */
function storedNumbers(type: WeightType, seed: number, count: number): { bytes: Uint8Array; values: Float32Array } {
  const numbers = exactNumbers(seed, count);
  if (type !== 'q8_0') return { bytes: encode(type, numbers), values: numbers };
  const bytes = new Uint8Array(byteLengthOf(type, count));
  const view = new DataView(bytes.buffer);
  for (const [i, value] of numbers.entries()) {
    const block = Math.floor(i / 32) * 34;
    view.setUint16(block, HALF_STEP, true);
    view.setInt8(block + 2 + (i % 32), 64 * value);
  }
  return { bytes, values: numbers };
}

function describeTurns(bench: Bench): void {
  const { device, scope, tolerance } = bench;
  it('lets weights take turns in the same bytes, under programs that were compiled once, whatever was there before', async () => {
    const types = [...floatWeights(device()), ...(device().capabilities.weights.includes('q8_0') ? (['q8_0'] as const) : [])];
    for (const type of types) {
      const bytes = byteLengthOf(type, OUTPUTS * INPUTS);
      const padding = device().arenaRules?.paddingBytes ?? 0;
      const arena = scope.add(device().reserve!('arena', pagesOf(bytes + padding) + 2 * PAGE));
      const all = arena.byteLength / 4;
      const turns = [
        await makeTurn(bench, 1, type, arena.place('first', type, [OUTPUTS, INPUTS], 0)),
        await makeTurn(bench, 5, type, arena.place('second', type, [OUTPUTS, INPUTS], PAGE)),
      ];
      const garbage = arena.place('garbage', 'f32', [1, all], 0);
      for (const turn of [...turns, ...turns]) {
        device().renew!(garbage);
        await device().write(garbage, 0, new Uint8Array(4 * all).fill(255)); // no number in any type
        device().renew!(turn.tensor);
        await device().write(turn.tensor, 0, turn.bytes);
        await device().pack?.(turn.tensor, 1);
        const exact = device().capabilities.exactWeights.includes(type);
        const allowed = exact ? tolerance.exact : (tolerance.roundedWeights ?? tolerance.exact);
        expect(differences(await turn.run(), turn.wanted, allowed, type)).toEqual([]);
      }
    }
  });
}

function describeOverlap(bench: Bench): void {
  const { device, scope, tolerance } = bench;
  it('is written in one place while a graph reads another', async () => {
    // More than is copied at once anywhere.
    const [slot, count] = [pagesOf(4 * OUTPUTS * INPUTS), 5 * 2 ** 20];
    const arena = scope.add(device().reserve!('arena', 2 * slot + 4 * count));
    const turn = await makeTurn(bench, 1, 'f32', arena.place('weight', 'f32', [OUTPUTS, INPUTS], 0));
    device().renew!(turn.tensor);
    await device().write(turn.tensor, 0, turn.bytes);
    await turn.run();
    const other = arena.place('other', 'f32', [1, count], slot);
    device().renew!(other);
    const values = randomNumbers(1, count);
    const writing = device().write(other, 0, new Uint8Array(values.buffer));
    for (let i = 0; i < 5; i++) expect(differences(await turn.run(), turn.wanted, tolerance.exact)).toEqual([]);
    await writing;
    expect(await sameBytes(device(), other, values)).toBe(true);
  });
}

function describeHost({ device, scope }: Bench): void {
  it('keeps tensors in RAM beside it, and copies them whole and in part', async () => {
    if (!device().reserveHost) return;
    // More than is copied at once anywhere, and of an odd size.
    const count = 5 * 2 ** 20 + 3;
    const [arena, target] = [scope.add(device().reserveHost!('host', 4 * count + 2 * PAGE)), scope.add(new Scope())];
    const small = arena.place('small', 'f32', [1, 5], 0);
    const large = arena.place('large', 'f32', [1, count], PAGE);
    const values = randomNumbers(1, count);
    await device().write(small, 0, encode('f32', [1, 2, 3, 4, 5]));
    arena.view(large, 0, 4 * count).set(encode('f32', values));
    expect(await sameBytes(device(), large, values)).toBe(true);
    const own = target.add(device().allocate('own', 'f32', [1, count]));
    await device().copy(large, 0, own, 0, 4 * count);
    await device().copy(small, 4, own, 8, 12);
    values.set([2, 3, 4], 2);
    expect(await sameBytes(device(), own, values)).toBe(true);
    expect([...new Float32Array(arena.view(small, 8, 8).slice().buffer)]).toEqual([3, 4]);
    expect(() => arena.view(small, 8, 16)).toThrow(/tensor small/);
    await expect(device().copy(small, 0, own, 4 * count, 4)).rejects.toThrow(/own/);
  });
}

/** Of so many numbers, assertions would take long. */
async function sameBytes(device: Device, tensor: Tensor, wanted: Float32Array): Promise<boolean> {
  const got = new Uint8Array(tensor.byteLength);
  await device.read(tensor, 0, got);
  return Buffer.compare(got, encode('f32', wanted)) === 0;
}

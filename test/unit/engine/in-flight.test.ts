import { expect, it } from 'vitest';
import { InFlight } from '../../../src/engine/in-flight.ts';

/** Works that end when told. */
function works() {
  const log: string[] = [];
  const ends = new Map<string, { resolve: () => void; reject: (error: Error) => void }>();
  const work = (name: string) => async (): Promise<void> => {
    log.push(`${name} begins`);
    await new Promise<void>((resolve, reject) => ends.set(name, { resolve, reject }));
    log.push(`${name} ends`);
  };
  return { log, work, end: (name: string) => ends.get(name)!.resolve(), fail: (name: string) => ends.get(name)!.reject(new Error(name)) };
}

it('has one work at a time by itself', async () => {
  const { log, work, end } = works();
  const runs = new InFlight();
  const first = runs.add(work('a')).then(() => log.push('room'));
  end('a');
  await first;
  expect(log).toEqual(['a begins', 'a ends', 'room']);
});

it('begins a second one before the first has ended, and a third one behind that', async () => {
  const { log, work, end } = works();
  const runs = new InFlight(2);
  await runs.add(work('a'));
  const second = runs.add(work('b')).then(() => log.push('room'));
  expect(log).toEqual(['a begins', 'b begins']);
  end('a');
  await second;
  const all = runs.end();
  end('b');
  await all;
  expect(log).toEqual(['a begins', 'b begins', 'a ends', 'room', 'b ends']);
});

it('says what failed to who waits, and settles the rest', async () => {
  const { log, work, end, fail } = works();
  const runs = new InFlight(2);
  await runs.add(work('a'));
  const second = runs.add(work('b'));
  fail('a');
  await expect(second).rejects.toThrow('a');
  const settled = runs.settle();
  end('b');
  await settled;
  expect(log.at(-1)).toBe('b ends');
});

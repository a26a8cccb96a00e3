import { describe, expect, it } from 'vitest';
import { SimulatedClock, SimulatedLane } from '../../../src/util/simulated-clock.ts';

describe('SimulatedClock', () => {
  it('wakes who waits in the order of their times, at these times', async () => {
    const clock = new SimulatedClock();
    const woken: [string, number][] = [];
    const wait = async (name: string, ...seconds: number[]): Promise<void> => {
      for (const each of seconds) {
        await clock.sleep(each);
        woken.push([name, clock.now]);
      }
    };
    const all = Promise.all([wait('a', 3, 1), wait('b', 1, 1, 5), wait('c', 3), wait('d', 0)]);
    await clock.run(all);
    expect(woken).toEqual([
      ['d', 0],
      ['b', 1],
      ['b', 2],
      ['a', 3],
      ['c', 3],
      ['a', 4],
      ['b', 7],
    ]);
    expect(clock.now).toBe(7);
  });

  it('lets no more time pass than the work takes, and goes on from there', async () => {
    const clock = new SimulatedClock();
    const late = clock.until(10);
    expect(await clock.run(clock.sleep(2).then(() => 'done'))).toBe('done');
    expect(clock.now).toBe(2);
    await clock.run(late);
    expect(clock.now).toBe(10);
    await clock.run(clock.until(9));
    expect(clock.now).toBe(10);
  });

  it('passes on what the work throws, and says when it would wait for ever', async () => {
    const clock = new SimulatedClock();
    const failing = clock.sleep(1).then(() => {
      throw new Error('broken');
    });
    await expect(clock.run(failing)).rejects.toThrow('broken');
    await expect(clock.run(clock.sleep(1).then(() => new Promise(() => {})))).rejects.toThrow(/at 2 s, everything waits/);
  });
});

describe('SimulatedLane', () => {
  it.each([
    [1, [4, 5, 7, 8]],
    [2, [4, 1, 3, 4]],
    [3, [4, 1, 2, 2]],
    [9, [4, 1, 2, 1]],
  ])('serves %i at a time, whoever came first', async (places, ends) => {
    const clock = new SimulatedClock();
    const lane = new SimulatedLane(clock, places);
    const use = async (seconds: number): Promise<number> => {
      await lane.use(seconds);
      return clock.now;
    };
    expect(await clock.run(Promise.all([4, 1, 2, 1].map(use)))).toEqual(ends);
  });

  it('serves at once when there is a place', async () => {
    const clock = new SimulatedClock();
    const lane = new SimulatedLane(clock, 1);
    await clock.run(lane.use(1).then(() => clock.sleep(5)));
    await clock.run(lane.use(2));
    expect(clock.now).toBe(8);
  });
});

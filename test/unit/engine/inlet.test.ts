import { describe, expect, it } from 'vitest';
import { Inlet } from '../../../src/engine/inlet.ts';

/** A source that answers when told to. */
function slowSource() {
  const calls: string[] = [];
  let answer: (result: IteratorResult<number>) => void = () => {};
  const source: AsyncIterable<number> = {
    [Symbol.asyncIterator]: () => ({
      next: () => {
        calls.push('next');
        return new Promise((resolve) => (answer = resolve));
      },
      return: async () => {
        calls.push('return');
        return { done: true, value: undefined };
      },
    }),
  };
  return { source, calls, answer: (value: number) => answer({ done: false, value }) };
}

async function* failing(): AsyncGenerator<number> {
  yield 1;
  throw new Error('disk on fire');
}

describe('Inlet', () => {
  it.each<[string, Iterable<string> | AsyncIterable<string>]>([
    ['a list', ['a', 'b']],
    ['a generator', ['a', 'b'].values()],
    [
      'an async generator',
      (async function* () {
        yield* ['a', 'b'];
      })(),
    ],
  ])('hands out %s, each once, and ends', async (_what, source) => {
    const inlet = new Inlet(source);
    expect([await inlet.peek(false), await inlet.peek(true)]).toEqual(['a', 'a']);
    inlet.take();
    expect(inlet.ended).toBe(false);
    expect(await inlet.peek(true)).toBe('b');
    inlet.take();
    expect([await inlet.peek(true), inlet.ended, await inlet.peek(true)]).toEqual([undefined, true, undefined]);
  });

  it('does not wait for a slow source unless it is patient, and asks it once', async () => {
    const { source, calls, answer } = slowSource();
    const inlet = new Inlet(source);
    expect([await inlet.peek(false), await inlet.peek(false)]).toEqual([undefined, undefined]);
    expect(calls).toEqual(['next']);
    const patient = inlet.peek(true);
    answer(7);
    expect([await patient, await inlet.peek(false)]).toEqual([7, 7]);
    expect(calls).toEqual(['next']);
  });

  it('waits for a late answer once, not before every sweep', async () => {
    const { source } = slowSource();
    const inlet = new Inlet(source);
    await inlet.peek(false);
    const began = performance.now();
    for (let i = 0; i < 20; i++) await inlet.peek(false);
    expect(performance.now() - began).toBeLessThan(20 * 20);
  });

  it('throws what the source throws', async () => {
    const inlet = new Inlet(failing());
    await inlet.peek(true);
    inlet.take();
    await expect(inlet.peek(false)).rejects.toThrow('disk on fire');
    await inlet.close();
  });

  it('gives up waiting when the signal says so', async () => {
    const { source } = slowSource();
    const controller = new AbortController();
    const inlet = new Inlet(source, controller.signal);
    const patient = inlet.peek(true);
    controller.abort(new Error('enough'));
    await expect(patient).rejects.toThrow('enough');
    await expect(inlet.peek(false)).rejects.toThrow('enough');
  });

  it('closes the source, once, and does not wait for one that is busy', async () => {
    const { source, calls } = slowSource();
    const inlet = new Inlet(source);
    await inlet.peek(false);
    await inlet.close();
    await inlet.close();
    expect(calls).toEqual(['next', 'return']);
    expect(inlet.ended).toBe(true);
  });

  it('does not close a source that has ended', async () => {
    let closed = 0;
    const source = {
      [Symbol.iterator]: () => ({
        next: () => ({ done: true as const, value: undefined }),
        return: () => {
          closed++;
          return { done: true as const, value: undefined };
        },
      }),
    };
    const inlet = new Inlet(source);
    await inlet.peek(true);
    await inlet.close();
    expect(closed).toBe(0);
  });
});

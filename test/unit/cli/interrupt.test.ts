import { spawnSync } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EXIT } from '../../../src/cli/exit-code.ts';
import { onInterrupt } from '../../../src/cli/interrupt.ts';

function play() {
  const source = Object.assign(new EventEmitter(), { exit: vi.fn<(status: number) => void>() });
  const said: string[] = [];
  const clock = { now: 1000 };
  const interruption = onInterrupt(
    (message) => said.push(message),
    source,
    () => clock.now,
  );
  const state = () => [interruption.signal.aborted, interruption.abortSignal.aborted, source.exit.mock.calls.flat()];
  return { source, said, clock, interruption, state };
}

describe('signals', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'])('%s: finish, then leave, then leave at once', (signal) => {
    const { source, said, clock, state } = play();
    expect(state()).toEqual([false, false, []]);
    source.emit(signal);
    expect(state()).toEqual([true, false, []]);
    clock.now += 1000;
    source.emit(signal);
    expect(state()).toEqual([true, true, []]);
    clock.now += 1000;
    source.emit(signal);
    expect(state()).toEqual([true, true, [EXIT.interrupted]]);
    expect(said).toHaveLength(1);
  });

  it('the same press twice is one', () => {
    const { source, clock, state } = play();
    source.emit('SIGINT');
    clock.now += 5;
    source.emit('SIGINT');
    expect(state()).toEqual([true, false, []]);
  });

  it('what hangs after the second is left', () => {
    const { source, clock, state } = play();
    source.emit('SIGINT');
    clock.now += 1000;
    source.emit('SIGINT');
    vi.advanceTimersByTime(60_000);
    expect(state()).toEqual([true, true, [EXIT.interrupted]]);
  });

  it('nothing is left behind', () => {
    const { source, clock, interruption, state } = play();
    source.emit('SIGINT');
    clock.now += 1000;
    source.emit('SIGTERM');
    interruption[Symbol.dispose]();
    vi.advanceTimersByTime(60_000);
    source.emit('SIGINT');
    expect(state()).toEqual([true, true, []]);
    expect(source.eventNames()).toEqual([]);
  });
});

it.skipIf(process.platform === 'win32')('a third signal ends a real process although a native call is running', () => {
  const child = fileURLToPath(new URL('interrupt-child.ts', import.meta.url));
  const options = { encoding: 'utf8', timeout: 8000, killSignal: 'SIGKILL' } as const;
  const { status, signal, stdout } = spawnSync(process.execPath, ['--import', 'tsx', child], options);
  expect(stdout).toBe('stopping after this sweep; Ctrl-C again stops at once\n');
  expect({ status, signal }).toEqual({ status: EXIT.interrupted, signal: null });
});

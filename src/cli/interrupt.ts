import { exitNow } from '../native/exit-now.ts';
import { EXIT } from './exit-code.ts';

export interface Interruption extends Disposable {
  /** Aborted by the first signal: finish the sweep, save, leave. */
  readonly signal: AbortSignal;
  /** Aborted by the second: leave the sweep. */
  readonly abortSignal: AbortSignal;
}

/** Where signals come from and what ends the process; the process itself, unless a test plays it. */
export interface SignalSource {
  on(event: NodeJS.Signals, listener: () => void): unknown;
  off(event: NodeJS.Signals, listener: () => void): unknown;
  /** Waits for nothing, not even for a native call that is running. */
  exit(status: number): void;
}

const PROCESS: SignalSource = {
  on: (event, listener) => process.on(event, listener),
  off: (event, listener) => process.off(event, listener),
  exit: exitNow,
};

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** npm passes on the Ctrl-C that the terminal has already sent to everyone: both arrive within a few milliseconds and are one. */
const SAME_PRESS_MS = 250;
/** In milliseconds. A layer of the largest models takes less than this; what is longer hangs. */
const LEAVE_AFTER_MS = 5000;

/**
 * Turns Ctrl-C (also a polite kill, and a terminal that closes) into an abort, and a second one into a harder abort: the layer that runs
 * is the last one, and what has not ended after LEAVE_AFTER_MS is left, also in the middle of a native call. A third leaves at once.
 * Only a call that blocks the event loop itself delays them. What is on disk is resumable at any time.
 * @param say told once, at the first signal
 */
export function onInterrupt(say: (message: string) => void, source: SignalSource = PROCESS, now: () => number = Date.now): Interruption {
  const gentle = new AbortController();
  const hard = new AbortController();
  let last = -Infinity;
  let timer: NodeJS.Timeout | undefined;
  const leave = (): void => source.exit(EXIT.interrupted);
  const listener = (): void => {
    if (now() - last <= SAME_PRESS_MS) return;
    last = now();
    if (hard.signal.aborted) return leave();
    if (gentle.signal.aborted) {
      timer = setTimeout(leave, LEAVE_AFTER_MS).unref();
      return hard.abort();
    }
    say('stopping after this sweep; Ctrl-C again stops at once');
    gentle.abort();
  };
  for (const signal of SIGNALS) source.on(signal, listener);
  return {
    signal: gentle.signal,
    abortSignal: hard.signal,
    [Symbol.dispose]: () => {
      clearTimeout(timer);
      for (const signal of SIGNALS) source.off(signal, listener);
    },
  };
}

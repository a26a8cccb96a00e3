/** The CPU backend's threads: a pool for each number of threads and way of waiting that was needed so far, of which one is in use. */
import type { Backend, GgmlBase, ThreadPool } from '../native/ggml.ts';
import type { GgmlCpu } from '../native/ggml-cpu.ts';
import { threadpoolParams } from '../native/open-ggml.ts';
import { NativeError } from '../util/errors.ts';
import { ThreadGovernor } from './thread-governor.ts';

/**
 * 0 to 100: how long threads without work spin before they sleep; 50 is ggml's default. Sleeping at once costs a fifth of the speed of small
 * models, because a halted virtual processor takes long to wake (docs/decisions/0003-threads-follow-load.md).
 */
const POLL = 50;
/**
 * While weights are read from a disk, work comes with gaps, and threads that spin for each other or for work take cores away from the reading:
 * the graph behind a gap gets one thread that sleeps afterwards. What follows without a gap gets all.
 */
const LONG_GAP_MS = 20;

export class GgmlThreads implements Disposable {
  readonly #base: GgmlBase;
  readonly #cpu: GgmlCpu;
  readonly #backend: Backend;
  readonly #governor: ThreadGovernor;
  readonly #pools = new Map<string, ThreadPool>();
  #inUse = '';
  #ended = -Infinity;

  /** `threads` at most. @throws {NativeError} when they cannot be started */
  constructor(base: GgmlBase, cpu: GgmlCpu, backend: Backend, threads: number) {
    this.#base = base;
    this.#cpu = cpu;
    this.#backend = backend;
    this.#governor = new ThreadGovernor(threads);
    this.#use(threads, POLL);
  }

  /** Runs a graph on as many threads as the machine has free. */
  async measure<T>(compute: () => Promise<T>): Promise<T> {
    const started = performance.now();
    const isAfterGap = started - this.#ended > LONG_GAP_MS;
    if (isAfterGap) this.#use(1, 0);
    else this.#use(this.#governor.threads, POLL);
    const before = process.cpuUsage();
    const result = await compute();
    this.#ended = performance.now();
    if (isAfterGap) return result;
    const { user, system } = process.cpuUsage(before);
    this.#governor.record((this.#ended - started) / 1e3, (user + system) / 1e6);
    return result;
  }

  /** Only after the backend was freed. */
  [Symbol.dispose](): void {
    for (const pool of this.#pools.values()) this.#cpu.threadpoolFree(pool);
    this.#pools.clear();
  }

  /** Threads of a pool that is not in use sleep, where fewer threads of one pool would leave the others spinning. */
  #use(threads: number, poll: number): void {
    const key = `${threads} ${poll}`;
    if (key === this.#inUse) return;
    const pool = this.#pools.get(key) ?? this.#cpu.threadpoolNew(threadpoolParams(this.#base, threads, poll));
    if (!pool) throw new NativeError(`a pool of ${threads} threads could not be started`);
    this.#pools.set(key, pool);
    this.#cpu.setThreads(this.#backend, threads);
    this.#cpu.setThreadpool(this.#backend, pool);
    this.#inUse = key;
  }
}

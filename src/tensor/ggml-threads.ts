/** The CPU backend's threads: a pool for each number of threads that was needed so far, of which one is in use. */
import type { Backend, GgmlBase, GgmlCpu, ThreadPool } from '../native/ggml.ts';
import { threadpoolParams } from '../native/open-ggml.ts';
import { NativeError } from '../util/errors.ts';
import { ThreadGovernor } from './thread-governor.ts';

/**
 * 0 to 100: how long threads without work spin before they sleep; 50 is ggml's default. Sleeping at once costs a fifth of the speed of small
 * models, because a halted virtual processor takes long to wake (docs/decisions/0003-threads-follow-load.md).
 */
const POLL = 50;

export class GgmlThreads implements Disposable {
  readonly #base: GgmlBase;
  readonly #cpu: GgmlCpu;
  readonly #backend: Backend;
  readonly #governor: ThreadGovernor;
  readonly #pools = new Map<number, ThreadPool>();
  #inUse = 0;

  /** `threads` at most. @throws {NativeError} when they cannot be started */
  constructor(base: GgmlBase, cpu: GgmlCpu, backend: Backend, threads: number) {
    this.#base = base;
    this.#cpu = cpu;
    this.#backend = backend;
    this.#governor = new ThreadGovernor(threads);
    this.#use(threads);
  }

  /** Runs a graph on as many threads as the machine has free. */
  async measure<T>(compute: () => Promise<T>): Promise<T> {
    this.#use(this.#governor.threads);
    const started = performance.now();
    const before = process.cpuUsage();
    const result = await compute();
    const { user, system } = process.cpuUsage(before);
    this.#governor.record((performance.now() - started) / 1e3, (user + system) / 1e6);
    return result;
  }

  /** Only after the backend was freed. */
  [Symbol.dispose](): void {
    for (const pool of this.#pools.values()) this.#cpu.threadpoolFree(pool);
    this.#pools.clear();
  }

  /** Threads of a pool that is not in use sleep, where fewer threads of one pool would leave the others spinning. */
  #use(threads: number): void {
    if (threads === this.#inUse) return;
    const pool = this.#pools.get(threads) ?? this.#cpu.threadpoolNew(threadpoolParams(this.#base, threads, POLL));
    if (!pool) throw new NativeError(`a pool of ${threads} threads could not be started`);
    this.#pools.set(threads, pool);
    this.#cpu.setThreads(this.#backend, threads);
    this.#cpu.setThreadpool(this.#backend, pool);
    this.#inUse = threads;
  }
}

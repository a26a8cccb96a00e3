import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** A group of processes that the system ends when they take more memory than they may. */
export interface MemoryLimit extends Disposable {
  readonly add: (pid: number) => void;
  /** Most bytes that they had, cached files included. */
  readonly peakBytes: () => number;
}

/** A control group of this process's own one (version 1), or undefined where there is none that may be made. */
export function limitMemory(bytes: number): MemoryLimit | undefined {
  try {
    const own = /^\d+:memory:(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
    if (own === undefined) return undefined;
    const folder = join('/sys/fs/cgroup/memory', own, `flexllmgen-${process.pid}`);
    mkdirSync(folder);
    const write = (name: string, value: number): void => writeFileSync(join(folder, name), String(value));
    write('memory.limit_in_bytes', bytes);
    return {
      add: (pid) => write('cgroup.procs', pid),
      peakBytes: () => Number(readFileSync(join(folder, 'memory.max_usage_in_bytes'), 'utf8')),
      [Symbol.dispose]: () => rmdirSync(folder),
    };
  } catch {
    return undefined; // another system, or no right to
  }
}

/** Most bytes of memory that a running process has had; undefined where /proc does not tell. */
export function peakResidentBytes(pid: number): number | undefined {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kilobytes === undefined ? undefined : 1024 * Number(kilobytes);
  } catch {
    return undefined;
  }
}

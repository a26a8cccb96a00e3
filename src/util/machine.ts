/**
 * What this process may use of the machine: memory and processors, container limits included. Files are read below `root`, so that tests
 * can put their own there; where a file is missing the limit does not exist.
 */
import { readFileSync, readdirSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';

export interface MemoryFacts {
  readonly totalBytes: number;
  /** Free now without swapping, within all limits; page cache counts as free. */
  readonly availableBytes: number;
  /** The tightest limit of this process's control groups (v1 or v2), if there is one below the machine's memory. */
  readonly cgroupLimitBytes?: number;
}

export interface ProcessorFacts {
  /** Logical processors that this process may run on. */
  readonly logical: number;
  /** Cores, if the system tells; two logical processors may share one. */
  readonly physical?: number;
  /** Processors' worth of time that the control groups grant, may be fractional. */
  readonly quota?: number;
  /** Compute threads that can run at once: the least of the three, at least 1. More only wait for each other. */
  readonly threads: number;
}

/** Version 1 writes "no limit" as the largest number of pages, which no machine has. */
const NO_LIMIT_BYTES = 2 ** 60;

/** Memory of the machine as this process may use it. */
export function memoryFacts(root = '/'): MemoryFacts {
  const meminfo = readText(root, 'proc/meminfo') ?? '';
  const totalBytes = meminfoBytes(meminfo, 'MemTotal') ?? os.totalmem();
  let availableBytes = meminfoBytes(meminfo, 'MemAvailable') ?? os.freemem();
  let limit = Infinity;
  for (const folder of cgroupFolders(root, 'memory')) {
    const group = readGroupMemory(root, folder);
    if (group === undefined) continue;
    limit = Math.min(limit, group.limitBytes);
    availableBytes = Math.min(availableBytes, Math.max(0, group.limitBytes - group.usedBytes));
  }
  return { totalBytes, availableBytes, ...(limit < totalBytes && { cgroupLimitBytes: limit }) };
}

/** Bytes that can be allocated now, container limits included. */
export function availableMemoryBytes(root = '/'): number {
  return memoryFacts(root).availableBytes;
}

export function processorFacts(root = '/'): ProcessorFacts {
  const logical = os.availableParallelism();
  const physical = physicalCores(root);
  const quota = cpuQuota(root);
  const threads = Math.max(1, Math.floor(Math.min(logical, physical ?? Infinity, quota ?? Infinity)));
  return { logical, ...(physical !== undefined && { physical }), ...(quota !== undefined && { quota }), threads };
}

/** Processors' worth of time that the control groups grant; undefined without a limit. */
export function cpuQuota(root = '/'): number | undefined {
  let quota = Infinity;
  for (const folder of cgroupFolders(root, 'cpu')) {
    const [max, period] = (readText(root, folder, 'cpu.max') ?? '').trim().split(/\s+/);
    const old = readNumber(root, folder, 'cpu.cfs_quota_us');
    if (max && period && max !== 'max') quota = Math.min(quota, Number(max) / Number(period));
    if (old !== undefined && old > 0) quota = Math.min(quota, old / (readNumber(root, folder, 'cpu.cfs_period_us') ?? 100_000));
  }
  return quota > 0 && Number.isFinite(quota) ? quota : undefined;
}

/** Cores of the whole machine; undefined where the system does not tell. */
export function physicalCores(root = '/'): number | undefined {
  const folder = 'sys/devices/system/cpu';
  const cores = new Set<string>();
  for (const name of listFolder(root, folder)) {
    const siblings = /^cpu\d+$/.test(name) ? readText(root, folder, name, 'topology/thread_siblings_list') : undefined;
    if (siblings !== undefined) cores.add(siblings.trim());
  }
  return cores.size > 0 ? cores.size : undefined;
}

/** Most resident memory that this process has had so far. */
export function peakMemoryBytes(root = '/'): number {
  // On Linux maxRSS survives exec, so a process started by a large one would report its parent's peak; VmHWM does not.
  return meminfoBytes(readText(root, 'proc/self/status') ?? '', 'VmHWM') ?? process.resourceUsage().maxRSS * 1024;
}

interface GroupMemory {
  readonly limitBytes: number;
  readonly usedBytes: number;
}

function readGroupMemory(root: string, folder: string): GroupMemory | undefined {
  const limitBytes = readNumber(root, folder, 'memory.max') ?? readNumber(root, folder, 'memory.limit_in_bytes');
  if (limitBytes === undefined || limitBytes >= NO_LIMIT_BYTES) return undefined;
  const used = readNumber(root, folder, 'memory.current') ?? readNumber(root, folder, 'memory.usage_in_bytes') ?? 0;
  const stat = readText(root, folder, 'memory.stat') ?? '';
  // Page cache counts as used but is given back under pressure; without this, having read a large file looks like being full.
  const cache = /^(?:total_)?inactive_file (\d+)$/m.exec(stat)?.[1] ?? '0';
  return { limitBytes, usedBytes: Math.max(0, used - Number(cache)) };
}

/** Folders of this process's control groups for one controller, from its own up to the top: each of them may limit. */
function cgroupFolders(root: string, controller: string): string[] {
  const folders: string[] = [];
  for (const line of (readText(root, 'proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    if (controllers === '') {
      for (const mount of ['sys/fs/cgroup', 'sys/fs/cgroup/unified']) folders.push(...withParents(mount, path));
    } else if (controllers.split(',').includes(controller)) {
      for (const mount of new Set([controllers, controller])) folders.push(...withParents(`sys/fs/cgroup/${mount}`, path));
    }
  }
  return folders;
}

function withParents(mount: string, path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '');
  return Array.from({ length: parts.length + 1 }, (_, up) => join(mount, ...parts.slice(0, parts.length - up)));
}

function meminfoBytes(text: string, key: string): number | undefined {
  const kilobytes = new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1];
  return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
}

/** A file that holds one integer; undefined when it is missing or says something else, such as `max`. */
function readNumber(root: string, ...path: string[]): number | undefined {
  const text = readText(root, ...path)?.trim();
  return text !== undefined && /^-?\d+$/.test(text) ? Number(text) : undefined;
}

function readText(root: string, ...path: string[]): string | undefined {
  try {
    return readFileSync(join(root, ...path), 'utf8');
  } catch {
    return undefined;
  }
}

function listFolder(root: string, path: string): string[] {
  try {
    return readdirSync(join(root, path));
  } catch {
    return [];
  }
}

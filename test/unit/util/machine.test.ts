import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { parseCpuinfo, parseSysctl } from '../../../src/util/cpu-features.ts';
import { availableMemoryBytes, cpuQuota, memoryFacts, peakMemoryBytes, physicalCores, processorFacts } from '../../../src/util/machine.ts';

const MEMINFO = 'MemTotal:       16000000 kB\nMemFree:  1000 kB\nMemAvailable:   12000000 kB\n';
const roots: string[] = [];

function fakeRoot(files: Record<string, string>): string {
  const root = mkdtempSync(join(os.tmpdir(), 'flexllmgen-machine-'));
  roots.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true });
});

describe('memory limits', () => {
  const group = (limit: string, used: string, stat: string) => ({
    'proc/meminfo': MEMINFO,
    'proc/self/cgroup': '0::/jobs/mine\n',
    'sys/fs/cgroup/jobs/mine/memory.max': limit,
    'sys/fs/cgroup/jobs/mine/memory.current': used,
    'sys/fs/cgroup/jobs/mine/memory.stat': stat,
  });
  const cases: { name: string; files: Record<string, string>; limit?: number; available: number }[] = [
    { name: 'no control groups', files: { 'proc/meminfo': MEMINFO }, available: 12_000_000 * 1024 },
    { name: 'version 2 without a limit', files: group('max\n', '5\n', ''), available: 12_000_000 * 1024 },
    { name: 'version 2 with a limit', files: group('4000000000\n', '1000000000\n', ''), limit: 4e9, available: 3e9 },
    {
      name: 'page cache is given back',
      files: group('4000000000', '3000000000', 'anon 1\ninactive_file 2000000000\n'),
      limit: 4e9,
      available: 3e9,
    },
    { name: 'over the limit', files: group('4000000000', '5000000000', ''), limit: 4e9, available: 0 },
    {
      name: 'a parent that is tighter',
      files: {
        ...group('4000000000', '1000000000', ''),
        'sys/fs/cgroup/jobs/memory.max': '2000000000',
        'sys/fs/cgroup/jobs/memory.current': '1500000000',
      },
      limit: 2e9,
      available: 0.5e9,
    },
    {
      name: 'inside a container the group is the top of the mount',
      files: {
        'proc/meminfo': MEMINFO,
        'proc/self/cgroup': '0::/\n',
        'sys/fs/cgroup/memory.max': '1000000000',
        'sys/fs/cgroup/memory.current': '0',
      },
      limit: 1e9,
      available: 1e9,
    },
    {
      name: 'version 1 with a limit',
      files: {
        'proc/meminfo': MEMINFO,
        'proc/self/cgroup': '4:memory:/a\n1:cpu:/\n0::/\n',
        'sys/fs/cgroup/memory/a/memory.limit_in_bytes': '3000000000\n',
        'sys/fs/cgroup/memory/a/memory.usage_in_bytes': '2000000000\n',
        'sys/fs/cgroup/memory/a/memory.stat': 'inactive_file 1\ntotal_inactive_file 500000000\n',
        'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
      },
      limit: 3e9,
      available: 1e9 + 1,
    },
    {
      name: 'a limit above the machine is none',
      files: group('99000000000000', '0', ''),
      available: 12_000_000 * 1024,
    },
  ];
  it.each(cases)('$name', ({ files, limit, available }) => {
    const root = fakeRoot(files);
    expect(memoryFacts(root)).toEqual({
      totalBytes: 16_000_000 * 1024,
      availableBytes: available,
      ...(limit !== undefined && { cgroupLimitBytes: limit }),
    });
    expect(availableMemoryBytes(root)).toBe(available);
  });

  it('is asked of the system where there are no such files', () => {
    expect(memoryFacts(fakeRoot({})).totalBytes).toBe(os.totalmem());
  });

  it('takes the peak from the status file where there is one', () => {
    expect(peakMemoryBytes(fakeRoot({ 'proc/self/status': 'Name: node\nVmPeak:  900 kB\nVmHWM:\t  123 kB\n' }))).toBe(123 * 1024);
    expect(peakMemoryBytes(fakeRoot({}))).toBe(process.resourceUsage().maxRSS * 1024);
    expect(peakMemoryBytes()).toBeGreaterThan(20e6);
  });
});

describe('processor limits', () => {
  const cases: { name: string; files: Record<string, string>; quota: number | undefined }[] = [
    { name: 'none', files: {}, quota: undefined },
    { name: 'version 2, none', files: { 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/cpu.max': 'max 100000\n' }, quota: undefined },
    { name: 'version 2', files: { 'proc/self/cgroup': '0::/a\n', 'sys/fs/cgroup/a/cpu.max': '150000 100000\n' }, quota: 1.5 },
    {
      name: 'version 2, the parent is tighter',
      files: { 'proc/self/cgroup': '0::/a/b\n', 'sys/fs/cgroup/a/b/cpu.max': '400000 100000', 'sys/fs/cgroup/a/cpu.max': '50000 100000' },
      quota: 0.5,
    },
    { name: 'version 1, none', files: { 'proc/self/cgroup': '2:cpu:/\n', 'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n' }, quota: undefined },
    {
      name: 'version 1, joint mount',
      files: {
        'proc/self/cgroup': '2:cpu,cpuacct:/a\n',
        'sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us': '300000\n',
        'sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us': '100000\n',
      },
      quota: 3,
    },
  ];
  it.each(cases)('quota: $name', ({ files, quota }) => {
    expect(cpuQuota(fakeRoot(files))).toBe(quota);
  });

  it('counts cores, not hyperthreads', () => {
    const siblings = { 0: '0,2', 1: '1,3', 2: '0,2', 3: '1,3' };
    const files = Object.entries(siblings).map(([cpu, list]) => [
      `sys/devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`,
      `${list}\n`,
    ]);
    expect(physicalCores(fakeRoot({ ...Object.fromEntries(files), 'sys/devices/system/cpu/cpufreq/boost': '1' }))).toBe(2);
    expect(physicalCores(fakeRoot({}))).toBeUndefined();
  });

  it('never offers less than one thread nor more than the quota', () => {
    const limited = (max: string) => processorFacts(fakeRoot({ 'proc/self/cgroup': '0::/\n', 'sys/fs/cgroup/cpu.max': max })).threads;
    expect(limited('50000 100000')).toBe(1);
    expect(limited('100000 100000')).toBe(1);
    expect(limited('max 100000')).toBe(os.availableParallelism());
  });
});

describe('processor features', () => {
  it.each([
    [
      'x86',
      'processor : 0\nflags\t\t: fpu sse2 avx avx2 fma f16c avx512f avx512_vnni amx_tile xyz\nbugs : avx512_bf16\n',
      'avx f16c fma avx2 avx512f avx512_vnni amx_tile',
    ],
    ['ARM', 'processor : 0\nFeatures\t: fp asimd fphp asimddp i8mm sve\n', 'neon fp16 dotprod i8mm sve'],
    ['nothing', '', ''],
  ])('Linux on %s', (_, text, expected) => {
    expect(parseCpuinfo(text).join(' ')).toBe(expected);
  });

  it.each([
    ['Intel', 'machdep.cpu.features: FPU SSE FMA F16C AVX1.0\nmachdep.cpu.leaf7_features: BMI1 AVX2\n', 'avx f16c fma avx2'],
    ['ARM', 'hw.optional.neon: 1\nhw.optional.arm.FEAT_DotProd: 1\nhw.optional.arm.FEAT_I8MM: 0\n', 'neon dotprod'],
  ])('macOS on %s', (_, text, expected) => {
    expect(parseSysctl(text).join(' ')).toBe(expected);
  });
});

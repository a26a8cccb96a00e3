import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import os from 'node:os';

export interface CpuFacts {
  /** As the processor names itself. */
  readonly model: string;
  /** Those instruction sets that matter for tensor work, weakest first; undefined where the system does not tell. */
  readonly features?: readonly string[];
}

/** Our name of a feature, then the names that Linux (x86 `flags`, ARM `Features`) and macOS (`sysctl`) have for it. */
const FEATURES: readonly (readonly [string, ...string[]])[] = [
  ['avx', 'AVX1.0'],
  ['f16c', 'F16C'],
  ['fma', 'FMA'],
  ['avx2', 'AVX2'],
  ['avx_vnni'],
  ['avx512f', 'AVX512F'],
  ['avx512bw', 'AVX512BW'],
  ['avx512_vnni', 'AVX512VNNI'],
  ['avx512_bf16', 'AVX512BF16'],
  ['avx512_fp16'],
  ['amx_tile'],
  ['amx_int8'],
  ['amx_bf16'],
  ['neon', 'asimd', 'hw.optional.neon'],
  ['fp16', 'fphp', 'hw.optional.arm.FEAT_FP16'],
  ['dotprod', 'asimddp', 'hw.optional.arm.FEAT_DotProd'],
  ['bf16', 'hw.optional.arm.FEAT_BF16'],
  ['i8mm', 'hw.optional.arm.FEAT_I8MM'],
  ['sve'],
  ['sve2'],
  ['sme', 'hw.optional.arm.FEAT_SME'],
];

/** The processor that runs this. */
export function cpuFacts(): CpuFacts {
  const named = os.cpus()[0]?.model.trim();
  const model = named !== undefined && named !== '' && named !== 'unknown' ? named : `${os.arch()} processor`;
  const features = os.platform() === 'linux' ? linuxFeatures() : os.platform() === 'darwin' ? macFeatures() : undefined;
  return { model, ...(features !== undefined && { features }) };
}

/** @param text of `/proc/cpuinfo`; the first processor speaks for all */
export function parseCpuinfo(text: string): string[] {
  const words = /^(?:flags|Features)\s*:(.*)$/m.exec(text)?.[1] ?? '';
  return known(new Set(words.trim().split(/\s+/)));
}

/** @param text printed by `sysctl`: a line of features on Intel, `name: 1` on ARM */
export function parseSysctl(text: string): string[] {
  const words = new Set<string>();
  for (const line of text.split('\n')) {
    const [, name = '', value = ''] = /^([^:]+):\s*(.*)$/.exec(line) ?? [];
    if (value.trim() === '1') words.add(name);
    else if (name.startsWith('machdep.cpu.')) for (const word of value.split(/\s+/)) words.add(word);
  }
  return known(words);
}

function known(words: ReadonlySet<string>): string[] {
  return FEATURES.filter((names) => names.some((name) => words.has(name))).map(([name]) => name);
}

function linuxFeatures(): string[] | undefined {
  try {
    return parseCpuinfo(readFileSync('/proc/cpuinfo', 'utf8'));
  } catch {
    return undefined;
  }
}

function macFeatures(): string[] {
  const names = FEATURES.flat().filter((name) => name.startsWith('hw.'));
  // A name that this processor does not have is an error message and an exit code, beside the lines of the others.
  const result = spawnSync('/usr/sbin/sysctl', ['machdep.cpu.features', 'machdep.cpu.leaf7_features', ...names], { encoding: 'utf8' });
  return parseSysctl(result.stdout ?? '');
}

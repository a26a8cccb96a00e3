/** The lines of FlexGen's benchmark logs, for programs that read those, and the name of such a file. */
import type { BenchFigures, BenchTask } from './bench-figures.ts';
import type { BenchSizes } from './bench-sizes.ts';

export interface LogNameParts extends BenchTask {
  /** As it was asked for, such as `facebook/opt-6.7b`. */
  readonly model: string;
  readonly percent: readonly number[];
  readonly cpuCacheCompute: boolean;
  readonly compressWeight: boolean;
  readonly compressCache: boolean;
}

/** Such as `fo-6.7b-gbs4-ngbs1-prompt512-gen32-percent-100-0-100-0-100-0-gpu-cache.log`. */
export function logName(parts: LogNameParts): string {
  const size = parts.model.split('/').at(-1)!.split('-').at(-1)!;
  return (
    `fo-${size}-gbs${parts.gpuBatchSize}-ngbs${parts.numGpuBatches}-prompt${parts.promptTokens}-gen${parts.newTokens}` +
    `-percent-${parts.percent.join('-')}-${parts.cpuCacheCompute ? 'cpu' : 'gpu'}-cache` +
    `${parts.compressWeight ? '-compw' : ''}${parts.compressCache ? '-compc' : ''}.log`
  );
}

/** The unit that those logs call GB. */
const LOG_GB = 2 ** 30;

/** Five lines, each ends with a newline. @param peakGpuBytes 0 without a GPU */
export function logBlock(sizes: BenchSizes, peakGpuBytes: number, { projected, seconds, tokensPerSecond }: BenchFigures): string {
  const size = (name: string, bytes: number): string => `${name}: ${(bytes / LOG_GB).toFixed(3)} GB`;
  const phase = (name: 'prefill' | 'decode' | 'total'): string =>
    `${name} latency: ${seconds[name].toFixed(3)} s\t${name} throughput: ${tokensPerSecond[name].toFixed(3)} token/s\n`;
  return (
    `${size('model size', sizes.model)}\t${size('cache size', sizes.cache)}\t${size('hidden size (p)', sizes.hidden)}\n` +
    `${size('peak gpu mem', peakGpuBytes)}\tprojected: ${projected ? 'True' : 'False'}\n` +
    `${phase('prefill')}${phase('decode')}${phase('total')}`
  );
}

import { formatBytes, formatCount } from '../util/units.ts';
import type { ReportOptions } from './options.ts';
import { stderrProgress } from './progress.ts';

/** `flexllmgen verify`. Exit status 1 when a tensor has changed. */
export async function verify(file: string, options: ReportOptions): Promise<number> {
  const { verifyModel } = await import('../convert/verify.ts');
  const progress = stderrProgress(options);
  const result = await verifyModel(file, progress.verification).finally(progress.end);
  const { tensors, bytes, damaged } = result;
  if (options.json) process.stdout.write(`${JSON.stringify({ file, ...result })}\n`);
  else if (!options.quiet) {
    const what = `${formatCount(tensors)} tensors, ${formatBytes(bytes)}`;
    const lines =
      damaged.length === 0 ? [`${file}: ${what}, all as written`] : damaged.map((name) => `${file}: tensor ${name} has changed`);
    process.stdout.write(`${lines.join('\n')}\n`);
  }
  return damaged.length === 0 ? 0 : 1;
}

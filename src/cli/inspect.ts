import type { ModelReport } from '../llm/inspect.ts';
import type { StorageType } from '../weights/storage-type.ts';
import { BUNDLED_NAME } from '../util/bundled.ts';
import { formatBytes, formatCount } from '../util/units.ts';
import type { ComputeOptions } from './options.ts';
import { stderrProgress } from './progress.ts';
import { renderFacts, renderTable } from './render.ts';

export interface InspectCliOptions extends Pick<ComputeOptions, 'compute' | 'kvType'> {
  readonly json?: boolean;
  readonly dtype?: StorageType;
}

/** `flexllmgen inspect`. Exit status 1 when the model cannot run here, not even one row at a time. */
export async function inspect(name: string | undefined, options: InspectCliOptions): Promise<number> {
  const { inspectModel } = await import('../llm/inspect.ts');
  const progress = stderrProgress({ quiet: options.json ?? false });
  const report = await inspectModel(name ?? BUNDLED_NAME, {
    ...options,
    onPreparation: progress.preparation,
    onNotice: progress.say,
  }).finally(progress.end);
  process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : renderModel(report));
  return report.plans.some(({ bytes }) => bytes) ? 0 : 1;
}

export function renderModel(report: ModelReport): string {
  const { heads, kvHeads, headDim, windows } = report;
  const facts: [string, string][] = [
    ['model', report.name],
    ['family', report.family],
    ['size', `${formatCount(report.parameters)} parameters, ${report.layers} layers, hidden ${report.hiddenSize}`],
    ['attention', `${heads} heads of ${headDim}, ${kvHeads} of keys${windows.length > 0 ? `, sliding window ${windows.join(', ')}` : ''}`],
    ['context', `${formatCount(report.contextLength)} tokens, vocabulary ${formatCount(report.vocabularySize)}`],
    [
      'tokenizer',
      report.tokenizer ? (report.chatTemplate ? 'yes, with a chat template' : 'yes, no chat template') : 'none: prompts are token ids',
    ],
    ['free memory', formatBytes(report.availableBytes)],
  ];
  const types = renderTable(
    [{ title: 'weights' }, { title: 'tensors', align: 'right' }, { title: 'bytes', align: 'right' }],
    report.types.map(({ type, tensors, bytes }) => [type, String(tensors), formatBytes(bytes)]),
  );
  const plans = renderTable(
    [
      { title: 'rows' },
      { title: 'memory', align: 'right' },
      { title: 'weights', align: 'right' },
      { title: 'KV cache', align: 'right' },
      { title: '' },
    ],
    report.plans.map(({ rows, bytes, problem }) =>
      bytes
        ? [String(rows), formatBytes(bytes.total), formatBytes(bytes.weights), formatBytes(bytes.kv), 'runs here']
        : [String(rows), '-', '-', '-', problem ?? ''],
    ),
  );
  return `${renderFacts(facts)}\n${types}\n${plans}`;
}

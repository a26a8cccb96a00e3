import type { fetchModel as FetchModel } from '../llm/named-source.ts';
import type { ListedModel } from '../llm/model-list.ts';
import { formatBytes, formatCount } from '../util/units.ts';
import { onInterrupt } from './interrupt.ts';
import type { ReportOptions } from './options.ts';
import type { ModelsTask } from './program.ts';
import { stderrProgress } from './progress.ts';
import { renderTable } from './render.ts';

/** `flexllmgen models` */
export async function models(task: ModelsTask, options: ReportOptions): Promise<number> {
  const print = (result: object, text: string): void => {
    if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else if (!options.quiet) process.stdout.write(text);
  };
  if (task.do === 'list') {
    const { listModels } = await import('../llm/model-list.ts');
    const list = await listModels();
    print(list, renderModels(list));
  } else if (task.do === 'remove') {
    const { removeListed } = await import('../llm/model-list.ts');
    const bytes = await removeListed(task.name);
    print({ name: task.name, bytes }, `${task.name}: removed, ${formatBytes(bytes)} are free again\n`);
  } else {
    const { fetchModel } = await import('../llm/named-source.ts');
    const path = await pull(task.name, fetchModel, options);
    print({ name: task.name, path }, `${path}\n`);
  }
  return 0;
}

async function pull(name: string, fetchModel: typeof FetchModel, options: ReportOptions): Promise<string> {
  const progress = stderrProgress(options);
  using interruption = onInterrupt(progress.say);
  return await fetchModel(name, { onPreparation: progress.preparation, onNotice: progress.say, signal: interruption.signal }).finally(
    progress.end,
  );
}

function renderModels(list: readonly ListedModel[]): string {
  if (list.length === 0) return 'no models; `flexllmgen models pull owner/name` fetches one\n';
  return renderTable(
    [
      { title: 'model' },
      { title: 'size', align: 'right' },
      { title: 'type' },
      { title: 'context', align: 'right' },
      { title: 'family' },
      { title: 'use with -m' },
    ],
    list.map(({ name, use, bytes, type, contextLength, family, problem }) => [
      name,
      formatBytes(bytes),
      type ?? '-',
      contextLength === undefined ? '-' : formatCount(contextLength),
      family ?? '-',
      problem ?? use,
    ]),
  );
}

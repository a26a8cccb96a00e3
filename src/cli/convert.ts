import type { ConversionReport, convertModel as ConvertModel } from '../llm/convert-model.ts';
import { formatBytes, formatSeconds } from '../util/units.ts';
import { onInterrupt } from './interrupt.ts';
import type { ConvertOptions } from './program.ts';
import { stderrProgress } from './progress.ts';
import { renderFacts, renderTable } from './render.ts';

/** `flexllmgen convert` */
export async function convert(model: string, options: ConvertOptions): Promise<number> {
  // Not in a function with `using`: there the compiler leaves the name of the file as it is.
  const { convertModel } = await import('../llm/convert-model.ts');
  return convertWith(convertModel, model, options);
}

async function convertWith(convertModel: typeof ConvertModel, model: string, options: ConvertOptions): Promise<number> {
  const progress = stderrProgress(options);
  using interruption = onInterrupt(progress.say);
  const { dtype, output, force } = options;
  try {
    const report = await convertModel(model, {
      type: dtype,
      signal: interruption.signal,
      onPreparation: progress.preparation,
      onNotice: progress.say,
      ...(output !== undefined && { output }),
      ...(force !== undefined && { force }),
    });
    progress.end();
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else if (!options.quiet) process.stdout.write(renderReport(report));
    return 0;
  } catch (error) {
    progress.end();
    throw error;
  }
}

function renderReport({ file, bytes, seconds, types, written }: ConversionReport): string {
  const facts: [string, string][] = [
    ['file', file],
    ['size', formatBytes(bytes)],
    ['time', written ? formatSeconds(seconds) : 'none: it was there'],
  ];
  const table = renderTable(
    [{ title: 'weights' }, { title: 'tensors', align: 'right' }, { title: 'bytes', align: 'right' }],
    types.map((size) => [size.type, String(size.tensors), formatBytes(size.bytes)]),
  );
  return `${renderFacts(facts)}\n${table}`;
}

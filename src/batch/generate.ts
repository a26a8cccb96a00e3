import type { GenerationRequest, RunStats, TextGenerator } from '../requests.ts';
import { internalError, NumericError } from '../util/errors.ts';
import { type CompletionWishes, toCompletion } from './completion.ts';
import type { Journal } from './journal.ts';
import type { OpenTable } from './scan.ts';

export interface GenerateOptions {
  readonly isPending: (row: number, hash: bigint) => boolean;
  /** Ends after the sweep. */
  readonly signal: AbortSignal;
  /** Ends at once. */
  readonly abortSignal: AbortSignal;
  readonly onSweep: (stats: RunStats) => void;
}

/** A request that the generator has pulled and not answered. */
interface InFlight extends CompletionWishes {
  readonly row: number;
  readonly line: number;
  readonly hash: bigint;
}

/**
 * Second pass: generates the rows that are pending, and saves them after every sweep.
 * @returns false when a signal ended it before all rows were done
 */
export async function generateRows(
  open: OpenTable,
  generator: TextGenerator,
  journal: Journal,
  options: GenerateOptions,
): Promise<boolean> {
  const { signal, abortSignal, onSweep } = options;
  const inFlight = new Map<number, InFlight>();
  try {
    for await (const event of generator.stream(pendingRequests(open, inFlight, options), { signal: abortSignal })) {
      if (event.type === 'token') continue;
      if (event.type === 'sweep') {
        journal.commit();
        onSweep(event.stats);
        if (!signal.aborted) continue;
        await journal.settle();
        return false;
      }
      const { row, hash, ...wishes } = take(inFlight, event.index);
      if (event.type === 'failed') await journal.append(row, hash, { problem: { message: event.error.message, code: event.error.code } });
      else await journal.append(row, hash, { completion: toCompletion(event.result, wishes, (id) => generator.tokenText(id)) });
    }
  } catch (error) {
    // Whatever ended the stream, finished rows are worth keeping.
    await journal.settle();
    if (abortSignal.aborted && error instanceof Error && error.name === 'AbortError') return false;
    throw error instanceof NumericError ? atItsLine(error, inFlight) : error;
  }
  await journal.settle();
  return !abortSignal.aborted;
}

async function* pendingRequests(
  open: OpenTable,
  inFlight: Map<number, InFlight>,
  { isPending }: GenerateOptions,
): AsyncGenerator<GenerationRequest, void, void> {
  const { table } = await open();
  await using _closed = table;
  let index = 0;
  for await (const row of table.rows) {
    if ('problem' in row || !isPending(row.index, row.request.hash)) continue;
    const { prompt, params, hash, echo, returnTokenIds, layout } = row.request;
    inFlight.set(index++, {
      row: row.index,
      line: row.line,
      hash,
      echo,
      returnTokenIds,
      layout,
      ...(echo && typeof prompt === 'string' && { promptText: prompt }),
    });
    yield { prompt, params, key: row.index };
  }
}

function take(inFlight: Map<number, InFlight>, index: number): InFlight {
  const found = inFlight.get(index);
  if (found === undefined) throw internalError(`the generator answered request ${index}, which is not open`);
  inFlight.delete(index);
  return found;
}

/** The generator counts its requests; people look for lines of their file. */
function atItsLine(error: NumericError, inFlight: ReadonlyMap<number, InFlight>): NumericError {
  const { row: request, layer } = error.facts;
  const found = typeof request === 'number' ? inFlight.get(request) : undefined;
  if (found === undefined || typeof layer !== 'string') return error;
  const { row, line } = found;
  const message = `row of line ${line}, ${layer}: the result is not a number; the weights may be damaged`;
  return new NumericError(message, { ...error.facts, row, line }, { cause: error });
}

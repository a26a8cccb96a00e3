/** FILE: the workload of `model-child.ts` in llama.cpp, of which only `llama_decode` is timed; the tokens that follow are chosen beforehand. */
import { processorFacts } from '../../src/util/machine.ts';
import { DECODED, PROMPT_TOKENS, promptOf, type Rates, ROWS, stopwatch } from '../workload.ts';
import { PeerModel, type PeerRow } from './llama-cpp.ts';

const [file] = process.argv.slice(2) as [string];
const { threads } = processorFacts();
using model = new PeerModel(file);

function measurePrefill(): ReturnType<ReturnType<typeof stopwatch>> {
  using context = model.open({ threads, positions: PROMPT_TOKENS });
  context.decode([{ sequence: 0, start: 0, tokens: promptOf(8, 1) }]);
  context.clear();
  const stop = stopwatch(threads);
  context.decode([{ sequence: 0, start: 0, tokens: promptOf(PROMPT_TOKENS, 2) }]);
  return stop();
}

function measureDecode(): ReturnType<ReturnType<typeof stopwatch>> {
  using context = model.open({ threads, sequences: ROWS, positions: ROWS * (DECODED + 1) });
  const batches = Array.from({ length: DECODED + 1 }, (_, start) =>
    Array.from({ length: ROWS }, (__, sequence): PeerRow => ({ sequence, start, tokens: promptOf(1, sequence + start) })),
  );
  context.decode(batches[0]!);
  const stop = stopwatch(threads);
  for (const batch of batches.slice(1)) context.decode(batch);
  return stop();
}

const [prefill, decode] = [measurePrefill(), measureDecode()];
const rates: Rates = {
  threads,
  prefill: PROMPT_TOKENS / prefill.seconds,
  decode: (ROWS * DECODED) / decode.seconds,
  busy: { prefill: prefill.busy, decode: decode.busy },
};
console.log(JSON.stringify(rates));

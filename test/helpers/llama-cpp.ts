/** llama.cpp itself, as an outside truth: greedy tokens of a GGUF file by ids, with nothing rounded below f32. */
import { type PeerContext, PeerModel, type PeerRow } from '../../bench/peers/llama-cpp.ts';

export { hasLlama } from '../../bench/peers/llama-cpp.ts';

/** @returns the `count` most probable tokens after `prompt`, each fed back; the end of a sequence does not stop them */
export function llamaGreedy(file: string, prompt: readonly number[], count: number): number[] {
  return llamaGreedyRows(file, [prompt], count)[0]!;
}

/** The same for several prompts that are computed together: one batch with all prompts, then one with a token of each. */
export function llamaGreedyRows(file: string, prompts: readonly (readonly number[])[], count: number): number[][] {
  using model = new PeerModel(file);
  const positions = Math.max(
    256,
    prompts.reduce((sum, prompt) => sum + prompt.length + count, 0),
  );
  using context = model.open({ threads: 1, sequences: prompts.length, positions, exact: true });
  const results = prompts.map((): number[] => []);
  let rows = prompts.map((tokens, sequence): PeerRow => ({ sequence, start: 0, tokens }));
  for (let step = 0; step < count; step++) {
    context.decode(rows);
    rows = rows.map(({ sequence, start, tokens }, i) => {
      const token = mostProbable(context, rows, i);
      results[sequence]!.push(token);
      return { sequence, start: start + tokens.length, tokens: [token] };
    });
  }
  return results;
}

function mostProbable(context: PeerContext, rows: readonly PeerRow[], row: number): number {
  const logits = context.logits(rows, row);
  return logits.indexOf(Math.max(...logits));
}

/** `npx tsx scripts/make-model.ts SHAPE TYPE FILE`: a GGUF file in the shape of a published model, with random weights; see --help. */
import { stat } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { writeModelFile } from '../bench/model-file.ts';
import { SHAPE_NAMES } from '../bench/shapes.ts';
import type { WeightType } from '../src/tensor/dtype.ts';
import { UsageError } from '../src/util/errors.ts';

/** Those that need no importance matrix. */
const TYPES = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1', 'q5_0', 'q5_1', 'q2_k', 'q3_k', 'q4_k', 'q5_k', 'q6_k', 'iq4_nl', 'iq4_xs'];
const HELP = `usage: npx tsx scripts/make-model.ts SHAPE TYPE FILE [--layers N]

Writes a GGUF file of random weights in the true shape of a published model. This project runs it, and llama.cpp does where it knows the
family (not OPT). It has no vocabulary: prompts are token ids. The same arguments give the same weights.

SHAPE       ${SHAPE_NAMES.filter((name) => !name.startsWith('galactica')).join(' ')}
TYPE        of the matrices: ${TYPES.join(' ')}
            Norms and biases are f32; with blocks smaller than q6_k, the matrix that the logits come from is q6_k, as llama.cpp has it.
--layers N  other than the shape has`;

try {
  await main();
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  console.error(error.message);
  process.exitCode = 2;
}

async function main(): Promise<void> {
  const { values, positionals } = readArguments();
  if (values.help) return console.log(HELP);
  const [shape, type, file, ...surplus] = positionals;
  if (shape === undefined || type === undefined || file === undefined || surplus.length > 0)
    throw new UsageError(`SHAPE, TYPE and FILE expected\n\n${HELP}`);
  if (!TYPES.includes(type)) throw new UsageError(`${type}: one of ${TYPES.join(', ')} expected`);
  const layers = values.layers === undefined ? undefined : Number(values.layers);
  if (layers !== undefined && !(Number.isSafeInteger(layers) && layers > 0))
    throw new UsageError(`--layers ${values.layers}: a positive integer expected`);
  const began = performance.now();
  await writeModelFile({ shape, type: type as WeightType, ...(layers !== undefined && { layers }) }, file);
  const { size } = await stat(file);
  const seconds = (performance.now() - began) / 1000;
  console.log(`${file}: ${(size / 1e9).toFixed(2)} GB in ${seconds.toFixed(1)} s, ${Math.round(size / 1e6 / seconds)} MB/s`);
}

// oxlint-disable-next-line typescript/explicit-function-return-type -- what parseArgs infers from its options
function readArguments() {
  try {
    return parseArgs({ allowPositionals: true, options: { layers: { type: 'string' }, help: { type: 'boolean', short: 'h' } } });
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), {}, { cause });
  }
}

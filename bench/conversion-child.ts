/** FOLDER TYPE OUTPUT: converts, and prints seconds and peak memory as JSON. TYPE is a stored type, such as q4_0. */
import { openModelSource } from '../src/llm/model-source.ts';
import { convertSource } from '../src/llm/stored-source.ts';
import type { WeightType } from '../src/tensor/dtype.ts';
import { Lifetime } from '../src/util/lifetime.ts';
import { peakMemoryBytes } from '../src/util/machine.ts';
import { recodedWeights } from '../src/weights/recoded-weights.ts';

const [folder, type, output] = process.argv.slice(2) as [string, WeightType, string];
await using lifetime = new Lifetime();
const began = performance.now();
const source = await openModelSource(folder, lifetime);
const weights = recodedWeights(source.weights, ({ role }) => (role === 'vector' ? 'f32' : type), folder);
await convertSource({ ...source, weights }, output, {});
console.log(JSON.stringify({ seconds: (performance.now() - began) / 1000, peakBytes: peakMemoryBytes() }));

/** FOLDER TYPE OUTPUT: converts, and prints seconds and peak memory as JSON. */
import { convertModel } from '../src/llm/convert-model.ts';
import { peakMemoryBytes } from '../src/util/machine.ts';
import type { StorageType } from '../src/weights/storage-type.ts';

const [folder, type, output] = process.argv.slice(2) as [string, StorageType, string];
const { seconds } = await convertModel(folder, { type, output });
console.log(JSON.stringify({ seconds, peakBytes: peakMemoryBytes() }));

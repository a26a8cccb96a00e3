/** FOLDER OUTPUT: converts to q8, with every tensor on the disk before the next one begins. */
import { openModelSource } from '../../src/llm/model-source.ts';
import { convertSource, recodedSource } from '../../src/llm/stored-source.ts';
import { Lifetime } from '../../src/util/lifetime.ts';

const [folder, output] = process.argv.slice(2) as [string, string];
await using lifetime = new Lifetime();
const source = recodedSource(await openModelSource(folder, lifetime), 'q8');
try {
  await convertSource(source, output, { syncBytes: 1, onProgress: ({ bytes }) => console.log(bytes.reused) });
} catch (error) {
  console.log((error as { code?: string }).code);
  process.exitCode = 1;
}

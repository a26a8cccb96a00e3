/** What ends the process inside the tokenizers library instead of being refused by it. */
import { FormatError } from '../util/errors.ts';
import { isJsonObject, type JsonObject } from './read-file.ts';
import { checkCharsmap } from './sentencepiece-charsmap.ts';

/** To be called with every `tokenizer.json` that the library gets. @throws {FormatError} naming the file and the part */
export function guardLibrary(file: string, { model, normalizer, post_processor: processor }: JsonObject): void {
  checkMerges(file, model);
  for (const { precompiled_charsmap: table } of stepsOf(normalizer, 'normalizers'))
    if (typeof table === 'string') checkCharsmap(file, Buffer.from(table, 'base64'));
  for (const step of stepsOf(processor, 'processors')) checkTemplate(file, step);
}

/** A step and, of sequences, all members, however deep. */
function stepsOf(whole: unknown, members: string): JsonObject[] {
  const steps: JsonObject[] = [];
  const open = [whole];
  for (let step = open.pop(); step !== undefined; step = open.pop()) {
    if (!isJsonObject(step)) continue;
    const inner = step[members];
    steps.push(step); // also with members: the library goes by the fields that it finds
    if (Array.isArray(inner)) for (const member of inner as unknown[]) open.push(member);
  }
  return steps;
}

/** The prefix of continued words is cut off the right half of every merge, and must be there. */
function checkMerges(file: string, model: unknown): void {
  if (!isJsonObject(model)) return;
  const { continuing_subword_prefix: prefix, merges } = model;
  if (typeof prefix !== 'string' || prefix === '' || !Array.isArray(merges)) return;
  if (!/^[\x21-\x7e]+$/.test(prefix)) throw new FormatError(file, `continuing_subword_prefix is ${JSON.stringify(prefix)}, expected ASCII`);
  for (const [i, merge] of (merges as unknown[]).entries()) {
    const right: unknown = typeof merge === 'string' ? merge.split(' ')[1] : Array.isArray(merge) ? merge[1] : undefined;
    if (typeof right !== 'string' || !right.startsWith(prefix))
      throw new FormatError(file, `merge ${i} does not go on with the continuing_subword_prefix ${JSON.stringify(prefix)}`);
  }
}

/** Special tokens are looked up when a text is encoded, and must be listed. */
function checkTemplate(file: string, { single, pair, special_tokens: listed }: JsonObject): void {
  if (!isJsonObject(listed)) return; // whatever its type says: the library goes by the fields
  for (const piece of [single, pair].flatMap((pieces) => (Array.isArray(pieces) ? (pieces as unknown[]) : []))) {
    const special = isJsonObject(piece) ? piece['SpecialToken'] : undefined;
    const id = isJsonObject(special) ? special['id'] : undefined;
    if (typeof id === 'string' && !Object.hasOwn(listed, id))
      throw new FormatError(file, `post_processor: the template has ${JSON.stringify(id)}, special_tokens do not`);
  }
}

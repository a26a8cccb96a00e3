/** Which files of a repository a model needs: not its copies in other formats. */
import { UsageError } from '../util/errors.ts';
import { formatBytes } from '../util/units.ts';
import type { ModelName } from './model-name.ts';

/** A file of a repository. */
export interface HubFile {
  /** Inside of the repository, with slashes. */
  readonly path: string;
  readonly bytes: number;
  /** SHA-256 of large files, git's SHA-1 of small ones, in hex. The name of the content in the cache. */
  readonly hash: string;
}

export interface Selection {
  readonly files: readonly HubFile[];
  /** Path of the GGUF file that is the model, of the first where there are several. Missing for folders. */
  readonly gguf?: string;
}

const TEXTS = new Set([
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer.model',
  'vocab.json',
  'merges.txt',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
]);
/** By preference: the first of which there is one. */
const WEIGHTS = [
  [/^model\.safetensors\.index\.json$/, /^model-\d{5}-of-\d{5}\.safetensors$/],
  [/^model\.safetensors$/],
  [/^pytorch_model\.bin\.index\.json$/, /^pytorch_model-\d{5}-of-\d{5}\.bin$/],
  [/^pytorch_model\.bin$/],
] as const;
/** What most people take where there is a choice. */
const USUAL = 'Q4_K_M';
const SPLIT = /-(\d{5})-of-(\d{5})\.gguf$/i;
/** Such as Q4_K_M, IQ2_XXS, BF16, at the end of a name or of a folder's. */
const QUANTISATION = /(?:^|[-._/])((?:UD-)?(?:I?Q\d\w*|F16|BF16|F32|FP16|FP32|MXFP4\w*|TQ\d\w*))(?=(?:-\d{5}-of-\d{5})?\.gguf$|\/)/i;

/** @throws {UsageError} when there is nothing to run, or the wanted quantisation is missing, with what there is */
export function selectFiles(name: ModelName, files: readonly HubFile[]): Selection {
  if (name.quantisation !== undefined) return selectGguf(name, files, name.quantisation);
  const weights = WEIGHTS.map((patterns) => files.filter(({ path }) => patterns.some((pattern) => pattern.test(path))));
  const found = weights.find((list) => list.length > 0);
  if (found && files.some(({ path }) => path === 'config.json'))
    return { files: [...files.filter(({ path }) => TEXTS.has(path)), ...found] };
  return selectGguf(name, files, undefined);
}

function selectGguf({ repository }: ModelName, files: readonly HubFile[], wanted: string | undefined): Selection {
  const all = files.filter(({ path }) => /\.gguf$/i.test(path) && !/mmproj|imatrix/i.test(path));
  if (all.length === 0)
    throw new UsageError(`${repository}: has neither weights as safetensors or PyTorch files beside a config.json, nor a GGUF file`);
  const groups = groupByModel(all);
  const chosen = choose(groups, wanted);
  if (chosen) return { files: chosen, gguf: chosen[0]!.path };
  const choices = [...groups].map(([stem, list]) => `${quantisationOf(list[0]!.path) ?? stem} (${formatBytes(sizeOf(list))})`);
  const problem = wanted === undefined ? 'has several GGUF files' : `has no GGUF file of ${wanted}`;
  throw new UsageError(`${repository}: ${problem}; name one behind a colon, as in ${repository}:${USUAL}. There are ${choices.join(', ')}`);
}

function choose(groups: ReadonlyMap<string, readonly HubFile[]>, wanted: string | undefined): readonly HubFile[] | undefined {
  const lists = [...groups.values()];
  if (wanted === undefined && lists.length === 1) return lists[0];
  const name = (wanted ?? USUAL).toLowerCase();
  return lists.find(([first]) => quantisationOf(first!.path)?.toLowerCase() === name);
}

/** The parts of a split model together, in order. */
function groupByModel(files: readonly HubFile[]): Map<string, HubFile[]> {
  const groups = new Map<string, HubFile[]>();
  for (const file of files.toSorted((a, b) => (a.path < b.path ? -1 : 1))) {
    const stem = file.path.replace(SPLIT, '.gguf');
    groups.set(stem, [...(groups.get(stem) ?? []), file]);
  }
  return groups;
}

const quantisationOf = (path: string): string | undefined => QUANTISATION.exec(path)?.[1];

const sizeOf = (files: readonly HubFile[]): number => files.reduce((sum, { bytes }) => sum + bytes, 0);

import { UsageError } from '../util/errors.ts';

/** A model of the hub as users name it: `owner/name`, `owner/name@revision`, `owner/name:Q4_K_M`, or both. */
export interface ModelName {
  /** Such as `Qwen/Qwen3-8B`; early models have no owner. */
  readonly repository: string;
  /** Branch, tag or commit. Default `main`. */
  readonly revision: string;
  /** Which of the GGUF files. */
  readonly quantisation?: string;
}

/** The hub's own limits. */
const MAX_NAME_LENGTH = 96;
const PART = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?$/;
const REVISION = /^(?!.*\.\.)[A-Za-z0-9][\w./-]{0,254}$/;
const QUANTISATION = /^[A-Za-z0-9_]{1,32}$/;

/** Whether a text could be a name of the hub; a folder of the same name goes first. */
export function looksLikeModelName(text: string): boolean {
  try {
    parseModelName(text);
    return true;
  } catch {
    return false;
  }
}

/** @throws {UsageError} naming the part that is wrong */
export function parseModelName(text: string): ModelName {
  const [, repository = '', revision, quantisation] = /^([^@:]*)(?:@([^:]*))?(?::(.*))?$/s.exec(text) ?? [];
  const fail = (what: string): never => {
    throw new UsageError(`${JSON.stringify(text)} is no model of the hub: ${what}`);
  };
  const parts = repository.split('/');
  const right = parts.length <= 2 && parts.every((part) => PART.test(part) && !/--|\.\./.test(part) && part.length <= MAX_NAME_LENGTH);
  if (!right) fail('owner/name expected, of letters, digits, ".", "_" and "-"');
  if (revision !== undefined && !REVISION.test(revision)) fail('after "@", a branch, tag or commit is expected');
  if (quantisation !== undefined && !QUANTISATION.test(quantisation))
    fail('after ":", the name of a quantisation such as Q4_K_M is expected');
  return { repository, revision: revision ?? 'main', ...(quantisation !== undefined && { quantisation }) };
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

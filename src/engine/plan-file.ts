/** Plans as files. What a file holds may be anything until it is checked. */
import { access, constants, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type JsonObject, isJsonObject, readJsonObject } from '../formats/json-file.ts';
import { KV_TYPES } from '../tensor/dtype.ts';
import { replaceFile } from '../util/durable-file.ts';
import { FormatError, UsageError } from '../util/errors.ts';
import { errorCode, reason } from '../util/system-errors.ts';
import type { CacheOnDisk } from './cache-homes.ts';
import { COMPUTED_BYTES, type ExecutionPlan, type PlanBytes } from './execution-plan.ts';
import type { HostBytes, HostPlan } from './host-plan.ts';

/** A plan has about 600 bytes. */
const MAX_FILE_BYTES = 64 * 1024;
/** Beyond any machine; products of two counts and a size stay exact enough to be compared with a budget. */
const MAX_COUNT = 2 ** 31 - 1;
/** Layers of the largest models; each could have a window of its own. */
const MAX_GROUPS = 1024;

const BYTES = [...COMPUTED_BYTES, 'program', 'results', 'total'] as const satisfies readonly (keyof PlanBytes)[];

const HOST_BYTES = ['weights', 'staging', 'kv', 'staged', 'scratch', 'program', 'total'] as const satisfies readonly (keyof HostBytes)[];

/** @throws {FormatError} naming the file, what was expected and what was found */
export async function readPlan(path: string): Promise<ExecutionPlan> {
  return parsePlan(path, await readJsonObject(path, MAX_FILE_BYTES));
}

/** In place of a former one, at once. @throws {DiskFullError} */
export async function writePlan(path: string, plan: ExecutionPlan): Promise<void> {
  await replaceFile(path, [`${JSON.stringify(plan, undefined, 2)}\n`]);
}

/**
 * Asked before a model is loaded: the folder must be there, and only a former plan or an empty file is replaced, for the flag could name the
 * table itself.
 * @throws {UsageError}
 */
export async function checkPlanPlace(path: string): Promise<void> {
  const folder = dirname(path);
  await access(folder, constants.W_OK).catch((cause: unknown) => {
    throw new UsageError(`plan ${path}: the folder ${folder} cannot be written to: ${reason(cause)}`, { path }, { cause });
  });
  const facts = await stat(path).catch((cause: unknown) => {
    if (errorCode(cause) !== 'ENOENT') throw cause;
    return undefined;
  });
  if (facts === undefined || (facts.isFile() && facts.size === 0)) return;
  const isPlan =
    facts.isFile() &&
    (await readPlan(path).then(
      () => true,
      () => false,
    ));
  if (!isPlan) throw new UsageError(`plan ${path}: something else has this name and is not replaced; choose another`, { path });
}

/**
 * A plan of its own with nothing but what a plan has. Whether it suits a model is another question: `checkPlan`.
 * @param file for messages
 * @throws {FormatError}
 */
export function parsePlan(file: string, value: unknown): ExecutionPlan {
  const plan = objectOf(file, 'the plan', value);
  const count = (name: string): number => wholeNumber(file, name, plan[name], 1, MAX_COUNT);
  const weights = objectOf(file, 'weights', plan['weights']);
  const kvType = KV_TYPES.find((type) => type === plan['kvType']);
  if (kvType === undefined) throw wrong(file, 'kvType', `one of ${KV_TYPES.join(', ')}`, plan['kvType']);
  const host = plan['host'] === undefined ? undefined : hostOf(file, objectOf(file, 'host', plan['host']));
  return Object.freeze({
    gpuBatchSize: count('gpuBatchSize'),
    numGpuBatches: count('numGpuBatches'),
    batchTokens: count('batchTokens'),
    sweepChunks: count('sweepChunks'),
    headRows: count('headRows'),
    kvType,
    hiddenOnDisk: wholeNumber(file, 'hiddenOnDisk', plan['hiddenOnDisk'], 0, MAX_COUNT),
    kvPages: Object.freeze(pagesOf(file, 'kvPages', plan['kvPages'], plan['kvDisk'] === null ? 1 : 0)),
    kvDisk: plan['kvDisk'] === null ? null : diskOf(file, plan['kvDisk']),
    attnSparsity: sparsityOf(file, plan['attnSparsity']),
    weights: Object.freeze({
      share: shareOf(file, 'weights.share', weights['share']),
      slots: wholeNumber(file, 'weights.slots', weights['slots'], 0, MAX_COUNT),
      streamedBytes: wholeNumber(file, 'weights.streamedBytes', weights['streamedBytes'], 0),
    }),
    bytes: bytesOf(file, 'bytes', plan['bytes'], BYTES),
    ...(host && { host }),
  });
}

function diskOf(file: string, value: unknown): CacheOnDisk {
  const disk = objectOf(file, 'kvDisk', value);
  return Object.freeze({
    workingPages: Object.freeze(pagesOf(file, 'kvDisk.workingPages', disk['workingPages'], 1)),
    bayPages: Object.freeze(pagesOf(file, 'kvDisk.bayPages', disk['bayPages'], 1)),
    bytes: wholeNumber(file, 'kvDisk.bytes', disk['bytes'], 0),
  });
}

function pagesOf(file: string, what: string, value: unknown, least: number): number[] {
  if (!Array.isArray(value) || value.length > MAX_GROUPS) throw wrong(file, what, `a list of at most ${MAX_GROUPS} numbers`, value);
  return value.map((pages: unknown, i) => wholeNumber(file, `${what}[${i}]`, pages, least, MAX_COUNT));
}

function hostOf(file: string, host: JsonObject): HostPlan {
  return Object.freeze({
    share: shareOf(file, 'host.share', host['share']),
    uploadedBytes: wholeNumber(file, 'host.uploadedBytes', host['uploadedBytes'], 0),
    bytes: bytesOf(file, 'host.bytes', host['bytes'], HOST_BYTES),
  });
}

/** Those of an object that have these names, and no others. */
function bytesOf<Name extends string>(file: string, what: string, value: unknown, names: readonly Name[]): Readonly<Record<Name, number>> {
  const bytes = objectOf(file, what, value);
  const sizes = names.map((name) => {
    const size = name === 'results' && bytes[name] === undefined ? 0 : bytes[name]; // earlier plans have none
    return [name, wholeNumber(file, `${what}.${name}`, size, 0)] as const;
  });
  return Object.freeze(Object.fromEntries(sizes) as Record<Name, number>);
}

function shareOf(file: string, what: string, value: unknown): number {
  if (typeof value !== 'number' || !(value >= 0 && value <= 1)) throw wrong(file, what, 'a number from 0 to 1', value);
  return value;
}

/** Earlier plans have none. */
function sparsityOf(file: string, value: unknown = 1): number {
  if (typeof value !== 'number' || !(value > 0 && value <= 1)) throw wrong(file, 'attnSparsity', 'a number in (0, 1]', value);
  return value;
}

function wholeNumber(file: string, what: string, value: unknown, least: number, most: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most) return value;
  throw wrong(file, what, `a whole number from ${least} to ${most}`, value);
}

function objectOf(file: string, what: string, value: unknown): JsonObject {
  if (isJsonObject(value)) return value;
  throw wrong(file, what, 'an object', value);
}

/** Characters of a wrong value in a message. */
const MAX_SHOWN = 40;

function wrong(file: string, what: string, expected: string, value: unknown): FormatError {
  const got = value === undefined ? 'nothing' : (JSON.stringify(value)?.slice(0, MAX_SHOWN) ?? typeof value);
  return new FormatError(file, `no plan: ${what}: ${expected} expected, got ${got}`, { what, expected });
}

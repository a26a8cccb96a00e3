import type { TableFormat } from './paths.ts';
import type { JobOptions } from './types.ts';

export const DEFAULT_COLUMN = 'completion';
/** A prompt in a message is cut to this. Characters. */
const MAX_SHOWN = 160;

/** What decides a job's results beside its input and its model, in readable form. Retried and forced runs are still the same job. */
export function jobSettings(options: JobOptions, format: TableFormat): Record<string, unknown> {
  const { prompt, system, user, column = DEFAULT_COLUMN, params = {}, returnTokenIds = false } = options;
  const given = Object.entries(params).filter(([, value]) => value !== undefined);
  return {
    format,
    prompt: prompt ?? null,
    ...(system !== undefined && { system }),
    ...(user !== undefined && { user }),
    column,
    returnTokenIds,
    ...Object.fromEntries(given),
  };
}

/** One text per fact that is not the same in both; empty when they are equal. */
export function differences(was: Readonly<Record<string, unknown>>, is: Readonly<Record<string, unknown>>): string[] {
  return [...new Set([...Object.keys(was), ...Object.keys(is)])]
    .filter((name) => JSON.stringify(was[name]) !== JSON.stringify(is[name]))
    .map((name) => `${name} was ${show(was[name])}, is ${show(is[name])}`);
}

function show(value: unknown): string {
  const text = value === undefined || value === null ? 'not given' : JSON.stringify(value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}…` : text;
}

/** Flags that are shortened, as Python's argparse lets users do. */
import type { Command } from 'commander';

/**
 * The arguments of `command` with the flags in full that are the beginning of one flag only; `--flag=value` too. Others stay as they are, for the
 * command to refuse.
 * @throws {CommanderError} for the beginning of several flags, which are named
 */
export function withFullFlags(command: Command, args: readonly string[]): string[] {
  const flags = [...command.options.flatMap(({ long }) => long ?? []), '--help'];
  const end = args.indexOf('--');
  const last = end === -1 ? args.length : end;
  return args.map((arg, i) => {
    const [, name, value] = /^(--[a-z][a-z-]*)(=[\s\S]*)?$/.exec(arg) ?? [];
    if (i >= last || name === undefined || flags.includes(name)) return arg;
    const meant = flags.filter((flag) => flag.startsWith(name));
    if (meant.length > 1) command.error(`error: ambiguous option '${name}': it could be ${meant.join(', ')}`);
    return meant.length === 1 ? `${meant[0]}${value ?? ''}` : arg;
  });
}

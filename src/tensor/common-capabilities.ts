/** What devices that are joined to one can. */
import type { ArenaRules, DeviceCapabilities } from './device.ts';

/** What all of them can. Pages that rest elsewhere are not brought to several devices. */
export function commonCapabilities(all: readonly DeviceCapabilities[]): DeviceCapabilities {
  const [first] = all;
  const inAll = <T>(of: (capabilities: DeviceCapabilities) => readonly T[]): T[] =>
    of(first!).filter((item) => all.every((each) => of(each).includes(item)));
  return {
    ...first!,
    exactWeights: inAll(({ exactWeights }) => exactWeights),
    weights: inAll(({ weights }) => weights),
    kv: inAll(({ kv }) => kv),
    pagedAttention: all.every(({ pagedAttention }) => pagedAttention),
    stagedPages: false,
    sparseAttention: all.every(({ sparseAttention }) => sparseAttention),
    splitLookups: all.every(({ splitLookups }) => splitLookups),
  };
}

/** Arenas that each of them gives. */
export function commonRules(all: readonly (ArenaRules | undefined)[]): ArenaRules {
  return {
    mostBytes: Math.min(...all.map((rules) => rules?.mostBytes ?? Infinity)),
    mostHostBytes: Math.min(...all.map((rules) => rules?.mostHostBytes ?? Infinity)),
    paddingBytes: Math.max(...all.map((rules) => rules?.paddingBytes ?? 0)),
  };
}

/** RAM beside a GPU: how much of the weights rests there, and what else a plan takes of it. */
import { MemoryError, UsageError } from '../util/errors.ts';
import { formatBytes } from '../util/units.ts';
import type { TierShares, WeightPlacement } from '../weights/placement.ts';
import { PLAN_ITEMS, totalOf } from './plan-items.ts';
import type { PlaceWeights } from './weight-homes.ts';

/** Where RAM goes, in bytes. */
export interface HostBytes {
  /** Those that are copied to the GPU for every sweep. */
  readonly weights: number;
  /** Buffers through which weights are read. */
  readonly staging: number;
  /** The cache where it lies beside the GPU, and slots for what of it is on disk; else 0. */
  readonly kv: number;
  readonly staged: number;
  /** What goes to its attention and comes back. */
  readonly scratch: number;
  /** The program itself and log-probabilities of its rows, where the budget counts them. */
  readonly program: number;
  readonly total: number;
}

/** What a cache beside a GPU takes of RAM. */
export type BesideBytes = Pick<HostBytes, 'kv' | 'staged' | 'scratch'>;

const NOTHING_BESIDE: BesideBytes = { kv: 0, staged: 0, scratch: 0 };

/** What a plan uses of RAM beside a GPU. */
export interface HostPlan {
  /** Share of the weights' bytes that rests in RAM. */
  readonly share: number;
  /** Bytes that every sweep copies to the GPU. */
  readonly uploadedBytes: number;
  readonly bytes: HostBytes;
}

export interface HostOptions {
  /** Where shares of the weights would lie. */
  readonly place: (shares: TierShares) => WeightPlacement;
  /** Share of the weights that rests in RAM. Default: what is not on the GPU, as far as there is room. */
  readonly share?: number | undefined;
  /** Bytes that may be used in all. */
  readonly budgetBytes: number;
  /** Of those, bytes that weights may take unasked. Default: all that is left. */
  readonly mostHeldBytes?: number | undefined;
  readonly stagingBytes: number;
  /** Room that weights leave to a cache beside the GPU. Default 0. */
  readonly besideBytes?: number | undefined;
  /** What the program takes beside the model, where the budget counts it. Default 0. */
  readonly programBytes?: number | undefined;
}

/** Shares are tried in steps of 1 / STEPS. */
const STEPS = 1000;

/** Decides for each share on the GPU what rests in RAM. */
export class HostPlanner {
  readonly #options: HostOptions;
  /** Shares in RAM by those on the GPU. */
  readonly #shares = new Map<number, number>();

  constructor(options: HostOptions) {
    this.#options = options;
  }

  /** Where the weights lie when this share of them is on the GPU. */
  readonly place: PlaceWeights = (resident) => this.#options.place({ resident, held: this.shareBeside(resident) });

  /** The share in RAM. */
  shareBeside(resident: number): number {
    if (this.#options.share !== undefined) return this.#options.share;
    const known = this.#shares.get(resident) ?? this.#largestShare(resident);
    this.#shares.set(resident, known);
    return known;
  }

  /** @throws {MemoryError} with the largest items and what would fit */
  plan(resident: number, beside: BesideBytes = NOTHING_BESIDE): HostPlan {
    const { stagingBytes: staging, programBytes: program = 0, budgetBytes } = this.#options;
    const share = this.shareBeside(resident);
    const { heldBytes: weights, uploadedBytes } = this.place(resident);
    const items = { weights, staging, ...beside, program };
    const total = totalOf(items);
    if (total > budgetBytes) throw this.#tooLarge(items, resident);
    return Object.freeze({ share, uploadedBytes, bytes: Object.freeze({ ...items, total }) });
  }

  /**
   * A plan that was made before, with the bytes of this process.
   * @param slackBytes by which it may go beyond the budget
   * @throws {UsageError} naming what does not match
   */
  check({ share, uploadedBytes, bytes }: HostPlan, resident: number, slackBytes: number, beside: BesideBytes = NOTHING_BESIDE): HostPlan {
    const { stagingBytes: staging, programBytes: program = 0, budgetBytes } = this.#options;
    const placement = this.#options.place({ resident, held: share });
    const found = [
      ['host.uploadedBytes', placement.uploadedBytes, uploadedBytes],
      ['host.bytes.weights', placement.heldBytes, bytes.weights],
      ['host.bytes.staging', staging, bytes.staging],
      ['host.bytes.kv', beside.kv, bytes.kv],
      ['host.bytes.staged', beside.staged, bytes.staged],
      ['host.bytes.scratch', beside.scratch, bytes.scratch],
    ] as const;
    for (const [what, expected, got] of found)
      if (expected !== got) throw new UsageError(`plan: ${what}: ${expected} expected for this model, device and flags, got ${got}`);
    const total = placement.heldBytes + staging + totalOf(beside) + program;
    if (total - slackBytes > budgetBytes)
      throw new UsageError(`plan: it needs ${formatBytes(total)} of RAM, at most ${formatBytes(budgetBytes)} may be used`);
    return Object.freeze({ share, uploadedBytes, bytes: Object.freeze({ ...bytes, program, total }) });
  }

  #largestShare(resident: number): number {
    const { place, budgetBytes, stagingBytes, besideBytes = 0, programBytes = 0, mostHeldBytes = Infinity } = this.#options;
    const room = Math.min(budgetBytes - stagingBytes - besideBytes - programBytes, mostHeldBytes);
    const fits = (held: number): boolean => place({ resident, held }).heldBytes <= room;
    const rest = 1 - resident;
    if (fits(rest)) return rest;
    let [low, high] = [0, Math.floor(rest * STEPS)];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (fits(middle / STEPS)) low = middle;
      else high = middle - 1;
    }
    return low / STEPS;
  }

  #tooLarge(items: Omit<HostBytes, 'total'>, resident: number): MemoryError {
    const { budgetBytes } = this.#options;
    const needed = totalOf(items);
    const largest = (Object.keys(items) as (keyof typeof items)[])
      .filter((name) => items[name] > 0)
      .toSorted((a, b) => items[b] - items[a])
      .slice(0, 3)
      .map((name) => `${PLAN_ITEMS[name]} ${formatBytes(items[name])}`);
    const percent = Math.floor(100 * this.#largestShare(resident));
    const fitting =
      items.weights > 0 ? `At most ${percent} percent of the weights fit into RAM` : `At least ${formatBytes(needed)} are needed`;
    return new MemoryError(
      `the model needs ${formatBytes(needed)} of RAM beside the GPU, ${formatBytes(budgetBytes)} may be used; largest: ${largest.join(', ')}. ${fitting}`,
      { needed, budgetBytes },
    );
  }
}

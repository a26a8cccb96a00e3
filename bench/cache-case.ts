/** Rows whose keys and values are on disk. */
export interface CacheCase {
  readonly shape: string;
  readonly rows: number;
  readonly batches: number;
  /** That each row attends to. */
  readonly positions: number;
  readonly sweeps: number;
  /** For the file. */
  readonly folder: string;
}

export interface CacheRun {
  /** Bytes of keys and values that a sweep reads. */
  readonly cacheBytes: number;
  /** Seconds of each sweep. */
  readonly seconds: readonly number[];
  /** That the system counted in all sweeps. */
  readonly diskBytes: number;
  /** Bytes a second of the disk alone, before the first sweep and behind each. */
  readonly diskRates: readonly number[];
  readonly peakBytes: number;
  readonly plannedBytes: number;
}

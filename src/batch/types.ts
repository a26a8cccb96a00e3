import type { Readable } from 'node:stream';
import type { LaneTotals } from '../util/lanes.ts';
import type { ExpectedRows, GenerationParams, RunSeconds, RunStats, RunTokens, TextGenerator } from '../requests.ts';

/** `auto` goes by the extension of the input: .csv, .jsonl, .ndjson. */
export type JobFormat = 'auto' | 'csv' | 'jsonl';

export interface JobOptions {
  /** Path of the table, or `-` for `stdin`, which needs a format. */
  readonly input: string;
  /** Path of the result; its folder must exist. `OUT.journal`, `.done`, `.lock`, `.input` and `.part` beside it are the job's. */
  readonly output: string;
  /** Default `auto`. */
  readonly format?: JobFormat;
  /**
   * Template with `{{column}}`. CSV needs this or `user`; without either, plain JSONL objects are read at their key `prompt` or `messages`.
   * Raw text: no escapes.
   */
  readonly prompt?: string;
  /** Template of what the user says in a conversation, in place of `prompt`. The model must have a chat template. */
  readonly user?: string;
  /**
   * Template of what the system says before the user. Without `user` it is put before the messages of a row, unless they have a system
   * message, and makes a row's text what the user says.
   */
  readonly system?: string;
  /** Name of the new column or key. Default `completion`. The input must not have it yet. */
  readonly column?: string;
  /** The user's flags, and only those: what is left out is left to the generator. Fields of a request body win over them. */
  readonly params?: GenerationParams;
  /** Rows of plain objects gain `token_ids`. Default false. */
  readonly returnTokenIds?: boolean;
  /**
   * What `openGenerator` will open, readable and known before it is opened, such as `{ model: 'tidy-opt-5m', compute: 'f32' }`. While it
   * is the same, nothing is opened for a finished job; when it differs, the model is opened and its fingerprint decides.
   */
  readonly generator: Readonly<Record<string, string>>;
  /** Replace an output that is not this job's. Default false. */
  readonly force?: boolean;
  /** Drop what an earlier run of this output saved. Default false. */
  readonly restart?: boolean;
  /** Generate rows again that failed in an earlier run. Default false. */
  readonly retryFailed?: boolean;
  /** Read when `input` is `-`. */
  readonly stdin?: Readable;
  /** Finish the sweep, save, and end with exit code 4. */
  readonly signal?: AbortSignal;
  /** Leave the sweep at the next layer, save what finished, and end with exit code 4. */
  readonly abortSignal?: AbortSignal;
  /** After every sweep and at every change of phase. Rows that it counts are on disk. */
  readonly onProgress?: (progress: JobProgress) => void;
}

export interface JobRows {
  /** Rows of the input. */
  readonly total: number;
  /** Rows with a completion. */
  readonly done: number;
  /** Error rows. */
  readonly failed: number;
  /** Those of `done` and `failed` that an earlier run had generated. */
  readonly reused: number;
}

/** `reading` counts the rows and finds what is left to do; `total` grows until it ends. */
export type JobPhase = 'reading' | 'loading' | 'generating' | 'writing';

export interface JobProgress {
  readonly phase: JobPhase;
  readonly rows: JobRows;
  /** Of this run; missing before the first sweep. */
  readonly stats?: RunStats;
  /** Seconds since the job began. */
  readonly seconds: number;
}

/** What a job did, as `flexllmgen run` prints it: one object of JSON. Tokens and seconds are those of this run, without reused rows. */
export interface JobSummary {
  readonly rows: JobRows;
  readonly tokens: RunTokens;
  /** `total` is the wall time of the job, the others as the generator reports them. */
  readonly seconds: RunSeconds & { readonly total: number };
  /** Per second of prefill and decode: generated tokens, and prompt and generated tokens. 0 when nothing was generated. */
  readonly tokensPerSecond: { readonly generated: number; readonly total: number };
  /** Most bytes held at one time; `cpu` is the process's resident memory. */
  readonly peakBytes: { readonly cpu: number; readonly gpu: number; readonly disk: number };
  /** What computed, such as `ggml cpu zen4, 2 threads`; empty when no model was needed. */
  readonly kernels: string;
  /** Lanes that did something since the model was opened; empty when none was needed. */
  readonly lanes: readonly LaneTotals[];
}

/** 0: every row has a completion. 3: some rows failed. 4: interrupted; the same command goes on. */
export type JobExitCode = 0 | 3 | 4;

export interface JobOutcome {
  readonly summary: JobSummary;
  readonly exitCode: JobExitCode;
  /** For people: why the job was interrupted and what to do, that it had been finished before, or what looks like a mistake. */
  readonly notice?: string;
}

/** Called at most once, with the rows that are left to generate; the job disposes of what it returns. */
export type OpenGenerator = (rows: ExpectedRows) => Promise<TextGenerator & AsyncDisposable>;

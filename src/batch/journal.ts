import { dirname } from 'node:path';
import { crashPoint } from '../util/crash-point.ts';
import { DurableWriter, syncFolder } from '../util/durable-file.ts';
import type { JournalContent } from './journal-file.ts';
import { JournalIndex } from './journal-index.ts';
import { type Finished, finishedLine, headerLine, type JournalHeader, rowLine } from './journal-lines.ts';
import type { RowOutcome } from './rows.ts';

/** Rows of this run that are on disk. */
export interface SavedRows {
  readonly done: number;
  readonly failed: number;
}

/** More than this waits for the disk; the generator waits with it. Writing takes three times as much. Bytes. */
const MAX_BACKLOG = 2 ** 20;

/**
 * Append-only file of results. `commit` writes and syncs behind the back of its caller, all lines that came meanwhile in one go, so that a
 * slow disk makes commits larger, and sweeps slower only when much waits.
 */
export class Journal implements AsyncDisposable {
  readonly index: JournalIndex;
  readonly #writer: DurableWriter;
  #waiting = { done: 0, failed: 0 };
  #saved = { done: 0, failed: 0 };
  #committing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  private constructor(writer: DurableWriter, index: JournalIndex) {
    this.#writer = writer;
    this.index = index;
  }

  /** A journal without rows, on disk, in place of one that is there. */
  static async create(path: string, header: JournalHeader): Promise<Journal> {
    const journal = new Journal(await DurableWriter.create(path), new JournalIndex());
    try {
      journal.#writer.add(headerLine(header));
      await journal.#writer.write('journal-header');
      await journal.#writer.sync();
      await syncFolder(dirname(path));
    } catch (error) {
      await journal.#writer[Symbol.asyncDispose]();
      throw error;
    }
    return journal;
  }

  /** Goes on after the last whole line. */
  static async resume(path: string, { validBytes, index }: JournalContent): Promise<Journal> {
    return new Journal(await DurableWriter.resume(path, validBytes), index);
  }

  get path(): string {
    return this.#writer.path;
  }

  get saved(): SavedRows {
    return this.#saved;
  }

  /** Waits only when too much is waiting for the disk already. @throws what an earlier commit failed with */
  async append(row: number, hash: bigint, outcome: RowOutcome): Promise<void> {
    const failed = 'problem' in outcome;
    this.index.set(row, hash, this.#writer.position, failed);
    this.#writer.add(rowLine(row, hash, outcome));
    this.#waiting[failed ? 'failed' : 'done']++;
    if (this.#writer.buffered > MAX_BACKLOG) await this.settle();
  }

  /** Begins to save what was appended. @throws what an earlier commit failed with */
  commit(): void {
    this.#throwFailure();
    this.#start();
  }

  /** Resolves when all that was appended is on disk. */
  async settle(): Promise<void> {
    this.#start();
    await this.#committing;
    this.#throwFailure();
  }

  async finish(finished: Finished): Promise<void> {
    await this.settle();
    this.#writer.add(finishedLine(finished));
    await this.#writer.write();
    await this.#writer.sync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#committing;
    await this.#writer[Symbol.asyncDispose]();
  }

  #start(): void {
    if (this.#failure !== undefined) return;
    this.#committing ??= this.#commitAll().finally(() => {
      this.#committing = undefined;
    });
  }

  async #commitAll(): Promise<void> {
    while (this.#writer.buffered > 0 && this.#failure === undefined) {
      const start = this.#writer.position - this.#writer.buffered;
      const { done, failed } = this.#waiting;
      this.#waiting = { done: 0, failed: 0 };
      try {
        await this.#writer.write('journal-line');
        crashPoint('journal-written');
        await this.#writer.sync();
        crashPoint('journal-synced');
        this.#saved = { done: this.#saved.done + done, failed: this.#saved.failed + failed };
      } catch (error) {
        this.#failure = { error };
        // Half a line would be cut off when the job goes on; leaving none is only tidier.
        await this.#writer.truncate(start).catch(() => {});
      }
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

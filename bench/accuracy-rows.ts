/** Labelled rows that the bundled model has not been trained on, made by the script that made its training set. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { UsageError } from '../src/util/errors.ts';

export interface LabelledRow {
  readonly task: string;
  readonly prompt: string;
  /** Follows the prompt after a space. */
  readonly expected: string;
}

const SCRIPT = fileURLToPath(new URL('../scripts/tidy-opt-5m/tasks.py', import.meta.url));
/** Training has used seeds of 1,001 and a little more, the tokenizer 99, `examples/data/messy.csv` texts. */
const SEED = 1_000_000;
const COUNT = 5_000;
/** Of what the script prints: rows of another generator would give figures that cannot be compared. */
const SHA256 = '3a4a3f2e78b4329c89b9f8e58611b5143e4d264687afaf9a888fe8632b46e64f';
const MAX_BYTES = 16 << 20;

/** @throws {UsageError} without Python, or when it makes other rows than those that were measured */
export async function labelledRows(): Promise<readonly LabelledRow[]> {
  const python = process.platform === 'win32' ? 'python' : 'python3';
  const { stdout } = await promisify(execFile)(python, [SCRIPT, String(SEED), String(COUNT)], { maxBuffer: MAX_BYTES }).catch(
    (cause: Error) => {
      throw new UsageError(`accuracy: ${python} makes the rows and did not run: ${cause.message}`, {}, { cause });
    },
  );
  const text = stdout.replaceAll('\r\n', '\n');
  const found = createHash('sha256').update(text).digest('hex');
  if (found !== SHA256) throw new UsageError(`accuracy: ${SCRIPT} made rows with SHA-256 ${found}, expected ${SHA256}`);
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as LabelledRow);
}

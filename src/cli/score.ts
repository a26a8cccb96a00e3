/** A labelled row with its answer. */
export interface AnsweredRow {
  readonly task: string;
  readonly input: string;
  readonly expected: string;
  /** Trimmed. */
  readonly answer: string;
}

export interface TaskScore {
  readonly task: string;
  /** Rows whose answer equals the label, character by character. */
  readonly right: number;
  readonly rows: number;
  /** The first row of the task, to look at. */
  readonly example: AnsweredRow;
}

/** Counts right answers by task, in the order in which tasks first appear. */
export function scoreTasks(rows: Iterable<AnsweredRow>): TaskScore[] {
  const scores = new Map<string, TaskScore>();
  for (const row of rows) {
    const { task, right, rows: count, example } = scores.get(row.task) ?? { task: row.task, right: 0, rows: 0, example: row };
    scores.set(task, { task, right: right + (row.answer === row.expected ? 1 : 0), rows: count + 1, example });
  }
  return [...scores.values()];
}

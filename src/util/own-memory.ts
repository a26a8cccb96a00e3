/** Memory of the program itself, beside the model, where a budget is to hold. */
import { setFlagsFromString } from 'node:v8';

/** What a job adds to a program that has opened a model: rows on their way, graphs, the collector's slack. Measured: docs/offloading.md. */
const GROWTH_BYTES = 52 << 20;
/** What it has in the end however little it began with. */
const LEAST_BYTES = 124 << 20;

/**
 * Has V8 collect early. By itself its heap grows to 100 MB, and to 160 MB with Node 24, whatever is alive. Rows come and go in seconds and need little of
 * that. Both flags are read each time when the heap would grow; its sizes could only be set before it starts.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--heap-growing-percent=10');
}

/** Most bytes that the program will have, its small heap, code and libraries. */
export const ownBytes = (): number => Math.max(process.memoryUsage.rss() + GROWTH_BYTES, LEAST_BYTES);

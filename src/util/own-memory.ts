/** Memory of the program itself, beside the model, where a budget is to hold. */
import { setFlagsFromString } from 'node:v8';

/** What a job adds to a program that has opened a model: rows on their way, graphs, code, the heap's slack. Measured: docs/offloading.md. */
const GROWTH_BYTES = 34 << 20;

/**
 * Has V8 collect early. By itself its heap grows to 100 MB, and to 160 MB with Node 24, whatever is alive. Rows come and go in seconds and need little of
 * that. Both flags are read each time when the heap would grow; its sizes could only be set before it starts.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--heap-growing-percent=10');
}

/** Most bytes that a program with a small heap will have when it runs the model that it has just opened. */
export const ownBytes = (): number => process.memoryUsage.rss() + GROWTH_BYTES;

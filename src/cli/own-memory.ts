/** Memory of the command line itself under a budget. */
import { setFlagsFromString } from 'node:v8';

/**
 * Has the collector run early and often. Rows pass through in seconds, and the heap that V8 takes for them by itself, up to 100 MB, is better used for
 * weights and cache. Both flags are read whenever the heap would grow; the sizes of its parts could only be set before it starts.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--heap-growing-percent=25');
}

import koffi from 'koffi';
import type { Pointer } from './ggml.ts';

/** Of x86 and most ARM systems. */
const HUGE_PAGE_BYTES = 2n << 20n;
/** MADV_HUGEPAGE of Linux */
const ADVICE = 14;

type Advise = (address: bigint, bytes: bigint, advice: number) => number;

let advise: Advise | undefined;

/**
 * Asks Linux to back fresh memory with huge pages: filling it then costs a fault for every 2 MiB instead of every 4 KiB, which takes longer than
 * reading the weights from a fast disk. Where the system cannot, nothing happens.
 */
export function adviseHugePages(address: Pointer<'memory'>, byteLength: number): void {
  if (process.platform !== 'linux') return;
  const start = ((address + HUGE_PAGE_BYTES - 1n) / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
  const end = ((address + BigInt(byteLength)) / HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES;
  if (end <= start) return;
  // int madvise(void * addr, size_t length, int advice); of the C library that the process runs with
  advise ??= koffi.load(null).func('madvise', 'int', ['uintptr_t', 'size_t', 'int']) as unknown as Advise;
  advise(start, end - start, ADVICE);
}

import koffi from 'koffi';

/** Of x86 and most ARM systems. */
export const HUGE_PAGE_BYTES: number = 2 << 20;
/** MADV_HUGEPAGE of Linux */
const ADVICE = 14;

type Advise = (address: bigint, bytes: bigint, advice: number) => number;

let advise: Advise | undefined;

/**
 * Asks Linux to back fresh memory with huge pages: filling it then costs a fault for every 2 MiB instead of every 4 KiB, which takes longer than
 * reading the weights from a fast disk. Where the system cannot, nothing happens.
 */
export function adviseHugePages(address: bigint, byteLength: number): void {
  if (process.platform !== 'linux') return;
  const page = BigInt(HUGE_PAGE_BYTES);
  const start = ((address + page - 1n) / page) * page;
  const end = ((address + BigInt(byteLength)) / page) * page;
  if (end <= start) return;
  // int madvise(void * addr, size_t length, int advice); of the C library that the process runs with
  advise ??= koffi.load(null).func('madvise', 'int', ['uintptr_t', 'size_t', 'int']) as unknown as Advise;
  advise(start, end - start, ADVICE);
}

/** What Linux keeps of files in memory, and buffers that its direct reads can fill. */
import koffi from 'koffi';
import { adviseHugePages, HUGE_PAGE_BYTES } from './huge-pages.ts';

const PAGE_BYTES = 4096;
/** PROT_READ, MAP_SHARED and MAP_FAILED of Linux */
const PROTECTION = 1;
const SHARED = 1;
const FAILED = 2n ** 64n - 1n;

interface MemoryCalls {
  // void * mmap(void * addr, size_t length, int prot, int flags, int fd, off_t offset);
  readonly mmap: (address: null, bytes: number, protection: number, flags: number, fd: number, offset: number) => bigint;
  // int mincore(void * addr, size_t length, unsigned char * vec);
  readonly mincore: (address: bigint, bytes: number, pages: Uint8Array) => number;
  // int munmap(void * addr, size_t length);
  readonly munmap: (address: bigint, bytes: number) => number;
}

let calls: MemoryCalls | undefined;

function memoryCalls(): MemoryCalls {
  if (calls) return calls;
  const library = koffi.load(null);
  calls = {
    mmap: library.func('mmap', 'void*', ['void*', 'size_t', 'int', 'int', 'int', 'int64']),
    mincore: library.func('mincore', 'int', ['void*', 'size_t', 'void*']),
    munmap: library.func('munmap', 'int', ['void*', 'size_t']),
  };
  return calls;
}

/** Share of an open file that is in the page cache, from 0 to 1; nothing is read. Undefined where the system does not say. */
export function cachedShare(fd: number, bytes: number): number | undefined {
  if (process.platform !== 'linux' || bytes === 0) return undefined;
  const { mmap, mincore, munmap } = memoryCalls();
  const address = mmap(null, bytes, PROTECTION, SHARED, fd, 0);
  if (!address || address === FAILED) return undefined;
  try {
    const pages = new Uint8Array(Math.ceil(bytes / PAGE_BYTES));
    if (mincore(address, bytes, pages) !== 0) return undefined;
    return pages.reduce((sum, page) => sum + (page & 1), 0) / pages.length;
  } finally {
    munmap(address, bytes);
  }
}

/**
 * A buffer that direct reads can fill, on huge pages where the system has them: a request to the disk lists few pieces of memory, and 4 KiB pages
 * make every piece so small that a fast disk reaches half its rate.
 */
export function directBuffer(bytes: number): Uint8Array<ArrayBuffer> {
  const alignment = bytes >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : PAGE_BYTES;
  const room = Math.ceil(bytes / alignment) * alignment;
  const buffer = new Uint8Array(room + alignment);
  const address = koffi.address(buffer);
  const offset = (alignment - Number(address % BigInt(alignment))) % alignment;
  adviseHugePages(address + BigInt(offset), room);
  return buffer.subarray(offset, offset + bytes);
}

/** Whether a view begins at a multiple of `alignment` bytes of the machine's memory. */
export const isAligned = (view: Uint8Array, alignment: number): boolean => koffi.address(view) % BigInt(alignment) === 0n;

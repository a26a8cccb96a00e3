import { type Kernels, openKernels } from '../../src/native/kernels.ts';

/** The kernels of every instruction set that is built and runs here, by name. */
export function availableKernels(): [string, Kernels][] {
  return ['portable', 'avx2', 'vnni', 'vnni-bf16'].flatMap((isa): [string, Kernels][] => {
    const kernels = openKernels(isa);
    return kernels ? [[isa, kernels]] : [];
  });
}

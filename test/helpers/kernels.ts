import { type Kernels, openKernels } from '../../src/native/kernels.ts';

/** Other builds of the kernels, such as those with sanitizers. */
const FOLDER = process.env['FLEXLLMGEN_TEST_KERNELS'];

/** These are slow, and are there for what they say of memory, not of numbers. */
export const areSanitized: boolean = FOLDER?.endsWith('-sanitize') ?? false;

/** The kernels of every instruction set that is built and runs here, by name. */
export function availableKernels(): [string, Kernels][] {
  return ['portable', 'avx2', 'vnni', 'vnni-bf16', 'amx', 'neon-dotprod', 'neon-i8mm'].flatMap((isa): [string, Kernels][] => {
    const kernels = openKernels(isa, FOLDER);
    return kernels ? [[isa, kernels]] : [];
  });
}

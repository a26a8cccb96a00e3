import { GGML_TYPE } from '../native/ggml.ts';
import type { DType } from './dtype.ts';

/** `enum flx_type`: the numbers of ggml, and our own for what it does not have. */
export const KERNEL_TYPE: Readonly<Record<DType, number>> = { ...GGML_TYPE, g4: 1000 };

/** What ggml's devices compute, and a backend with which block types. */
import { type Backend, type BackendDevice, GGML_TYPE, type GgmlBase, type TensorPointer } from '../native/ggml.ts';
import type { DeviceCapabilities } from './device.ts';
import { QUANT_BLOCKS, type QuantType } from './dtype.ts';

/** Whole blocks of every type. */
const COLUMNS = 256;
const ROWS = 32;
/** Tensors described for one type. */
const MAX_TENSORS = 16;

/** Types of weights that `device` multiplies, alone and as experts, and looks rows up in. Nothing is allocated or computed. */
export function supportedQuantTypes(ggml: GgmlBase, device: BackendDevice): QuantType[] {
  const types = Object.keys(QUANT_BLOCKS) as QuantType[];
  return types.filter((type) => supports(ggml, device, type));
}

function supports(ggml: GgmlBase, device: BackendDevice, type: QuantType): boolean {
  const context = ggml.init({ mem_size: ggml.tensorOverhead() * MAX_TENSORS, mem_buffer: null, no_alloc: true });
  try {
    const weight = ggml.newTensor2d(context, GGML_TYPE[type], COLUMNS, ROWS);
    const x = ggml.newTensor2d(context, GGML_TYPE.f32, COLUMNS, ROWS);
    const ids = ggml.newTensor2d(context, GGML_TYPE.i32, 1, ROWS);
    const experts = ggml.reshape4d(context, weight, COLUMNS, ROWS / 2, 2, 1);
    const tokens = ggml.reshape4d(context, x, COLUMNS, 1, ROWS, 1);
    const rows = ggml.newTensor1d(context, GGML_TYPE.i32, ROWS);
    const uses: TensorPointer[] = [
      ggml.mulMat(context, weight, x),
      ggml.mulMatId(context, experts, tokens, ids),
      ggml.getRows(context, weight, rows),
    ];
    return uses.every((use) => ggml.deviceSupportsOp(device, use));
  } finally {
    ggml.free(context);
  }
}

/** What ggml's devices compute. */
export const ggmlCapabilities = (base: GgmlBase, backend: Backend): DeviceCapabilities => ({
  // ggml rounds the activations to the type of f16 and bf16 weights, and to 8 bits for block types.
  exactWeights: ['f32'],
  weights: ['f32', 'bf16', ...supportedQuantTypes(base, base.backendDevice(backend))],
  kv: ['f32', 'f16'],
  pagedAttention: false,
  stagedPages: false,
  cacheOrder: 'positions',
  sparseAttention: false,
  splitLookups: false,
});

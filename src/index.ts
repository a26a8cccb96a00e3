/** The public API. Nothing else is exported. */
export { LLM } from './llm.ts';
export type { LoadOptions } from './llm/load-options.ts';
export type {
  ChatMessage,
  FinishReason,
  GenerationEvent,
  GenerationParams,
  GenerationRequest,
  GenerationResult,
  GeneratorInfo,
  PromptInput,
  RunSeconds,
  RunStats,
  RunTokens,
  StreamOptions,
  TextGenerator,
} from './requests.ts';
export type { DeviceName } from './llm/device.ts';
export type { ModelShape } from './llm/model-shape.ts';
export type { ExecutionPlan, PlanBytes, PlannedHomes } from './engine/execution-plan.ts';
export type { HostBytes, HostPlan } from './engine/host-plan.ts';
export type { PositionLogprobs, TokenLogprob } from './sampling/params.ts';
export type { FloatType, KvType } from './tensor/dtype.ts';
export type { LaneName, LaneTotals } from './util/lanes.ts';
export { FlexError, FormatError, MemoryError, NativeError, NumericError, RequestError, UsageError } from './util/errors.ts';

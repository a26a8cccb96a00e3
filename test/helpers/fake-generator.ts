import { createHash } from 'node:crypto';
import type {
  GenerationEvent,
  GenerationRequest,
  GenerationResult,
  GeneratorInfo,
  PromptInput,
  StreamOptions,
  TextGenerator,
} from '../../src/requests.ts';
import { NumericError, RequestError } from '../../src/util/errors.ts';

export interface FakeOptions {
  /** Rows in flight. */
  readonly block?: number;
  readonly fingerprint?: string;
  readonly model?: string;
  /** Conversations are `role: content` lines; default true. */
  readonly hasChatTemplate?: boolean;
  /** Prompts with more characters fail. */
  readonly contextLength?: number;
  /** Prompts that contain this fail, until it is removed. */
  readonly failing?: string;
  /** Prompts that contain this throw, as NaN in the weights does. */
  readonly throwing?: string;
  readonly onSweep?: (sweep: number) => void | Promise<void>;
}

/** A generator without a model: one token per character code, completions that depend on prompt, parameters and key alone. */
export interface FakeGenerator extends TextGenerator, AsyncDisposable {
  /** Everything that was asked, in order. */
  readonly requests: GenerationRequest[];
  readonly isClosed: () => boolean;
}

interface Running {
  readonly index: number;
  readonly result: GenerationResult;
  generated: number;
}

export function fakeGenerator(options: FakeOptions = {}): FakeGenerator {
  const { block = 4, fingerprint = 'fake-1', model = 'fake', contextLength = 1000, hasChatTemplate = true } = options;
  const info: GeneratorInfo = { model, family: 'fake', contextLength, fingerprint, kernels: 'fake kernels' };
  const requests: GenerationRequest[] = [];
  let closed = false;
  return {
    info,
    hasChatTemplate,
    requests,
    isClosed: () => closed,
    stream: (source, streamOptions) => sweeps(source, { ...options, block, contextLength }, requests, streamOptions),
    tokenText: (id) => String.fromCodePoint(id),
    [Symbol.asyncDispose]: async () => {
      closed = true;
    },
  };
}

async function* sweeps(
  source: Iterable<GenerationRequest> | AsyncIterable<GenerationRequest>,
  options: FakeOptions & { block: number; contextLength: number },
  requests: GenerationRequest[],
  { signal }: StreamOptions = {},
): AsyncGenerator<GenerationEvent, void, void> {
  const running: Running[] = [];
  const totals = { prompt: 0, generated: 0, sweeps: 0 };
  const pull = async function* (): AsyncGenerator<GenerationRequest, void, void> {
    yield* source;
  };
  const pulled = pull();
  try {
    for (let open = true; open || running.length > 0;) {
      signal?.throwIfAborted();
      while (open && running.length < options.block) {
        const next = await pulled.next();
        open = next.done !== true;
        if (next.done === true) break;
        const index = requests.push(next.value) - 1;
        const error = refusal(next.value, options);
        if (error !== undefined) yield { type: 'failed', index, error };
        else running.push({ index, result: complete(next.value, index), generated: 0 });
      }
      if (running.length === 0) continue;
      yield* oneSweep(running, totals);
      await options.onSweep?.(totals.sweeps);
    }
  } finally {
    await pulled.return();
  }
}

async function* oneSweep(
  running: Running[],
  totals: { prompt: number; generated: number; sweeps: number },
): AsyncGenerator<GenerationEvent, void, void> {
  for (const row of running.slice()) {
    const { result, index } = row;
    if (row.generated === 0) totals.prompt += result.promptTokenIds.length;
    if (row.generated < result.tokenIds.length) {
      const id = result.tokenIds[row.generated++] ?? 0;
      totals.generated++;
      yield { type: 'token', index, id, text: String.fromCodePoint(id) };
    }
    if (row.generated < result.tokenIds.length) continue;
    running.splice(running.indexOf(row), 1);
    yield { type: 'finished', index, result };
  }
  await new Promise((resolve) => setImmediate(resolve));
  const { prompt, generated } = totals;
  const tokens = { prompt, promptComputed: prompt, promptShared: 0, generated };
  const seconds = { load: 0.5, prefill: 1, decode: 1 };
  yield { type: 'sweep', stats: { sweeps: ++totals.sweeps, running: running.length, peakGpuBytes: 0, tokens, seconds, lanes: [] } };
}

/** A chat template of one line a message. */
function plain(prompt: PromptInput): string | readonly number[] {
  if (typeof prompt !== 'object' || !('messages' in prompt)) return prompt;
  return prompt.messages.map(({ role, content }) => `${role}: ${content}\n`).join('');
}

function refusal(
  request: GenerationRequest,
  { contextLength, failing, throwing }: FakeOptions & { contextLength: number },
): RequestError | undefined {
  const prompt = plain(request.prompt);
  const text = typeof prompt === 'string' ? prompt : String.fromCodePoint(...prompt);
  if (throwing !== undefined && text.includes(throwing)) throw new NumericError('row 0: NaN in layer 0');
  if (failing !== undefined && text.includes(failing)) return new RequestError('refused by the fake');
  return prompt.length > contextLength
    ? new RequestError(`prompt of ${prompt.length} tokens, the model's context has ${contextLength}`)
    : undefined;
}

function complete({ prompt: input, params = {}, key = 0 }: GenerationRequest, index: number): GenerationResult {
  const prompt = plain(input);
  const promptTokenIds = typeof prompt === 'string' ? Array.from(prompt, (char) => char.codePointAt(0) ?? 0) : prompt;
  const { maxTokens = 256, temperature = 0, seed = 0, logprobs, promptLogprobs } = params;
  const random = temperature > 0 ? `${seed}/${key}` : '';
  const digest = createHash('sha256')
    .update(`${promptTokenIds.join(',')}|${random}`)
    .digest('hex');
  const all = `<${digest.slice(0, 2 + (Number.parseInt(digest.slice(0, 1), 16) % 3))}>\n"é,"`;
  const tokenIds = Array.from(all, (char) => char.codePointAt(0) ?? 0).slice(0, maxTokens);
  const position = (id: number) => ({ id, logprob: -id / 100, top: [{ id: 97, logprob: -0.5 }] });
  return {
    index,
    text: String.fromCodePoint(...tokenIds),
    tokenIds,
    finishReason: tokenIds.length < all.length ? 'length' : 'stop',
    promptTokenIds,
    ...(logprobs !== undefined && { logprobs: tokenIds.map(position) }),
    ...(promptLogprobs !== undefined && { promptLogprobs: promptTokenIds.map((id, i) => (i === 0 ? null : position(id))) }),
  };
}

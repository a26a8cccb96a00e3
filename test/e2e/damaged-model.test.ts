import { describe, expect, it } from 'vitest';
import { type Breakage, writeBrokenModel } from '../helpers/broken-model.ts';
import { jobFolder } from '../helpers/cli-job.ts';

describe('a damaged model ends with 1', () => {
  const POSITIONS = 'model.decoder.embed_positions.weight';
  const EMBEDDING = 'model.decoder.embed_tokens.weight';
  /** Nothing lies behind it in the file. */
  const LAST = 'model.decoder.layers.1.self_attn_layer_norm.weight';
  const VALUE = 'model.decoder.layers.1.self_attn.v_proj.weight';

  it.each<[string, Breakage, RegExp]>([
    ['no JSON', { config: () => '{"model_type": opt}' }, /config.json: file is not JSON: /],
    ['a list', { config: () => '[]' }, /config.json: file is not a JSON object but an array/],
    [
      'an unknown model_type',
      { config: (config) => ({ ...config, model_type: 'gpt9' }) },
      /config.json: "model_type": one of opt.* expected, got "gpt9"/,
    ],
    ['no model_type', { config: (config) => without(config, 'model_type') }, /"model_type": one of opt.* expected, got nothing/],
    [
      'a negative size',
      { config: (config) => ({ ...config, hidden_size: -64 }) },
      /"hidden_size": a whole number from 1 to \d+ expected, got -64/,
    ],
  ])('config: %s', async (_what, breakage, message) => {
    expect(await runDamaged(breakage)).toEqual(failure(message));
  });

  it.each<[string, Breakage, RegExp]>([
    ['cut in the data', { bytes: (bytes) => bytes.subarray(0, -1000) }, /model.safetensors: tensors end at byte \d+, the file at \d+/],
    ['cut in the header', { bytes: (bytes) => bytes.subarray(0, 100) }, /model.safetensors: header of \d+ bytes in a file of 100/],
    ['empty', { bytes: () => new Uint8Array(0) }, /model.safetensors: has 0 bytes/],
    [
      'a header of 2^60 bytes',
      { bytes: (bytes) => Buffer.concat([littleEndian(2n ** 60n), bytes.subarray(8)]) },
      /header of 1152921504606846976 bytes/,
    ],
    ['overlapping tensors', { header: moved(EMBEDDING, -64) }, /tensor ".*" starts at byte \d+, \d+ expected/],
    ['a tensor out of range', { header: moved(LAST, 2 ** 40) }, /starts at byte \d{13,}, \d+ expected/],
    ['a tensor before the data', { header: moved(VALUE, -(2 ** 40)) }, /bad data_offsets/],
    [
      'a tensor of the wrong length',
      { header: (header) => ({ ...header, [VALUE]: { ...header[VALUE]!, shape: [64, 65] } }) },
      /takes 16640 bytes, its range has 16384/,
    ],
    [
      'a missing tensor',
      { tensors: (tensors) => without(tensors, VALUE) },
      /no tensor for blk.1.attn_v.weight of layer 1; tried model.decoder.layers.1.self_attn.v_proj.weight/,
    ],
    [
      'a wrong shape',
      { tensors: (tensors) => ({ ...tensors, [VALUE]: { ...tensors[VALUE]!, shape: [32, 128] } }) },
      /tensor ".*v_proj.weight" of layer 1 has shape \[32, 128\], the configuration asks for \[64, 64\]/,
    ],
    [
      'more layers in the configuration',
      { config: (config) => ({ ...config, num_hidden_layers: 3 }) },
      /no tensor for blk.2.attn_norm.weight of layer 2/,
    ],
  ])('weights: %s', async (_what, breakage, message) => {
    expect(await runDamaged(breakage)).toEqual(failure(message));
  });

  it.each([
    ['the first layer', 'model.decoder.layers.0.self_attn.v_proj.weight', 'layer 0'],
    ['the second layer', 'model.decoder.layers.1.fc2.weight', 'layer 1'],
    ['front of a ReLU', 'model.decoder.layers.1.fc1.weight', 'layer 1'],
    ['front of a ReLU, by a norm', 'model.decoder.layers.0.final_layer_norm.bias', 'layer 0'],
    ['the head', 'model.decoder.final_layer_norm.weight', 'head'],
  ])('weights: NaN in %s, naming the first row and the layer', async (_what, name, layer) => {
    const tensors = (all: Tensors): Tensors => ({ ...all, [name]: withNaN(all[name]!) });
    expect(await runDamaged({ tensors })).toEqual(failure(new RegExp(`^row of line 2, ${layer}: the result is not a number`)));
  });

  it('weights: NaN at a place that only longer rows reach, naming the first of them', async () => {
    // Two rows of the table lie before that of the first token. The rows of lines 2 and 3 do not reach the sixth.
    const tensors = (all: Tensors): Tensors => ({ ...all, [POSITIONS]: withNaN(all[POSITIONS]!, (2 + 5) * 64) });
    const input = 'text\ntoo,many,cells\nok\nThe license applies to\nThe license applies to all\n';
    expect(await runDamaged({ tensors }, input)).toEqual(failure(/^row of line 4, embed: the result is not a number/));
  });
});

type Tensors = Parameters<NonNullable<Breakage['tensors']>>[0];

interface Failure {
  readonly status: number | null;
  readonly stdout: string;
  readonly message: string;
  /** Stacks are for errors that nobody foresaw. */
  readonly showsStack: boolean;
  readonly wroteOutput: boolean;
}

const failure = (message: RegExp): Failure => ({
  status: 1,
  stdout: '',
  message: expect.stringMatching(message) as string,
  showsStack: false,
  wroteOutput: false,
});

async function runDamaged(breakage: Breakage, input = 'text\nok\n'): Promise<Failure> {
  using folder = jobFolder({ 'in.csv': input });
  writeBrokenModel(folder.at('model'), breakage);
  const { status, stdout, message } = await folder.run(['-m', folder.at('model'), '--prompt', '{{text}}', '--max-tokens', '2']);
  return { status, stdout, message, showsStack: /\n\s+at /.test(message), wroteOutput: folder.has('out.csv') };
}

function without<T>(values: Readonly<Record<string, T>>, name: string): Record<string, T> {
  return Object.fromEntries(Object.entries(values).filter(([key]) => key !== name));
}

function moved(name: string, bytes: number): NonNullable<Breakage['header']> {
  return (header) => {
    const [from, to] = header[name]!.data_offsets;
    return { ...header, [name]: { ...header[name]!, data_offsets: [from + bytes, to + bytes] } };
  };
}

function withNaN(tensor: Tensors[string], at: number = tensor.data.length >> 3): Tensors[string] {
  const values = new Float32Array(tensor.data.slice().buffer);
  values[at] = NaN;
  return { ...tensor, data: new Uint8Array(values.buffer) };
}

function littleEndian(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

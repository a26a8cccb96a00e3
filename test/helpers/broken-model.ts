/** Model folders with one thing wrong. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fixtureFolder } from './golden.ts';
import { safetensorsBytes, type TensorData, type Tensors, withHeader } from './write-safetensors.ts';

/** A header as it stands in the file. */
type RawHeader = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

export interface Breakage {
  /** Changes the configuration, or replaces its text. */
  readonly config?: (config: Record<string, unknown>) => Record<string, unknown> | string;
  /** Changes tensors; the file is written anew. */
  readonly tensors?: (tensors: Record<string, TensorData>) => Tensors;
  /** Changes the header alone, which then lies. */
  readonly header?: (header: RawHeader) => RawHeader;
  /** Changes the bytes of the weights' file. */
  readonly bytes?: (bytes: Buffer) => Uint8Array;
}

/** Copies the small OPT fixture to `folder` and breaks it. */
export function writeBrokenModel(folder: string, { config, tensors, header, bytes }: Breakage): void {
  cpSync(fixtureFolder('opt'), folder, { recursive: true });
  const configFile = join(folder, 'config.json');
  if (config) {
    const broken = config(JSON.parse(readFileSync(configFile, 'utf8')) as Record<string, unknown>);
    writeFileSync(configFile, typeof broken === 'string' ? broken : JSON.stringify(broken));
  }
  const weightsFile = join(folder, 'model.safetensors');
  const whole = readFileSync(weightsFile);
  const data = whole.subarray(8 + headerLength(whole));
  if (tensors) writeFileSync(weightsFile, safetensorsBytes(tensors(readTensors(whole))));
  if (header) writeFileSync(weightsFile, withHeader(JSON.stringify(header(readHeader(whole))), data));
  if (bytes) writeFileSync(weightsFile, bytes(whole));
}

function readTensors(file: Buffer): Record<string, TensorData> {
  const data = file.subarray(8 + headerLength(file));
  return Object.fromEntries(
    Object.entries(readHeader(file)).map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => [name, { dtype: dtype as TensorData['dtype'], shape, data: Uint8Array.from(data.subarray(from, to)) }],
    ),
  );
}

function readHeader(file: Buffer): RawHeader {
  const { __metadata__: _, ...header } = JSON.parse(file.subarray(8, 8 + headerLength(file)).toString('utf8')) as RawHeader;
  return header;
}

function headerLength(file: Buffer): number {
  return Number(file.readBigUInt64LE(0));
}

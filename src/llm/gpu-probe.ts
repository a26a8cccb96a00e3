/**
 * Whether a GPU computes here, found out in a process of its own: a driver or a package that does not suit it ends the process that asks, at the first graph
 * at the latest (docs/decisions/0001-ggml-through-koffi.md).
 */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { NativeError } from '../util/errors.ts';

/** GPU backends of ggml, in the order in which they are tried. */
export const GPU_BACKENDS = ['cuda', 'metal', 'vulkan'] as const;
export type GpuBackend = (typeof GPU_BACKENDS)[number];

/** Drivers may have to compile shaders at their first start. */
const TIMEOUT_MS = 120_000;
/** Characters of what a process said, and of what is told of it. */
const MOST_KEPT = 2 ** 16;
const MOST_SAID = 300;

/** The process says so before it tries another GPU than the first. */
export const FURTHER_GPU = 'trying a further GPU';

/** By backend and number of GPUs: one process each is enough. */
const probes = new Map<string, Promise<void>>();

const isSource = import.meta.url.endsWith('.ts');
const CHILD = fileURLToPath(new URL(isSource ? './gpu-probe-child.ts' : './gpu-probe-child.js', import.meta.url));

/**
 * Resolves when the backend has computed a product on each of its GPUs, and got it right.
 * @param gpus how many of them are wanted at most
 * @param child what the process runs
 * @throws {NativeError} with what the process said before it ended
 */
export function probeGpu(backend: GpuBackend, exact: boolean, gpus: number = Infinity, child: string = CHILD): Promise<void> {
  const key = `${backend} ${exact} ${gpus} ${child}`;
  const probe = probes.get(key) ?? runProbe(child, [backend, String(exact), String(gpus)]);
  probes.set(key, probe);
  return probe;
}

function runProbe(script: string, [backend, ...options]: readonly [string, ...string[]]): Promise<void> {
  return new Promise((resolve, reject) => {
    const loader = isSource ? ['--import', 'tsx'] : [];
    const child = spawn(process.execPath, [...loader, script, backend, ...options], {
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: TIMEOUT_MS,
    });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-MOST_KEPT)));
    child.on('error', (cause) => reject(new NativeError(`backend ${backend}: cannot be tried: ${cause.message}`, {}, { cause })));
    child.on('close', (code, signal) => {
      if (code === 0) resolve();
      else reject(new NativeError(`backend ${backend}: does not work here: ${reasonOf(said, code ?? signal)}${hintOf(said)}`, { backend }));
    });
  });
}

/** One of several GPUs may be what fails. */
const hintOf = (said: string): string => (said.includes(FURTHER_GPU) ? '; --gpus 1 takes the first GPU alone' : '');

/** Our own message, which comes last, or what a library said before it ended the process. */
function reasonOf(said: string, end: number | string | null): string {
  const lines = said.split('\n').filter((line) => line.trim() !== '');
  if (end === 1) return lines.at(-1)!.slice(0, MOST_SAID);
  const telling = lines.find((line) => /error|assert|abort/i.test(line)) ?? lines.at(-1) ?? 'without a word';
  return `it ends the process that asks (${end}): ${telling.trim().slice(0, MOST_SAID)}`;
}

import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { probeGpu } from '../../../src/llm/gpu-probe.ts';
import { NativeError } from '../../../src/util/errors.ts';

it('tells what a library said before it ended the process, and asks once', { timeout: 30_000 }, async () => {
  const child = fileURLToPath(new URL('../../helpers/aborting-child.ts', import.meta.url));
  const probe = probeGpu('cuda', true, 1, child);
  await expect(probe).rejects.toThrow(NativeError);
  await expect(probe).rejects.toThrow(
    'backend cuda: does not work here: it ends the process that asks (SIGABRT): cuda error: the provided PTX was compiled with an unsupported toolchain.',
  );
  expect(probeGpu('cuda', true, 1, child)).toBe(probe);
});

it('tells what a backend that is not installed said', { timeout: 30_000 }, async () => {
  await expect(probeGpu('metal', false)).rejects.toThrow(/^backend metal: does not work here: backend metal: /);
});

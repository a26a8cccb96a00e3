import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const CHILD = fileURLToPath(new URL('exit-now-child.ts', import.meta.url));

it.skipIf(process.platform === 'win32')('exitNow leaves at once although a native call is running', async () => {
  const child = spawn(process.execPath, ['--import', 'tsx', CHILD], { timeout: 8000, killSignal: 'SIGKILL' });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  const end = await new Promise((resolve) => child.once('close', (status, signal) => resolve({ status, signal })));
  const milliseconds = Date.now() - Number(stdout);
  expect(end).toEqual({ status: 4, signal: null });
  expect(stdout).toMatch(/^\d+\n$/);
  expect(milliseconds).toBeLessThan(1000);
});

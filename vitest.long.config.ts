/** Tests that take minutes and gigabytes: `npm run test:long`. They are no part of `npm test`. */
import { defineConfig, type ViteUserConfig } from 'vitest/config';

const MINUTES = 60_000;

const config: ViteUserConfig = defineConfig({
  test: { include: ['test/long/**/*.test.ts'], testTimeout: 30 * MINUTES, hookTimeout: 5 * MINUTES, pool: 'forks', maxWorkers: 1 },
});
export default config;

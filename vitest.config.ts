import { defineConfig, type ViteUserConfig } from 'vitest/config';

/** Tests are grouped by what they need; see CONTRIBUTING.md. Native code must not share a process, hence forks. */
const project = (name: string, testTimeout: number) => ({
  test: { name, include: [`test/${name}/**/*.test.ts`], testTimeout, hookTimeout: testTimeout, pool: 'forks' as const },
});

const config: ViteUserConfig = defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      project('unit', 10_000),
      project('model', 60_000),
      project('e2e', 120_000),
      project('gpu', 120_000),
      project('meta', 60_000),
    ],
  },
});
export default config;

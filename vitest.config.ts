import { defineConfig, type ViteUserConfig } from 'vitest/config';

/** Tests are grouped by what they need; see CONTRIBUTING.md. Native code must not share a process, hence forks. */
const project = (name: string, testTimeout: number) => ({
  test: { name, include: [`test/${name}/**/*.test.ts`], testTimeout, hookTimeout: testTimeout, pool: 'forks' as const },
});

/** A model that `npm run test:real` has fetched; its tests are no part of `npm test`. */
const realModel = process.env['FLEXLLMGEN_REAL_MODEL'];

/** A file that gets the results as JSON, beside the usual output. */
const reportFile = process.env['FLEXLLMGEN_TEST_REPORT'];

const config: ViteUserConfig = defineConfig({
  test: {
    maxWorkers: 2,
    reporters: reportFile ? ['default', ['json', { outputFile: reportFile }]] : ['default'],
    projects: [
      project('unit', 10_000),
      project('model', 60_000),
      project('e2e', 120_000),
      project('gpu', 120_000),
      project('meta', 60_000),
      ...(realModel ? [project('real', 600_000)] : []),
    ],
  },
});
export default config;

import { expect, it } from 'vitest';
import { readManifest, readText } from './repository.ts';

it('CHANGELOG.md starts with the version of package.json and goes down from there', () => {
  const versions = [...readText('CHANGELOG.md').matchAll(/^## (\S+)/gm)].map(([, version]) => version!);
  expect(versions[0]).toBe(readManifest().version);
  const descending = versions.toSorted((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  expect(versions).toEqual(descending);
  expect(new Set(versions).size).toBe(versions.length);
});

import { readFileSync } from 'node:fs';
import { PACKAGE_JSON } from '../util/bundled.ts';

/** Version of this package. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(PACKAGE_JSON, 'utf8')) as { version: string }).version;
}

/** ENDPOINT CACHE: pulls owner/model until it is killed. */
import { parseModelName } from '../../../src/hub/model-name.ts';
import { pullModel } from '../../../src/hub/pull.ts';

const [endpoint, cache] = process.argv.slice(2) as [string, string];
await pullModel(parseModelName('owner/model'), { endpoint, cache, offline: false }, { backoffMs: 60_000 });

import { readSeconds, dropPageCache } from './bench/disk.ts';
import { statSync } from 'node:fs';
for (let i = 0; i < 3; i++) { dropPageCache(); const s = await readSeconds(process.argv[2]!); console.log((statSync(process.argv[2]!).size / 1e9 / s).toFixed(2), 'GB/s'); }

/** FILE [ring|fresh] [BYTES]: prints the seconds that it takes to read a file, or its first bytes, from the disk. */
import { dropPageCache, readSeconds } from './disk.ts';

const [path, into, bytes] = process.argv.slice(2);
dropPageCache();
console.log(await readSeconds(path!, { into: into === 'fresh' ? 'fresh' : 'ring', ...(bytes && { bytes: Number(bytes) }) }));

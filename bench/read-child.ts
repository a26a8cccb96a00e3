/** FILE: prints the seconds that it takes to read a file into memory that is fresh from the system. */
import { readSeconds } from './disk.ts';

console.log(await readSeconds(process.argv[2]!, 'fresh'));

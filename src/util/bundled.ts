import { fileURLToPath } from 'node:url';

/** Name of the model that comes with the package and is every command's default. A folder of the same name is `./tidy-opt-5m`. */
export const BUNDLED_NAME = 'tidy-opt-5m';

/** Its folder. */
export const BUNDLED_MODEL: string = packagePath(`models/${BUNDLED_NAME}`);

/** Held-out rows for it, labelled. */
export const BUNDLED_TABLE: string = packagePath('examples/data/messy.csv');

export const PACKAGE_JSON: string = packagePath('package.json');

/** `src/util` and `dist/util` are equally deep. */
function packagePath(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}

/** Limits on what files from strangers may ask of us. Sizes and counts above them are refused before anything is allocated. */

/** The safetensors format's own limit (its reference reader refuses more), so that a wrong first byte cannot make us allocate 2^60. */
export const MAX_HEADER_BYTES = 100_000_000;
/** Per file. The largest published mixtures of experts have about 100,000 tensors in all shards together. */
export const MAX_TENSORS = 250_000;
/** Characters. Real names stay under 120; names end up in messages and as keys. */
export const MAX_NAME_LENGTH = 1024;
/** PyTorch allows 64; real weights have at most 5. */
export const MAX_RANK = 8;
/** Real configurations have a few kB; some list tens of thousands of labels. */
export const MAX_CONFIG_BYTES = 16 << 20;
/** 100 bytes for each of a million tensors. */
export const MAX_INDEX_BYTES = 100_000_000;
/** Every shard stays open, and systems commonly allow 1024 open files. The largest published models have about 200 shards. */
export const MAX_SHARDS = 800;
/** Of one pickle. A tensor takes about 150 bytes of it, so this is room for more than `MAX_TENSORS`. */
export const MAX_PICKLE_BYTES = 64 << 20;
/** Values and marks. Writers empty the stack every 1000 items, that is 2000 values. */
export const MAX_PICKLE_STACK = 10_000;
/** Shapes have up to `MAX_RANK` values, arguments up to 8. */
export const MAX_PICKLE_TUPLE = 32;
/** Of a name; UTF-8 takes up to 4 bytes for a character. */
export const MAX_PICKLE_STRING_BYTES: number = 4 * MAX_NAME_LENGTH;
/** The magic number of old files has 10 bytes, counts have up to 8. */
export const MAX_PICKLE_INTEGER_BYTES = 16;
/** A tensor takes about 11, and as many memo entries. */
export const MAX_PICKLE_OBJECTS: number = 16 * MAX_TENSORS;
/** Real files have about 10 bytes an object. Without it, one byte could cost a hundred bytes of memory. */
export const MIN_PICKLE_BYTES_PER_OBJECT = 4;
/** Not held against a short pickle. */
export const FREE_PICKLE_OBJECTS = 1000;
/** A storage each, and a few small ones. */
export const MAX_ZIP_ENTRIES: number = MAX_TENSORS + 1000;
/** Of a zip directory. An entry of a weight file takes 60 to 150 bytes of it. */
export const MAX_ZIP_DIRECTORY_BYTES = 64 << 20;

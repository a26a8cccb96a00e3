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

/* Sparse attention: of the positions that a token sees, only those with the largest weights give their values. */
#pragma once
#include "attention_block.h"

/* Queries of a sparse block, over all of its kv heads, whose row has `length` positions: their scores stay in the second cache. */
int64_t most_sparse(int64_t length);

/* Results of all queries of a sparse block. */
void attend_sparsely(const flx_attention &a, const Block &block);

/* Memory, layout, and what measures the machine: each is called once, so that an instruction which this processor lacks is met. */
#include "harness.h"

void test_rest(Test &t) {
  const int64_t sizes[] = {sizeof(flx_linear), sizeof(flx_embed), sizeof(flx_norm), sizeof(flx_map),
                           sizeof(flx_select), sizeof(flx_rope),  sizeof(flx_attention), sizeof(flx_moe)};
  static_assert(sizeof sizes / sizeof sizes[0] == FLX_OPS, "each op has its size here");
  for (int32_t op = 0; op < FLX_OPS; op++) t.expect(t.lib.arguments_bytes(op) == sizes[op], "bytes of the arguments of op " + std::to_string(op));
  t.expect(t.lib.arguments_bytes(FLX_OPS) == 0, "no op behind the last one");
  t.expect(t.lib.sample_row_bytes() == sizeof(flx_sample_row), "bytes of a row to sample");
  t.expect(t.lib.sample_result_bytes() == sizeof(flx_sample_result), "bytes of a result of sampling");
  t.lib.run(t.teams[1], nullptr, 0);
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{100}, int64_t{4097}, (int64_t{3} << 20) + 1, int64_t{5} << 20}) {
    void *memory = t.lib.memory_create(bytes);
    t.expect(memory && reinterpret_cast<uintptr_t>(memory) % 64 == 0, "memory begins at a multiple of 64");
    t.lib.memory_claim(memory, bytes);
    const std::vector<uint8_t> values(static_cast<size_t>(bytes), 7);
    t.lib.copy(memory, values.data(), bytes);
    t.expect(std::memcmp(memory, values.data(), values.size()) == 0, "copy");
    if (bytes % (1 << 20) == 0) t.lib.read(t.teams[1], memory, bytes);
    t.lib.memory_free(memory);
  }
  for (int32_t integers = 0; integers <= 1; integers++) {
    const int64_t once = t.lib.operations(t.teams[1], integers, 1, 10), more = t.lib.operations(t.teams[1], integers, 2, 30);
    t.expect(once > 0 && more == 6 * once, "operations are counted");
  }
}

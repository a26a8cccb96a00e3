/*
 * How keys and values lie in a page, and their products with a few queries. A page of keys is [kv head][element][position], of values
 * [kv head][position][element], so that both products walk along vectors without sums across them: positions for the scores, elements for the result.
 *
 * Compressed pages hold codes in that order, then for every group of elements and position a scale and perhaps a minimum (f16, [group][position]). In 4
 * bits, what is multiplied one after the other lies together in 32 bits, lowest first: 8 elements of a key, 8 positions of values. A vector of 32 bits is
 * so 8 vectors of codes, each of which a shift and a look-up make floats.
 */
#pragma once
#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "../flexllmgen.h"
#include "attention_pages.h"
#include "attention_products.h"
#include "stored.h"
#include "transpose.h"

/* How a row is read: it has STEP k; a column takes COLUMN of what is stored; ASKS for what is read next. */
template <class T> struct Rows {
  typedef typename T::Stored Stored;
  static constexpr int STEP = 1, COLUMN = 1;
  static constexpr bool ASKS = false;
  static F load(const Stored *row, int64_t column, int) { return T::load(row + column); }
};

/*
 * A cache of floats, multiplied where it lies. `scores` gives products of queries with the positions of `columns`, which are whole vectors, as
 * [rows, FLX_PAGE]. `add_values` adds shares [rows, FLX_PAGE] of the positions `seen` times values to out [rows, width]; width is head in whole vectors.
 * `next` is the page that is read after this one.
 */
template <class T> struct FloatCache {
  typedef typename T::Stored Stored;

  static int64_t page_bytes(int64_t head) { return FLX_PAGE * head * static_cast<int64_t>(sizeof(Stored)); }

  static void scores(const Queries &x, const uint8_t *page, const Range &columns, float *out, const uint8_t *) {
    const Stored *keys = reinterpret_cast<const Stored *>(page) + columns.from;
    multiply<Rows<T>>(x.rows, {x.q, x.head, 0, keys, FLX_PAGE, 0, x.head, out + columns.from, FLX_PAGE, 0}, columns.to - columns.from);
  }

  static void add_values(int64_t rows, const float *shares, const uint8_t *page, int64_t head, const Range &seen, float *out, int64_t width,
                         const uint8_t *) {
    const Stored *values = reinterpret_cast<const Stored *>(page);
    if (width == head) return multiply<Rows<T>>(rows, {shares, FLX_PAGE, 0, values, head, seen.from, seen.to, out, width, 0}, width);
    /* A head that is no whole number of vectors: its values as floats, padded. */
    static thread_local std::vector<float> padded;
    padded.assign(static_cast<size_t>(FLX_PAGE * width), 0);
    for (int64_t i = seen.from; i < seen.to; i++)
      for (int64_t e = 0; e < head; e++) padded[static_cast<size_t>(i * width + e)] = T::widen(values[i * head + e]);
    multiply<Rows<Floats>>(rows, {shares, FLX_PAGE, 0, padded.data(), width, seen.from, seen.to, out, width, 0}, width);
  }

  /*
   * A weight times a value is a factor times what `value_at` loads, plus what `weigh` returns the sum of. Each GROUP of elements has factors of its own; 0:
   * all have the same.
   */
  static constexpr int GROUP = 0;
  static float weigh(const HeadPages &, const Chosen &chosen, int64_t, int64_t, float *factors) {
    std::copy(chosen.weights, chosen.weights + chosen.count, factors);
    return 0;
  }

  /* Elements of one position. PART: with zeros behind the last one. */
  template <bool PART> static F value_at(const uint8_t *page, int64_t head, int64_t position, int64_t element) {
    const Stored *values = reinterpret_cast<const Stored *>(page) + position * head + element;
    if constexpr (!PART) return T::load(values);
    float part[LANES] = {};
    for (int64_t e = element; e < head; e++) part[e - element] = T::widen(values[e - element]);
    return f_load(part);
  }
  static void ask_for_value(const uint8_t *page, int64_t head, int64_t position, int64_t element, int64_t count) {
    ask_for(reinterpret_cast<const Stored *>(page) + position * head + element, count * static_cast<int64_t>(sizeof(Stored)));
  }

  /* By way of a copy of the rows: keys are written straight on, and read here and there while they are in the first cache. */
  static void append(const Appended &rows, int64_t head, uint8_t *keys, uint8_t *values) {
    static thread_local std::vector<Stored> copy;
    copy.resize(static_cast<size_t>(rows.count * head));
    for (int64_t i = 0; i < rows.count; i++) {
      narrow_row<T>(rows.k + i * rows.stride, head, copy.data() + i * head);
      narrow_row<T>(rows.v + i * rows.stride, head, reinterpret_cast<Stored *>(values) + (rows.position + i) * head);
    }
    transpose(copy.data(), rows.count, head, head, reinterpret_cast<Stored *>(keys) + rows.position, FLX_PAGE);
  }
};

/* Codes as floats. */
struct Bytes8 {
  typedef uint8_t Stored;
  static constexpr int STEP = 1, COLUMN = 1;
  static constexpr bool ASKS = true;
  static F load(const uint8_t *row, int64_t column, int) { return f_from_bytes(row + column); }
};
struct Nibbles8 {
  typedef uint8_t Stored;
  static constexpr int STEP = 8, COLUMN = 4;
  static constexpr bool ASKS = true;
  static F load(const uint8_t *row, int64_t column, int j) { return f_from_nibbles(row + column * COLUMN, 4 * j); }
};

/* What `count` values of a group become: scale * (code - ZERO) + minimum, in f16. What is not finite makes the scale no number. */
struct Scale {
  uint16_t scale;
  uint16_t minimum;
  float inverse;
};

/* BITS 8 or 4; groups of SIZE elements; ZERO: the code of zero, or MINIMUM. Formulas of Q8_0, Q4_0 and Q4_1 of llama.cpp, and of FlexGen with SIZE 64. */
template <int BITS, int SIZE, int ZERO, bool MINIMUM> struct Compressed {
  typedef std::conditional_t<BITS == 8, Bytes8, Nibbles8> Codes;

  static int64_t codes_bytes(int64_t head) { return FLX_PAGE * head * BITS / 8; }
  static int64_t page_bytes(int64_t head) { return codes_bytes(head) + head / SIZE * FLX_PAGE * (MINIMUM ? 4 : 2); }
  static uint16_t *scales(const uint8_t *page, int64_t head) { return reinterpret_cast<uint16_t *>(const_cast<uint8_t *>(page) + codes_bytes(head)); }
  static uint16_t *minima(const uint8_t *page, int64_t head) { return scales(page, head) + head / SIZE * FLX_PAGE; }

  /* Scales and least values of a group at positions p ... */
  static F scale_at(const uint8_t *page, int64_t head, int64_t g, int64_t p) { return f_from_half(scales(page, head) + g * FLX_PAGE + p); }
  static F least_at(const uint8_t *page, int64_t head, int64_t g, int64_t p) {
    return MINIMUM ? f_from_half(minima(page, head) + g * FLX_PAGE + p) : f_mul(scale_at(page, head, g, p), f_set(-ZERO));
  }

  /* score = sum over groups of scale * (q times codes) + least * (sum of q) */
  static void scores(const Queries &x, const uint8_t *page, const Range &columns, float *out, const uint8_t *next) {
    const uint8_t *codes = page + columns.from * Codes::COLUMN;
    ask_for(next + codes_bytes(x.head), page_bytes(x.head) - codes_bytes(x.head));
    for (int64_t g = 0; g < x.head / SIZE; g++) {
      float products[QUERIES * FLX_PAGE];
      std::fill(products, products + x.rows * FLX_PAGE, 0.f);
      multiply<Codes>(x.rows, {x.q, x.head, 0, codes, FLX_PAGE * Codes::COLUMN, g * SIZE, (g + 1) * SIZE, products + columns.from, FLX_PAGE, next - page},
                      columns.to - columns.from);
      for (int64_t r = 0; r < x.rows; r++) {
        F total = f_set(0);
        for (int64_t e = g * SIZE; e < (g + 1) * SIZE; e += LANES) total = f_add(total, f_load(x.q + r * x.head + e));
        const F sum = f_set(f_sum(total));
        for (int64_t p = columns.from; p < columns.to; p += LANES) {
          float *score = out + r * FLX_PAGE + p;
          const F scaled = f_fma(f_load(products + r * FLX_PAGE + p), scale_at(page, x.head, g, p), f_load(score));
          f_store(score, f_fma(least_at(page, x.head, g, p), sum, scaled));
        }
      }
    }
  }

  /* result = sum over positions of (share * scale) times codes + share * least */
  static void add_values(int64_t rows, const float *shares, const uint8_t *page, int64_t head, const Range &seen, float *out, int64_t width,
                         const uint8_t *next) {
    ask_for(next + codes_bytes(head), page_bytes(head) - codes_bytes(head));
    static thread_local std::vector<float> scaled; /* [group][row][position] */
    scaled.resize(static_cast<size_t>(head / SIZE * QUERIES * FLX_PAGE));
    for (int64_t g = 0; g < head / SIZE; g++)
      for (int64_t r = 0; r < rows; r++) {
        float *to = scaled.data() + (g * QUERIES + r) * FLX_PAGE;
        const F least = f_set(scale_shares(shares + r * FLX_PAGE, page, head, g, seen, to));
        for (int64_t e = g * SIZE; e < (g + 1) * SIZE; e += LANES) f_store(out + r * width + e, f_add(f_load(out + r * width + e), least));
      }
    multiply<Codes, SIZE>(rows, {scaled.data(), FLX_PAGE, QUERIES * FLX_PAGE, page, head * Codes::COLUMN, seen.from, seen.to, out, width, next - page}, width);
  }

  /* Returns the sum of share * least. What was never written may be anything, so nothing of it is added. */
  static float scale_shares(const float *shares, const uint8_t *page, int64_t head, int64_t g, const Range &seen, float *scaled) {
    float leasts[FLX_PAGE];
    const int64_t begin = seen.from / LANES * LANES, end = (seen.to + LANES - 1) / LANES * LANES;
    for (int64_t p = begin; p < end; p += LANES) {
      f_store(scaled + p, f_mul(f_load(shares + p), scale_at(page, head, g, p)));
      f_store(leasts + p, f_mul(f_load(shares + p), least_at(page, head, g, p)));
    }
    for (int64_t p = begin; p < seen.from; p++) leasts[p] = 0;
    for (int64_t p = seen.to; p < end; p++) leasts[p] = 0;
    F total = f_set(0);
    for (int64_t p = begin; p < end; p += LANES) total = f_add(total, f_load(leasts + p));
    return f_sum(total);
  }

  static constexpr int GROUP = SIZE;
  static float weigh(const HeadPages &values, const Chosen &chosen, int64_t head, int64_t g, float *factors) {
    /* Scales of all groups lie apart. Not in a function of its own: compilers take one that only asks for one that does nothing. */
    for (int64_t i = 0; g == 0 && i < chosen.count; i++) {
      const uint16_t *first = scales(values.holding(chosen.positions[i]), head) + chosen.positions[i] % FLX_PAGE;
      for (int64_t each = 0; each < head / SIZE * (MINIMUM ? 2 : 1); each++) __builtin_prefetch(first + each * FLX_PAGE, 0, 2);
    }
    F total = f_set(0);
    for (int64_t i = 0; i < chosen.count; i += LANES) {
      uint16_t scale[LANES] = {}, least[LANES] = {};
      for (int64_t j = 0; j < std::min<int64_t>(LANES, chosen.count - i); j++) {
        const int64_t position = chosen.positions[i + j], at = g * FLX_PAGE + position % FLX_PAGE;
        const uint8_t *page = values.holding(position);
        scale[j] = scales(page, head)[at];
        if (MINIMUM) least[j] = minima(page, head)[at];
      }
      const F factor = f_mul(f_load(chosen.weights + i), f_from_half(scale));
      f_store(factors + i, factor);
      total = f_add(total, MINIMUM ? f_mul(f_load(chosen.weights + i), f_from_half(least)) : f_mul(factor, f_set(-ZERO)));
    }
    return f_sum(total);
  }
  static const uint8_t *codes_at(const uint8_t *page, int64_t head, int64_t position, int64_t element) {
    return page + (position / Codes::STEP * head + element) * Codes::COLUMN;
  }
  template <bool> static F value_at(const uint8_t *page, int64_t head, int64_t position, int64_t element) {
    return Codes::load(codes_at(page, head, position, element), 0, static_cast<int>(position % Codes::STEP));
  }
  static void ask_for_value(const uint8_t *page, int64_t head, int64_t position, int64_t element, int64_t count) {
    ask_for(codes_at(page, head, position, element), count * Codes::COLUMN);
  }

  static Scale scale_of(const float *x) {
    float least = x[0], most = x[0], largest = x[0];
    bool finite = true;
    for (int i = 0; i < SIZE; i++) {
      least = std::min(least, x[i]);
      most = std::max(most, x[i]);
      if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
      finite = finite && std::isfinite(x[i]);
    }
    const float scale = !finite ? NAN : MINIMUM ? (most - least) / 15 : BITS == 8 ? std::fabs(largest) / 127 : largest / -8;
    return {float_to_half(scale), float_to_half(MINIMUM ? least : 0), finite && scale != 0 ? 1 / scale : 0};
  }

  static uint8_t code_of(float x, float least, const Scale &scale) {
    const float code = (x - least) * scale.inverse + ZERO;
    const float top = BITS == 8 ? 255 : 15;
    return static_cast<uint8_t>(scale.inverse == 0 ? ZERO : std::min(top, std::max(0.f, std::floor(code + 0.5f))));
  }

  /* The code of row k and column c of a page whose rows have `columns`. */
  static void set_code(uint8_t *page, int64_t columns, int64_t k, int64_t c, uint8_t code) {
    if (BITS == 8) {
      page[k * columns + c] = code;
      return;
    }
    uint8_t &byte = page[(k / 8 * columns + c) * 4 + k % 8 / 2];
    byte = static_cast<uint8_t>(k % 2 == 0 ? (byte & 0xf0) | code : (byte & 15) | code << 4);
  }

  /* set(e, code) for every element of a row. */
  template <class Set> static void append_row(const float *x, int64_t head, int64_t position, uint8_t *page, const Set &set) {
    for (int64_t g = 0; g < head / SIZE; g++) {
      const float *group = x + g * SIZE;
      const Scale scale = scale_of(group);
      const float least = MINIMUM ? *std::min_element(group, group + SIZE) : 0;
      scales(page, head)[g * FLX_PAGE + position] = scale.scale;
      if (MINIMUM) minima(page, head)[g * FLX_PAGE + position] = scale.minimum;
      for (int64_t e = 0; e < SIZE; e++) set(g * SIZE + e, code_of(group[e], least, scale));
    }
  }

  static void append(const Appended &rows, int64_t head, uint8_t *keys, uint8_t *values) {
    for (int64_t i = 0; i < rows.count; i++) {
      const int64_t position = rows.position + i;
      append_row(rows.k + i * rows.stride, head, position, keys, [&](int64_t e, uint8_t code) { set_code(keys, FLX_PAGE, e, position, code); });
      append_row(rows.v + i * rows.stride, head, position, values, [&](int64_t e, uint8_t code) { set_code(values, head, position, e, code); });
    }
  }
};

/* Calls `use` with a value of the type that caches of a type have. */
template <class Use> static void with_cache(int32_t type, const Use &use) {
  switch (type) {
    case FLX_F32: return use(FloatCache<Floats>{});
    case FLX_F16: return use(FloatCache<Halves>{});
    case FLX_BF16: return use(FloatCache<Bfloats>{});
    case FLX_Q8_0: return use(Compressed<8, 32, 128, false>{});
    case FLX_Q4_0: return use(Compressed<4, 32, 8, false>{});
    case FLX_Q4_1: return use(Compressed<4, 32, 0, true>{});
    default: return use(Compressed<4, 64, 0, true>{});
  }
}

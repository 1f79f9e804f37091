// Products and expansion of rows, for any set of lanes. A file for one instruction set defines
// `Lanes` and a reader of each value type, then fills its table by `table`.
//
// All is in an unnamed namespace, and nothing of the standard library's templates is used: the
// linker must not share code that was compiled for another instruction set.
#pragma once
#include "kernels.h"

namespace prunegrid {
namespace {

template <class R>
inline void prefetch(const typename R::Value* values) {
  // A word of 64 columns has at most sizeof(Value) lines of 64 bytes.
  for (int line = 0; line < (int)sizeof(typename R::Value); ++line)
    __builtin_prefetch((const char*)values + PREFETCH + 64 * line);
}

inline float finish(const Packed& w, int64_t row, float sum) {
  if (w.scale) sum *= w.scale[row];
  return w.bias ? sum + w.bias[row] : sum;
}

// One token: each vector of weights is used as soon as it is expanded.
template <class L, class R>
void row_times_one(const Packed& w, const float* x, int64_t row, float* y) {
  const auto* values = (const typename R::Value*)w.values + w.starts[row];
  const auto* mask = (const typename L::Mask*)(w.mask + row * w.words);
  auto even = L::zero(), odd = L::zero();
  for (int64_t word = 0; word < w.words; ++word, mask += WORD / L::width, x += WORD) {
    prefetch<R>(values);
#pragma GCC unroll 4
    for (int pair = 0; pair < WORD / L::width; pair += 2) {
      even = L::fma(R::expand(values, mask[pair]), L::load(x + pair * L::width), even);
      values += L::count(mask[pair]);
      odd = L::fma(R::expand(values, mask[pair + 1]), L::load(x + (pair + 1) * L::width), odd);
      values += L::count(mask[pair + 1]);
    }
  }
  y[row] = finish(w, row, L::sum(L::add(even, odd)));
}

// Write one row without its scale, zero beyond the last column, to out [64 words].
template <class L, class R>
void expand_row(const Packed& w, int64_t row, float* out) {
  const auto* values = (const typename R::Value*)w.values + w.starts[row];
  const auto* mask = (const typename L::Mask*)(w.mask + row * w.words);
  for (int64_t word = 0; word < w.words; ++word, mask += WORD / L::width, out += WORD) {
    prefetch<R>(values);
#pragma GCC unroll 8
    for (int group = 0; group < WORD / L::width; ++group) {
      L::store(out + group * L::width, R::expand(values, mask[group]));
      values += L::count(mask[group]);
    }
  }
}

// T tokens times one expanded row, each summed as by `row_times_one`.
template <class L, int T>
void row_times(const Packed& w, const float* weight, const float* x, int64_t row, float* y) {
  const int64_t columns = w.words * WORD;
  typename L::Vector even[T], odd[T];
  for (int t = 0; t < T; ++t) even[t] = odd[t] = L::zero();
  for (int64_t c = 0; c < columns; c += 2 * L::width) {
    const auto first = L::load(weight + c), second = L::load(weight + c + L::width);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      even[t] = L::fma(first, L::load(x + t * columns + c), even[t]);
      odd[t] = L::fma(second, L::load(x + t * columns + c + L::width), odd[t]);
    }
  }
  for (int t = 0; t < T; ++t)
    y[t * w.rows + row] = finish(w, row, L::sum(L::add(even[t], odd[t])));
}

template <class L, class R>
void product(const Packed& w, const float* x, int64_t tokens, int64_t first, int64_t last, float* y,
             float* scratch) {
  for (int64_t row = first; row < last; ++row) {
    if (tokens == 1) {
      row_times_one<L, R>(w, x, row, y);
      continue;
    }
    expand_row<L, R>(w, row, scratch);
    for (int64_t t = 0; t < tokens; t += 4) {
      const float* from = x + t * w.words * WORD;
      float* to = y + t * w.rows;
      switch (tokens - t) {
        case 1: row_times<L, 1>(w, scratch, from, row, to); break;
        case 2: row_times<L, 2>(w, scratch, from, row, to); break;
        case 3: row_times<L, 3>(w, scratch, from, row, to); break;
        default: row_times<L, 4>(w, scratch, from, row, to);
      }
    }
  }
}

template <class L, class R>
void expand(const Packed& w, int64_t first, int64_t last, float* out) {
  const int64_t whole = w.columns / WORD * WORD;
  Packed most = w;  // the words that lie within the row, then the one that does not
  most.words = w.columns / WORD;
  for (int64_t row = first; row < last; ++row, out += w.columns) {
    most.mask = w.mask + row * (w.words - most.words);  // so that rows still are w.words apart
    expand_row<L, R>(most, row, out);
    if (whole < w.columns) {
      float rest[WORD];
      int64_t start = w.starts[row];
      for (int64_t word = 0; word < most.words; ++word)
        start += __builtin_popcountll(w.mask[row * w.words + word]);
      Packed last_word{w.mask + (row + 1) * w.words - 1, w.values, &start, 0, 0, 1, WORD, 1};
      expand_row<L, R>(last_word, 0, rest);
      for (int64_t c = whole; c < w.columns; ++c) out[c] = rest[c - whole];
    }
    if (w.scale)
      for (int64_t c = 0; c < w.columns; ++c) out[c] *= w.scale[row];
  }
}

template <class L, class Float32, class BFloat16, class Int8>
constexpr Kernel table(const char* name, bool (*runs_here)()) {
  return Kernel{name,
                runs_here,
                {product<L, Float32>, product<L, BFloat16>, product<L, Int8>},
                {expand<L, Float32>, expand<L, BFloat16>, expand<L, Int8>}};
}

}  // namespace
}  // namespace prunegrid

// Products and expansion of rows, for any set of lanes. A file for one instruction set defines
// `Lanes` and what expands one vector of each value type, then fills its table by `table`.
// A reader takes the masks of one vector or several, and writes their weights to as many.
//
// All is in an unnamed namespace, and nothing of the standard library's templates is used: the
// linker must not share code that was compiled for another instruction set.
#pragma once
#include "kernels.h"

namespace prunegrid {
namespace {

// The reader of one vector whose lanes are columns in their order.
template <class L, class E>
struct InOrder {
  using Value = typename E::Value;
  using Mask = typename L::Mask;
  static constexpr int vectors = 1;
  static void read(const Value* values, Mask mask, typename L::Vector* out) {
    out[0] = E::expand(values, mask);
  }
};

// Read one word of 64 columns, and give each vector and its number to `use`.
template <class L, class R, class F>
inline void read_word(const uint64_t* mask, const typename R::Value*& values, const F& use) {
  constexpr int vectors = WORD / L::width;
  const auto* masks = (const typename R::Mask*)mask;
  // A word has at most sizeof(Value) lines of 64 bytes.
  for (int line = 0; line < (int)sizeof(typename R::Value); ++line)
    __builtin_prefetch((const char*)values + PREFETCH + 64 * line);
#pragma GCC unroll 8
  for (int group = 0; group < vectors / R::vectors; ++group) {
    typename L::Vector out[R::vectors];
    R::read(values, masks[group], out);
    values += __builtin_popcountll(masks[group]);
#pragma GCC unroll 4
    for (int v = 0; v < R::vectors; ++v) use(group * R::vectors + v, out[v]);
  }
}

inline float finish(const Packed& w, int64_t row, float sum) {
  if (w.scale) sum *= w.scale[row];
  return w.bias ? sum + w.bias[row] : sum;
}

template <class L>
inline float total(const typename L::Vector* sums) {
  return L::sum(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3])));
}

// One token: each vector of weights is used as soon as it is expanded.
template <class L, class R>
void row_times_one(const Packed& w, const float* x, int64_t row, float* y) {
  const auto* values = (const typename R::Value*)w.values + w.starts[row];
  const uint64_t* mask = w.mask + row * w.words;
  typename L::Vector sums[SUMS];
  for (auto& sum : sums) sum = L::zero();
  for (int64_t word = 0; word < w.words; ++word, x += WORD)
    read_word<L, R>(mask + word, values, [&](int v, typename L::Vector weights) {
      sums[v % SUMS] = L::fma(weights, L::load(x + v * L::width), sums[v % SUMS]);
    });
  y[row] = finish(w, row, total<L>(sums));
}

// Write one row without its scale, zero beyond the last column, to out [64 words].
template <class L, class R>
void expand_row(const Packed& w, int64_t row, float* out) {
  const auto* values = (const typename R::Value*)w.values + w.starts[row];
  const uint64_t* mask = w.mask + row * w.words;
  for (int64_t word = 0; word < w.words; ++word, out += WORD)
    read_word<L, R>(mask + word, values, [&](int v, typename L::Vector weights) {
      L::store(out + v * L::width, weights);
    });
}

// T tokens times one expanded row, each summed as by `row_times_one`.
template <class L, int T>
void row_times(const Packed& w, const float* weight, const float* x, int64_t row, float* y) {
  const int64_t columns = w.words * WORD;
  typename L::Vector sums[T][SUMS];
  for (auto& token : sums)
    for (auto& sum : token) sum = L::zero();
  for (int64_t c = 0; c < columns; c += SUMS * L::width)
#pragma GCC unroll 4
    for (int s = 0; s < SUMS; ++s) {
      const auto weights = L::load(weight + c + s * L::width);
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t)
        sums[t][s] = L::fma(weights, L::load(x + t * columns + c + s * L::width), sums[t][s]);
    }
  for (int t = 0; t < T; ++t) y[t * w.rows + row] = finish(w, row, total<L>(sums[t]));
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
    for (int64_t t = 0; t < tokens; t += L::tokens) {
      const float* from = x + t * w.words * WORD;
      float* to = y + t * w.rows;
      switch (tokens - t < L::tokens ? tokens - t : L::tokens) {
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

// The last two are the readers for few tokens, of several vectors at once where that is faster.
template <class L, class Float32, class BFloat16, class Int8,
          class FewBFloat16 = InOrder<L, BFloat16>, class FewInt8 = InOrder<L, Int8>>
constexpr Kernel table(const char* name, bool (*runs_here)()) {
  using InOrder32 = InOrder<L, Float32>;
  using InOrder16 = InOrder<L, BFloat16>;
  using InOrder8 = InOrder<L, Int8>;
  return Kernel{name,
                runs_here,
                L::width,
                {1, FewBFloat16::vectors, FewInt8::vectors},
                {product<L, InOrder32>, product<L, FewBFloat16>, product<L, FewInt8>},
                {expand<L, InOrder32>, expand<L, InOrder16>, expand<L, InOrder8>}};
}

}  // namespace
}  // namespace prunegrid

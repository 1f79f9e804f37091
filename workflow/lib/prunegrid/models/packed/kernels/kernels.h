// The interface of all kernels: products of rows of packed weights with a few tokens, and expansion
// of rows into dense ones. It knows nothing of torch, so that a file for one instruction set can be
// compiled with its own -m flags.
//
// Layout of one weight [rows, columns] in memory:
// - mask: uint64 [rows, words], words = ceil(columns / 64). Bit b of word w says that column
//   64 w + b has a value; bits beyond the last column are 0.
// - values: the kept values of all rows, one row after the other, then at least READ_AHEAD bytes,
//   since kernels load whole vectors.
// - starts: int64 [rows + 1], index of each row's first value.
// - scale: float32 [rows] or null. A weight is value * scale of its row.
//
// A lane whose column is dropped holds 0, so that 0 times infinity is NaN, as in a dense product.
#pragma once
#include <cstdint>

namespace prunegrid {

constexpr int64_t WORD = 64;         // columns of one mask word
constexpr int SUMS = 4;              // vectors of sums: fewer wait for each other
constexpr int64_t READ_AHEAD = 64;   // bytes that a kernel may load behind the last value
constexpr int64_t PREFETCH = 2048;   // bytes ahead of the value in use; measured on Zen 3 and a Xeon

enum Values { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2, VALUE_TYPES = 3 };

struct Packed {
  const uint64_t* mask;
  const void* values;
  const int64_t* starts;
  const float* scale;
  const float* bias;  // float32 [rows] or null
  int64_t rows, columns, words;
};

// Write y[t * rows + r] = x[t] . weight[r] * scale[r] + bias[r] for rows first to last - 1.
// x: [tokens, 64 words] in the kernel's order, zero beyond the last column. scratch: 64 words floats.
//
// The order of a row's sum depends on nothing but the instruction set and the type of values. A
// kernel has W lanes and four vectors of sums. Columns c to c + W - 1 are added to vector (c / W) % 4
// by a fused multiply-add (`plain`: a product and a sum), from the first column to the last. Then
// vectors are added, (0 + 1) + (2 + 3), and lanes are halved until one is left: l + (l + W / 2).
// Where `apart` is A > 1, x and c have another order: of W A columns first each A-th, from the first;
// then each A-th from the second, and so on. So lanes that hold A narrow values need no shuffle.
using Product = void (*)(const Packed&, const float* x, int64_t tokens, int64_t first, int64_t last,
                         float* y, float* scratch);

// Write rows first to last - 1 of the weight, scales applied, to out [last - first, columns].
using Expansion = void (*)(const Packed&, int64_t first, int64_t last, float* out);

struct Kernel {
  const char* name;
  bool (*runs_here)();  // whether this CPU has the instructions
  int width;  // W
  int apart[VALUE_TYPES];  // A; W A divides 64
  Product product[VALUE_TYPES];
  Expansion expand[VALUE_TYPES];
};

// Null where the file was compiled for another kind of CPU.
extern const Kernel* const plain;
extern const Kernel* const avx2;
extern const Kernel* const avx512;
extern const Kernel* const neon;

}  // namespace prunegrid

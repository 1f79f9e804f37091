// The kernels as operators of torch: checks of shapes and dtypes, threads, tiles for many tokens.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "kernels.h"

namespace {

using at::Tensor;
using prunegrid::Kernel;
using prunegrid::Packed;

constexpr int64_t FEW_TOKENS = 8;
// Weights that a thread is given at least; weights and rows of a tile of a product with many tokens:
// smaller tiles make torch's product slower (64 rows: by 13%).
constexpr int64_t LEAST_WORK = 1 << 15, TILE = 1 << 20, TILE_ROWS = 192;

// The fastest first. A null one was compiled for another kind of CPU.
const std::vector<const Kernel*>& usable() {
  static const std::vector<const Kernel*> found = [] {
    std::vector<const Kernel*> kernels;
    for (const Kernel* kernel : {prunegrid::avx512, prunegrid::avx2, prunegrid::neon, prunegrid::plain})
      if (kernel && kernel->runs_here()) kernels.push_back(kernel);
    return kernels;
  }();
  return found;
}

std::atomic<const Kernel*>& chosen() {
  static std::atomic<const Kernel*> kernel{usable().front()};
  return kernel;
}

std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (const Kernel* kernel : usable()) names.emplace_back(kernel->name);
  return names;
}

std::string kernel() { return chosen().load()->name; }

void use_kernel(const std::string& name) {
  for (const Kernel* kernel : usable())
    if (name == kernel->name) {
      chosen() = kernel;
      return;
    }
  TORCH_CHECK(false, "this CPU has no kernel ", name);
}

prunegrid::Values type_of(const Tensor& values) {
  switch (values.scalar_type()) {
    case at::kFloat: return prunegrid::FLOAT32;
    case at::kBFloat16: return prunegrid::BFLOAT16;
    case at::kChar: return prunegrid::INT8;
    default: TORCH_CHECK(false, "values are float32, bfloat16 or int8, not ", values.dtype());
  }
}

void require(const Tensor& part, at::ScalarType type, int64_t size, const char* name) {
  TORCH_CHECK(part.scalar_type() == type && part.is_contiguous() && part.numel() == size, name,
              ": expected ", size, " contiguous values of ", type);
}

const float* per_row(const std::optional<Tensor>& vector, int64_t rows, const char* name) {
  if (!vector) return nullptr;
  require(*vector, at::kFloat, rows, name);
  return vector->const_data_ptr<float>();
}

Packed packed(const Tensor& mask, const Tensor& values, const Tensor& starts,
              const std::optional<Tensor>& scale, const std::optional<Tensor>& bias,
              int64_t columns) {
  const int64_t rows = starts.numel() - 1;
  const int64_t words = (columns + prunegrid::WORD - 1) / prunegrid::WORD;
  TORCH_CHECK(rows >= 0 && columns >= 0, "starts: expected at least one value");
  require(starts, at::kLong, rows + 1, "starts");
  require(mask, at::kLong, rows * words, "mask");
  const int64_t* from = starts.const_data_ptr<int64_t>();
  const int64_t room = prunegrid::READ_AHEAD / (int64_t)values.element_size();
  TORCH_CHECK(from[0] == 0 && from[rows] >= 0 && from[rows] + room <= values.numel() &&
                  values.is_contiguous(),
              "values: expected ", from[rows], " contiguous ones and ", room, " behind them");
  return Packed{(const uint64_t*)mask.const_data_ptr<int64_t>(),
                values.const_data_ptr(),
                from,
                per_row(scale, rows, "scale"),
                per_row(bias, rows, "bias"),
                rows,
                columns,
                words};
}

template <class F>
void for_rows(const Packed& w, int64_t first, int64_t last, const F& work) {
  const int64_t least = std::max<int64_t>(1, LEAST_WORK / std::max<int64_t>(1, w.columns));
  at::parallel_for(first, last, least, work);
}

// x [tokens, columns] as a product reads it: [tokens, 64 words], in the kernel's order.
Tensor laid_out(const Packed& w, const Tensor& x, int64_t width, int64_t apart) {
  const int64_t padded = w.words * prunegrid::WORD, tokens = x.size(0);
  if (padded == w.columns && apart == 1) return x;
  Tensor inputs = at::zeros({tokens, padded}, x.options());
  if (apart == 1) {
    inputs.narrow(1, 0, w.columns).copy_(x);
    return inputs;
  }
  const float* from = x.const_data_ptr<float>();
  float* to = inputs.mutable_data_ptr<float>();
  for (int64_t t = 0; t < tokens; ++t, from += w.columns, to += padded)
    for (int64_t first = 0; first < w.columns; first += width * apart)
      for (int64_t part = 0; part < apart; ++part)
        for (int64_t lane = 0; lane < width; ++lane) {
          const int64_t column = first + lane * apart + part;
          if (column < w.columns) to[first + part * width + lane] = from[column];
        }
  return inputs;
}

void few_tokens(const Packed& w, const Tensor& x, const Kernel& kernel, int type, Tensor& y) {
  const Tensor inputs = laid_out(w, x, kernel.width, kernel.apart[type]);
  const float* from = inputs.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  const int64_t tokens = x.size(0);
  for_rows(w, 0, w.rows, [&](int64_t first, int64_t last) {
    std::vector<float> scratch(tokens > 1 ? w.words * prunegrid::WORD : 0);
    kernel.product[type](w, from, tokens, first, last, to, scratch.data());
  });
}

void many_tokens(const Packed& w, const Tensor& x, prunegrid::Expansion expand, Tensor& y) {
  const int64_t tile = std::min(w.rows, std::max(TILE_ROWS, TILE / std::max<int64_t>(1, w.columns)));
  Tensor dense = at::empty({tile, w.columns}, x.options());
  float* to = dense.mutable_data_ptr<float>();
  for (int64_t begin = 0; begin < w.rows; begin += tile) {
    const int64_t end = std::min(begin + tile, w.rows);
    for_rows(w, begin, end, [&](int64_t first, int64_t last) {
      expand(w, first, last, to + (first - begin) * w.columns);
    });
    Tensor part = y.narrow(1, begin, end - begin);
    at::mm_out(part, x, dense.narrow(0, 0, end - begin).t());
  }
}

Tensor linear(const Tensor& x, const Tensor& mask, const Tensor& values, const Tensor& starts,
              const std::optional<Tensor>& scale, const std::optional<Tensor>& bias) {
  TORCH_CHECK(x.dim() > 0 && x.is_floating_point(), "x: expected floats [..., columns]");
  const Packed w = packed(mask, values, starts, scale, bias, x.size(-1));
  auto shape = x.sizes().vec();
  shape.back() = w.rows;
  const Tensor inputs = x.reshape({-1, w.columns}).to(at::kFloat).contiguous();
  Tensor y = at::empty({inputs.size(0), w.rows}, inputs.options());
  const Kernel* kernel = chosen();
  const auto type = type_of(values);
  const int64_t tokens = inputs.size(0);
  if (tokens > 0 && tokens <= FEW_TOKENS) {
    few_tokens(w, inputs, *kernel, type, y);
  } else if (tokens > 0) {
    many_tokens(w, inputs, kernel->expand[type], y);
    if (bias) y.add_(*bias);
  }
  return y.to(x.scalar_type()).reshape(shape);
}

Tensor expand(const Tensor& mask, const Tensor& values, const Tensor& starts,
              const std::optional<Tensor>& scale, int64_t columns) {
  const Packed w = packed(mask, values, starts, scale, std::nullopt, columns);
  Tensor dense = at::empty({w.rows, columns}, values.options().dtype(at::kFloat));
  const auto rows_of = chosen().load()->expand[type_of(values)];
  float* to = dense.mutable_data_ptr<float>();
  for_rows(w, 0, w.rows, [&](int64_t first, int64_t last) {
    rows_of(w, first, last, to + first * columns);
  });
  return dense;
}

}  // namespace

TORCH_LIBRARY(prunegrid, library) {
  library.def("kernels() -> str[]", kernels);
  library.def("kernel() -> str", kernel);
  library.def("use_kernel(str name) -> ()", use_kernel);
  library.def(
      "packed_linear(Tensor x, Tensor mask, Tensor values, Tensor starts, Tensor? scale, "
      "Tensor? bias) -> Tensor");
  library.def(
      "packed_expand(Tensor mask, Tensor values, Tensor starts, Tensor? scale, int columns) -> "
      "Tensor");
}

TORCH_LIBRARY_IMPL(prunegrid, CPU, library) {
  library.impl("packed_linear", linear);
  library.impl("packed_expand", expand);
}

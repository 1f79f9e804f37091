// The kernel for any CPU: eight lanes as an array, a product and a sum where others fuse both.
#include <cstring>

#include "rows.h"

namespace prunegrid {
namespace {

struct Eight {
  float lane[8];
};

struct Lanes {
  using Vector = Eight;
  using Mask = uint8_t;
  static constexpr int width = 8;

  static Eight zero() { return Eight{}; }
  static Eight load(const float* from) {
    Eight v;
    std::memcpy(v.lane, from, sizeof v.lane);
    return v;
  }
  static void store(float* to, Eight v) { std::memcpy(to, v.lane, sizeof v.lane); }
  static Eight fma(Eight a, Eight b, Eight sum) {
    for (int l = 0; l < 8; ++l) sum.lane[l] += a.lane[l] * b.lane[l];
    return sum;
  }
  static Eight add(Eight a, Eight b) {
    for (int l = 0; l < 8; ++l) a.lane[l] += b.lane[l];
    return a;
  }
  static float sum(Eight v) {
    for (int half = 4; half; half /= 2)
      for (int l = 0; l < half; ++l) v.lane[l] += v.lane[l + half];
    return v.lane[0];
  }
  static int count(Mask mask) { return __builtin_popcount(mask); }
};

inline float widened(float value) { return value; }
inline float widened(int8_t value) { return value; }
inline float widened(uint16_t value) {
  const uint32_t bits = (uint32_t)value << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

template <class V>
struct Reader {
  using Value = V;
  static Eight expand(const V* values, uint8_t mask) {
    Eight v;
    for (int l = 0; l < 8; ++l) v.lane[l] = mask >> l & 1 ? widened(*values++) : 0.0f;
    return v;
  }
};

bool always() { return true; }

constexpr Kernel kernel =
    table<Lanes, Reader<float>, Reader<uint16_t>, Reader<int8_t>>("plain", always);

}  // namespace

const Kernel* const plain = &kernel;

}  // namespace prunegrid

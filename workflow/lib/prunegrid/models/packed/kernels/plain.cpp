// The kernel for any CPU: eight lanes as two vectors of four, which GCC and Clang compile for what
// there is. A product and a sum stand where others fuse both.
#include <cstring>

#include "rows.h"

namespace prunegrid {
namespace {

typedef float Four __attribute__((vector_size(16)));
typedef uint32_t Words __attribute__((vector_size(16)));

struct Eight {
  Four low, high;
};

struct Lanes {
  using Vector = Eight;
  using Mask = uint8_t;
  static constexpr int width = 8, tokens = 1;

  static Eight zero() { return Eight{}; }
  static Eight load(const float* from) {
    Eight v;
    std::memcpy(&v, from, sizeof v);
    return v;
  }
  static void store(float* to, Eight v) { std::memcpy(to, &v, sizeof v); }
  static Eight fma(Eight a, Eight b, Eight sum) {
    return Eight{sum.low + a.low * b.low, sum.high + a.high * b.high};
  }
  static Eight add(Eight a, Eight b) { return Eight{a.low + b.low, a.high + b.high}; }
  static float sum(Eight v) {
    const Four four = v.low + v.high;
    return (four[0] + four[2]) + (four[1] + four[3]);
  }
};

// Each lane's place among the next values, and all its bits where it is kept.
struct Places {
  alignas(64) uint32_t kept[256][8];
  uint8_t of[256][8];
  constexpr Places() : kept(), of() {
    for (int mask = 0; mask < 256; ++mask)
      for (int lane = 0, next = 0; lane < 8; ++lane)
        if (mask >> lane & 1) {
          kept[mask][lane] = ~0u;
          of[mask][lane] = (uint8_t)next++;
        }
  }
};
constexpr Places PLACES;

inline uint32_t bits(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return word;
}
inline uint32_t bits(uint16_t value) { return (uint32_t)value << 16; }  // bfloat16
inline uint32_t bits(int8_t value) { return bits((float)value); }

template <class V>
struct Reader {
  using Value = V;
  static Four expand_four(const V* values, const uint8_t* place, const uint32_t* kept) {
    Words mask, words{bits(values[place[0]]), bits(values[place[1]]), bits(values[place[2]]),
                      bits(values[place[3]])};
    std::memcpy(&mask, kept, sizeof mask);
    return (Four)(words & mask);
  }
  static Eight expand(const V* values, uint8_t mask) {
    const uint8_t* place = PLACES.of[mask];
    const uint32_t* kept = PLACES.kept[mask];
    return Eight{expand_four(values, place, kept), expand_four(values, place + 4, kept + 4)};
  }
};

bool always() { return true; }

constexpr Kernel kernel =
    table<Lanes, Reader<float>, Reader<uint16_t>, Reader<int8_t>>("plain", always);

}  // namespace

const Kernel* const plain = &kernel;

}  // namespace prunegrid

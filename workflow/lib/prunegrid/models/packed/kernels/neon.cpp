// The kernel for 64-bit ARM: eight lanes as two vectors of four. A table of 16 masks says which
// bytes of the next values go into each lane.
#include "rows.h"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace prunegrid {
namespace {

struct Eight {
  float32x4_t low, high;
};

struct Lanes {
  using Vector = Eight;
  using Mask = uint8_t;
  static constexpr int width = 8, tokens = 2;

  static Eight zero() { return Eight{vdupq_n_f32(0), vdupq_n_f32(0)}; }
  static Eight load(const float* from) { return Eight{vld1q_f32(from), vld1q_f32(from + 4)}; }
  static void store(float* to, Eight v) {
    vst1q_f32(to, v.low);
    vst1q_f32(to + 4, v.high);
  }
  static Eight fma(Eight a, Eight b, Eight sum) {
    return Eight{vfmaq_f32(sum.low, a.low, b.low), vfmaq_f32(sum.high, a.high, b.high)};
  }
  static Eight add(Eight a, Eight b) {
    return Eight{vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
  }
  static float sum(Eight v) {
    const float32x4_t four = vaddq_f32(v.low, v.high);
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }
};

// Bytes of a shuffle that puts a value of BYTES into the top of its lane; the shuffle itself writes
// zeros for DROPPED.
constexpr uint8_t DROPPED = 255;
template <int BYTES>
struct Shuffles {
  alignas(16) uint8_t of[16][16];
  constexpr Shuffles() : of() {
    for (int mask = 0; mask < 16; ++mask)
      for (int lane = 0, next = 0; lane < 4; ++lane) {
        const bool kept = mask >> lane & 1;
        for (int byte = 0; byte < 4; ++byte) {
          const int part = byte - (4 - BYTES);
          of[mask][4 * lane + byte] = kept && part >= 0 ? (uint8_t)(BYTES * next + part) : DROPPED;
        }
        next += kept;
      }
  }
};
template <int BYTES>
constexpr Shuffles<BYTES> SHUFFLES{};

template <class V>
uint8x16_t shuffled(const V* values, int mask) {
  const uint8x16_t next = vld1q_u8((const uint8_t*)values);
  return vqtbl1q_u8(next, vld1q_u8(SHUFFLES<sizeof(V)>.of[mask]));
}

// float32, and bfloat16 in the upper half of a lane.
template <class V>
struct Float {
  using Value = V;
  static Eight expand(const V* values, uint8_t mask) {
    const V* later = values + __builtin_popcount(mask & 15);
    return Eight{vreinterpretq_f32_u8(shuffled(values, mask & 15)),
                 vreinterpretq_f32_u8(shuffled(later, mask >> 4))};
  }
};

struct Int8 {
  using Value = int8_t;
  static float32x4_t four(const int8_t* values, int mask) {
    const int32x4_t top = vreinterpretq_s32_u8(shuffled(values, mask));
    return vcvtq_f32_s32(vshrq_n_s32(top, 24));
  }
  static Eight expand(const int8_t* values, uint8_t mask) {
    const int8_t* later = values + __builtin_popcount(mask & 15);
    return Eight{four(values, mask & 15), four(later, mask >> 4)};
  }
};

bool always() { return true; }

constexpr Kernel kernel = table<Lanes, Float<float>, Float<uint16_t>, Int8>("neon", always);

}  // namespace

const Kernel* const neon = &kernel;

}  // namespace prunegrid
#else
const prunegrid::Kernel* const prunegrid::neon = nullptr;
#endif

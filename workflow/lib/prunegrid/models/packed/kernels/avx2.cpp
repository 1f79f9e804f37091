// The kernel for AVX2 and FMA: eight lanes. Tables of 256 masks say where each lane's value lies
// among the next eight.
#include "rows.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>

namespace prunegrid {
namespace {

struct Lanes {
  using Vector = __m256;
  using Mask = uint8_t;
  static constexpr int width = 8, tokens = 2;

  static __m256 zero() { return _mm256_setzero_ps(); }
  static __m256 load(const float* from) { return _mm256_loadu_ps(from); }
  static void store(float* to, __m256 v) { _mm256_storeu_ps(to, v); }
  static __m256 fma(__m256 a, __m256 b, __m256 sum) { return _mm256_fmadd_ps(a, b, sum); }
  static __m256 add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
  static float sum(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
};

// For float32: each lane's place among the values, as bytes (2 KiB in all, so that x stays in the
// first cache); DROPPED sets the sign bit that vblendvps reads.
constexpr int8_t DROPPED = -128;
struct Places {
  alignas(64) int8_t of[256][8];
  constexpr Places() : of() {
    for (int mask = 0; mask < 256; ++mask)
      for (int lane = 0, next = 0; lane < 8; ++lane)
        of[mask][lane] = mask >> lane & 1 ? (int8_t)next++ : DROPPED;
  }
};
constexpr Places PLACES;

// For narrow values: bytes of a shuffle that puts a value into the top of its lane; the shuffle
// itself writes zeros for DROPPED.
template <int BYTES>
struct Shuffles {
  alignas(64) int8_t of[256][32];
  constexpr Shuffles() : of() {
    for (int mask = 0; mask < 256; ++mask)
      for (int lane = 0, next = 0; lane < 8; ++lane) {
        const bool kept = mask >> lane & 1;
        for (int byte = 0; byte < 4; ++byte) {
          const int part = byte - (4 - BYTES);
          of[mask][4 * lane + byte] =
              kept && part >= 0 ? (int8_t)(BYTES * next + part) : DROPPED;
        }
        next += kept;
      }
  }
};
constexpr Shuffles<2> SHUFFLES16;
constexpr Shuffles<1> SHUFFLES8;

struct Float32 {
  using Value = float;
  static __m256 expand(const float* values, uint8_t mask) {
    const __m256i places = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)PLACES.of[mask]));
    __m256 next = _mm256_loadu_ps(values);
    // Keeps the load out of vpermps, which takes twice as long on Zen 3 if it loads itself.
    asm("" : "+x"(next));
    const __m256 moved = _mm256_permutevar8x32_ps(next, places);
    return _mm256_blendv_ps(moved, _mm256_setzero_ps(), _mm256_castsi256_ps(places));
  }
};

struct BFloat16 {
  using Value = uint16_t;
  static __m256 expand(const uint16_t* values, uint8_t mask) {
    const __m256i next = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)values));
    const __m256i shuffle = _mm256_load_si256((const __m256i*)SHUFFLES16.of[mask]);
    return _mm256_castsi256_ps(_mm256_shuffle_epi8(next, shuffle));
  }
};

struct Int8 {
  using Value = int8_t;
  static __m256 expand(const int8_t* values, uint8_t mask) {
    const __m256i next = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i*)values));
    const __m256i shuffle = _mm256_load_si256((const __m256i*)SHUFFLES8.of[mask]);
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_shuffle_epi8(next, shuffle), 24));
  }
};

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("popcnt");
}

constexpr Kernel kernel = table<Lanes, Float32, BFloat16, Int8>("avx2", has_avx2);

}  // namespace

const Kernel* const avx2 = &kernel;

}  // namespace prunegrid
#else
const prunegrid::Kernel* const prunegrid::avx2 = nullptr;
#endif

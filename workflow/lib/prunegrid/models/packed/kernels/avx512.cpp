// The kernel for AVX-512 with VBMI2 (Ice Lake, Zen 4 and later): sixteen lanes, which the
// instructions vexpandps, vpexpandw and vpexpandb fill by a mask.
#include "rows.h"

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512VBMI2__)
#include <immintrin.h>

namespace prunegrid {
namespace {

struct Lanes {
  using Vector = __m512;
  using Mask = uint16_t;
  static constexpr int width = 16, tokens = 4;

  static __m512 zero() { return _mm512_setzero_ps(); }
  static __m512 load(const float* from) { return _mm512_loadu_ps(from); }
  static void store(float* to, __m512 v) { _mm512_storeu_ps(to, v); }
  static __m512 fma(__m512 a, __m512 b, __m512 sum) { return _mm512_fmadd_ps(a, b, sum); }
  static __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
  static float sum(__m512 v) {
    const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), high);
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
};

// Each loads sixteen values and expands them in the register: expanding loads are slow on Zen 4.
struct Float32 {
  using Value = float;
  static __m512 expand(const float* values, uint16_t mask) {
    return _mm512_maskz_expand_ps(mask, _mm512_loadu_ps(values));
  }
};

struct BFloat16 {
  using Value = uint16_t;
  static __m512 expand(const uint16_t* values, uint16_t mask) {
    const __m256i next = _mm256_loadu_si256((const __m256i*)values);
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_expand_epi16(mask, next));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
};

struct Int8 {
  using Value = int8_t;
  static __m512 expand(const int8_t* values, uint16_t mask) {
    const __m128i next = _mm_loadu_si128((const __m128i*)values);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_expand_epi8(mask, next)));
  }
};

// Thirty-two values expanded at once; each lane then holds an even column and, above it, an odd one.
struct TwoOfBFloat16 {
  using Value = uint16_t;
  using Mask = uint32_t;
  static constexpr int vectors = 2;
  static void read(const uint16_t* values, uint32_t mask, __m512* out) {
    const __m512i both = _mm512_maskz_expand_epi16(mask, _mm512_loadu_si512(values));
    out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    out[1] = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(0xFFFF0000)));
  }
};

// Sixty-four values expanded at once, four in each lane, the first one lowest.
struct FourOfInt8 {
  using Value = int8_t;
  using Mask = uint64_t;
  static constexpr int vectors = 4;
  template <int SHIFT>
  static __m512 part(__m512i four) {
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(four, SHIFT), 24));
  }
  static void read(const int8_t* values, uint64_t mask, __m512* out) {
    const __m512i four = _mm512_maskz_expand_epi8(mask, _mm512_loadu_si512(values));
    out[0] = part<24>(four);
    out[1] = part<16>(four);
    out[2] = part<8>(four);
    out[3] = part<0>(four);
  }
};

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi2") &&
         __builtin_cpu_supports("popcnt");
}

constexpr Kernel kernel =
    table<Lanes, Float32, BFloat16, Int8, TwoOfBFloat16, FourOfInt8>("avx512", has_avx512);

}  // namespace

const Kernel* const avx512 = &kernel;

}  // namespace prunegrid
#else
const prunegrid::Kernel* const prunegrid::avx512 = nullptr;
#endif

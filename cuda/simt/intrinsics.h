// CUDA's built-in functions that are neither synchronisation nor atomics: loads, bits, rounding and the fast
// mathematics.
#pragma once

#include <math.h>

#include <bit>
#include <cstdint>
#include <cstring>

// --- loads and stores with a caching hint: here, plain ones
// ----------------------------------------------------------- (CUDA declares them for its built-in types; a template
// covers them all, float4 included.)
template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldca(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}

// --- bits
// -------------------------------------------------------------------------------------------------------------
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int i = 0; i < 32; ++i) y |= (x >> i & 1u) << (31 - i);
  return y;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline int __mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

// --- conversions and arithmetic with a named rounding
// -----------------------------------------------------------------
inline int __float2int_rn(float x) { return int(nearbyintf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline int __float2int_rd(float x) { return int(floorf(x)); }
inline int __float2int_ru(float x) { return int(ceilf(x)); }
inline unsigned __float2uint_rn(float x) { return unsigned(nearbyintf(x)); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }
inline float __fadd_rn(float a, float b) {
  volatile float r = a + b;
  return r;
}  // volatile: never fused into an FMA
inline float __fsub_rn(float a, float b) {
  volatile float r = a - b;
  return r;
}
inline float __fmul_rn(float a, float b) {
  volatile float r = a * b;
  return r;
}
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return float(1.0 / sqrt(double(x))); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __saturatef(float x) { return x > 1 ? 1 : x > 0 ? x : 0; }  // NaN becomes 0, as in CUDA

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rcbrtf(float x) { return 1.0f / cbrtf(x); }
inline float sinpif(float x) { return float(sin(3.14159265358979323846 * fmod(double(x), 2.0))); }
inline float cospif(float x) { return float(cos(3.14159265358979323846 * fmod(double(x), 2.0))); }
inline void sincospif(float x, float* s, float* c) { *s = sinpif(x), *c = cospif(x); }
inline float normcdff(float x) { return float(0.5 * erfc(-0.70710678118654752440 * double(x))); }
inline float norm3df(float a, float b, float c) { return sqrtf(a * a + b * b + c * c); }

// --- max and min of all number types
// ----------------------------------------------------------------------------------
#define SIMT_MIN_MAX(type)                                  \
  inline type max(type a, type b) { return a > b ? a : b; } \
  inline type min(type a, type b) { return a < b ? a : b; }
SIMT_MIN_MAX(int)
SIMT_MIN_MAX(unsigned)
SIMT_MIN_MAX(long)
SIMT_MIN_MAX(unsigned long)
SIMT_MIN_MAX(long long)
SIMT_MIN_MAX(unsigned long long)
#undef SIMT_MIN_MAX
inline float max(float a, float b) { return fmaxf(a, b); }  // a number wins over NaN, as in CUDA
inline float min(float a, float b) { return fminf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(double a, double b) { return fmin(a, b); }

// --- fast mathematics
// ------------------------------------------------------------------------------------------------- As the hardware
// does it: by base two, so that errors grow with the argument in the same way. The names are macros because the C
// library keeps them for itself.
namespace simt {
inline float fast_exp(float x) { return exp2f(x * 1.4426950408889634f); }
inline float fast_log(float x) { return log2f(x) * 0.69314718055994531f; }
inline float fast_pow(float x, float y) { return exp2f(y * log2f(x)); }
inline float fast_divide(float a, float b) { return fabsf(b) > 0x1p126f && isfinite(b) ? a * 0.0f : a / b; }
}  // namespace simt
#define __expf(x) (::simt::fast_exp(x))
#define __exp10f(x) (exp2f((x)*3.3219280948873623f))
#define __logf(x) (::simt::fast_log(x))
#define __log2f(x) (log2f(x))
#define __log10f(x) (log2f(x) * 0.30102999566398120f)
#define __powf(x, y) (::simt::fast_pow(x, y))
#define __sinf(x) (sinf(x))
#define __cosf(x) (cosf(x))
#define __tanf(x) (tanf(x))
#define __sincosf(x, s, c) (sincosf(x, s, c))
#define __fdividef(a, b) (::simt::fast_divide(a, b))
#define __tanhf(x) (tanhf(x))

#include "cluster/base/philox.h"

#include <cmath>

#include "cluster/base/hash.h"

namespace weft {
namespace {

constexpr uint32_t kMul0 = 0xD2511F53;
constexpr uint32_t kMul1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;
constexpr uint32_t kWeyl1 = 0xBB67AE85;

// Horner's rule, highest coefficient first.
template <size_t N>
double Polynomial(const double (&c)[N], double x) {
  double sum = c[0];
  for (size_t i = 1; i < N; ++i) sum = sum * x + c[i];
  return sum;
}

}  // namespace

PhiloxBlock Philox4x32(uint64_t key, uint64_t counter_hi, uint64_t counter_lo) {
  auto k0 = static_cast<uint32_t>(key);
  auto k1 = static_cast<uint32_t>(key >> 32);
  PhiloxBlock c = {static_cast<uint32_t>(counter_lo), static_cast<uint32_t>(counter_lo >> 32),
                   static_cast<uint32_t>(counter_hi), static_cast<uint32_t>(counter_hi >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kMul0) * c[0];
    const uint64_t p1 = static_cast<uint64_t>(kMul1) * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return c;
}

KeyedRandom::KeyedRandom(uint64_t seed, std::string_view purpose, uint64_t step)
    : key_(HashCombine(HashCombine(Mix64(seed), Fnv1a64(purpose)), step)) {}

uint64_t KeyedRandom::Bits(uint64_t row, uint64_t element) const {
  const PhiloxBlock block = Philox4x32(key_, row, element);
  return (static_cast<uint64_t>(block[1]) << 32) | block[0];
}

double KeyedRandom::Uniform(uint64_t row, uint64_t element) const {
  return static_cast<double>(Bits(row, element) >> 11) * 0x1p-53;
}

double KeyedRandom::UniformOpen(uint64_t row, uint64_t element) const {
  return (static_cast<double>(Bits(row, element) >> 12) + 0.5) * 0x1p-52;
}

double KeyedRandom::Normal(uint64_t row, uint64_t element) const {
  return InverseNormalCdf(UniformOpen(row, element));
}

uint64_t KeyedRandom::Below(uint64_t n, uint64_t row, uint64_t element) const {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(Bits(row, element)) * n) >> 64);
}

double InverseNormalCdf(double p) {
  // Wichura (1988), Algorithm AS 241, PPND16.
  static const double kA[] = {2509.0809287301226727, 33430.575583588128105, 67265.770927008700853,
                              45921.953931549871457, 13731.693765509461125, 1971.5909503065514427,
                              133.14166789178437745, 3.387132872796366608};
  static const double kB[] = {
      5226.495278852545925,  28729.085735721942674, 39307.89580009271061,  21213.794301586595867,
      5394.1960214247511077, 687.1870074920579083,  42.313330701600911252, 1.0};
  static const double kC[] = {7.7454501427834140764e-4, 0.0227238449892691845833,
                              0.24178072517745061177,   1.27045825245236838258,
                              3.64784832476320460504,   5.7694972214606914055,
                              4.6303378461565452959,    1.42343711074968357734};
  static const double kD[] = {1.05075007164441684324e-9, 5.475938084995344946e-4,
                              0.0151986665636164571966,  0.14810397642748007459,
                              0.68976733498510000455,    1.6763848301838038494,
                              2.05319162663775882187,    1.0};
  static const double kE[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5,
                              0.0012426609473880784386,  0.026532189526576123093,
                              0.29656057182850489123,    1.7848265399172913358,
                              5.4637849111641143699,     6.6579046435011037772};
  static const double kF[] = {2.04426310338993978564e-15, 1.4215117583164458887e-7,
                              1.8463183175100546818e-5,   7.868691311456132591e-4,
                              0.0148753612908506148525,   0.13692988092273580531,
                              0.59983220655588793769,     1.0};
  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * Polynomial(kA, r) / Polynomial(kB, r);
  }
  double r = std::sqrt(-std::log(q < 0 ? p : 1.0 - p));
  double value;
  if (r <= 5.0) {
    r -= 1.6;
    value = Polynomial(kC, r) / Polynomial(kD, r);
  } else {
    r -= 5.0;
    value = Polynomial(kE, r) / Polynomial(kF, r);
  }
  return q < 0 ? -value : value;
}

}  // namespace weft

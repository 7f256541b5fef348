#include "dataloader/jpeg/idct.h"

#include <algorithm>
#include <cstring>

#include "dataloader/jpeg/idct_constants.h"
#include "dataloader/jpeg/idct_x86.h"

namespace weft::jpeg {

GroupQuant MakeGroupQuant(const std::array<uint16_t, 64>& quant) {
  GroupQuant out;
  for (size_t i = 0; i < 256; ++i) out[i] = static_cast<int16_t>(quant[(i / 32) * 8 + i % 8]);
  return out;
}

namespace {

int Descale(int x, int bits) {
  return static_cast<int>(static_cast<unsigned>(x) + (1u << (bits - 1))) >> bits;
}

uint8_t ToSample(int x) { return static_cast<uint8_t>(std::clamp(x + 128, 0, 255)); }

// Products and sums wrap, as those of the SIMD paths do.
int Mul(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) * static_cast<unsigned>(b));
}
int Add(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
}
int Sub(int a, int b) {
  return static_cast<int>(static_cast<unsigned>(a) - static_cast<unsigned>(b));
}
int Short(int x) { return static_cast<int16_t>(x); }
int Saturate(int x) { return std::clamp(x, -32768, 32767); }

// The 8-point inverse transform after Loeffler, Ligtenberg and Moschytz (ICASSP 1989), 11 multiplications.
void Transform8(const int in[8], int bits, int out[8]) {
  const int z1 = Mul(Add(in[2], in[6]), Fix(0.541196100));
  const int e2 = Sub(z1, Mul(in[6], Fix(1.847759065)));
  const int e3 = Add(z1, Mul(in[2], Fix(0.765366865)));
  const int e0 = Mul(Short(in[0] + in[4]), 1 << kConstBits);
  const int e1 = Mul(Short(in[0] - in[4]), 1 << kConstBits);
  const int even[4] = {Add(e0, e3), Add(e1, e2), Sub(e1, e2), Sub(e0, e3)};

  const int s3 = Short(in[7] + in[3]);
  const int s4 = Short(in[5] + in[1]);
  const int z5 = Mul(s3 + s4, Fix(1.175875602));
  const int z3 = Sub(z5, Mul(s3, Fix(1.961570560)));
  const int z4 = Sub(z5, Mul(s4, Fix(0.390180644)));
  const int a = Mul(Add(in[7], in[1]), -Fix(0.899976223));
  const int b = Mul(Add(in[5], in[3]), -Fix(2.562915447));
  const int odd[4] = {
      Add(Add(Mul(in[1], Fix(1.501321110)), a), z4), Add(Add(Mul(in[3], Fix(3.072711026)), b), z3),
      Add(Add(Mul(in[5], Fix(2.053119869)), b), z4), Add(Add(Mul(in[7], Fix(0.298631336)), a), z3)};
  for (int i = 0; i < 4; ++i) {
    out[i] = Descale(Add(even[i], odd[i]), bits);
    out[7 - i] = Descale(Sub(even[i], odd[i]), bits);
  }
}

// Four points from the lower seven frequencies; in[4] is not looked at.
void Transform4(const int in[8], int bits, int out[4]) {
  const int e = Mul(in[0], 1 << (kConstBits + 1));
  const int e2 = Sub(Mul(in[2], Fix(1.847759065)), Mul(in[6], Fix(0.765366865)));
  const int even[2] = {Add(e, e2), Sub(e, e2)};
  const int o0 = Add(Sub(Mul(in[5], Fix(1.451774981)), Mul(in[7], Fix(0.211164243))),
                     Sub(Mul(in[1], Fix(1.061594337)), Mul(in[3], Fix(2.172734803))));
  const int o2 = Sub(Add(Mul(in[3], Fix(0.899976223)), Mul(in[1], Fix(2.562915447))),
                     Add(Mul(in[7], Fix(0.509795579)), Mul(in[5], Fix(0.601344887))));
  out[0] = Descale(Add(even[0], o2), bits + 1);
  out[3] = Descale(Sub(even[0], o2), bits + 1);
  out[1] = Descale(Add(even[1], o0), bits + 1);
  out[2] = Descale(Sub(even[1], o0), bits + 1);
}

// Two points from the frequencies 0, 1, 3, 5 and 7.
void Transform2(const int in[8], int bits, int out[2]) {
  const int even = Mul(in[0], 1 << (kConstBits + 2));
  const int odd = Add(Sub(Mul(in[5], Fix(0.850430095)), Mul(in[7], Fix(0.720959822))),
                      Sub(Mul(in[1], Fix(3.624509785)), Mul(in[3], Fix(1.272758580))));
  out[0] = Descale(Add(even, odd), bits + 2);
  out[1] = Descale(Sub(even, odd), bits + 2);
}

// Columns, then rows, of the four blocks.
template <int kPoints, void (*kTransform)(const int[8], int, int[kPoints])>
void Portable(const int16_t* coefficients, const GroupQuant& quant, int /*extent*/, uint8_t* out,
              size_t stride) {
  for (size_t block = 0; block < 4; ++block) {
    int columns[kPoints][8];
    for (size_t x = 0; x < 8; ++x) {
      int in[8];
      int result[kPoints];
      for (size_t y = 0; y < 8; ++y) {
        const size_t at = 32 * y + 8 * block + x;
        in[y] = Short(coefficients[at] * quant[at]);
      }
      kTransform(in, kConstBits - kPassBits, result);
      for (size_t y = 0; y < kPoints; ++y) columns[y][x] = Saturate(result[y]);
    }
    for (size_t y = 0; y < kPoints; ++y) {
      int result[kPoints];
      kTransform(columns[y], kConstBits + kPassBits + 3, result);
      for (size_t x = 0; x < kPoints; ++x)
        out[y * stride + block * kPoints + x] = ToSample(result[x]);
    }
  }
}

void Portable1(const int16_t* coefficients, const GroupQuant& quant, int /*extent*/, uint8_t* out,
               size_t /*stride*/) {
  for (size_t block = 0; block < 4; ++block)
    out[block] = ToSample(Descale(coefficients[8 * block] * quant[8 * block], 3));
}

}  // namespace

std::vector<GroupIdct> AllIdcts(int shrink) {
  std::vector<GroupIdct> all;
  switch (shrink) {
    case 1:
      all = {&Portable<8, Transform8>};
      break;
    case 2:
      all = {&Portable<4, Transform4>};
      break;
    case 4:
      return {&Portable<2, Transform2>};
    default:
      return {&Portable1};
  }
  for (const GroupIdct idct : X86Idcts(shrink)) all.push_back(idct);
  return all;
}

GroupIdct ChooseIdct(int shrink) { return AllIdcts(shrink).back(); }

}  // namespace weft::jpeg

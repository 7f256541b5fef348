// Inverse transforms: four blocks side by side to rows of samples, at 1, 1/2, 1/4 or 1/8 of the size.
//
// Bit for bit libjpeg-turbo's "islow" and its reduced-size transforms, with every instruction set, for all coefficients
// that an encoder of 8-bit samples can write. (Where the products leave 16 bits, libjpeg-turbo's own paths disagree.)
// Thread rule: pure functions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::jpeg {

// Steps of one component, repeated for four blocks as the coefficients lie (BlockRows).
using GroupQuant = std::array<int16_t, 256>;
GroupQuant MakeGroupQuant(const std::array<uint16_t, 64>& quant);

// `extent`: only so many zigzag positions of the four blocks may hold anything. Writes 8 / shrink rows of 32 / shrink samples.
using GroupIdct = void (*)(const int16_t* coefficients, const GroupQuant& quant, int extent,
                           uint8_t* out, size_t stride);

// The fastest that this machine has; shrink is 1, 2, 4 or 8.
GroupIdct ChooseIdct(int shrink);
// All that it has, the portable one first: for tests.
std::vector<GroupIdct> AllIdcts(int shrink);

}  // namespace weft::jpeg

// The one narrow precompiled header of the LibTorch libraries (see weft_library(... TORCH) in WeftTargets.cmake).
// Nearly every file that touches a tensor needs these; they never change. Nothing of Weft's own belongs here.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

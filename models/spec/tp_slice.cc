#include "models/spec/tp_slice.h"

#include <algorithm>
#include <string>

#include "cluster/base/logging.h"

namespace weft {
namespace {

int64_t SectionExtent(const ParamSpec& param) {
  return param.shape[static_cast<size_t>(param.tp_dim)] / param.tp_sections;
}

// Nothing is split: no rank has a part only.
bool IsReplicated(const ParamSpec& param, int tp) { return param.tp_dim < 0 || tp == 1; }

std::string Text(int64_t value) { return std::to_string(value); }

}  // namespace

int64_t TensorBox::NumElements() const {
  int64_t n = 1;
  for (const int64_t length : lengths) n *= length;
  return n;
}

IndexRange EvenPart(int64_t extent, int parts, int index) {
  WEFT_CHECK(parts >= 1 && index >= 0 && index < parts) << "part " << index << " of " << parts;
  const int64_t base = extent / parts;
  const int64_t larger = extent % parts;
  return {index * base + std::min<int64_t>(index, larger), base + (index < larger ? 1 : 0)};
}

IndexRange TpRange(int64_t extent, int64_t units, int tp, int tp_rank) {
  if (units == 0) return EvenPart(extent, tp, tp_rank);
  const int64_t unit = extent / units;
  if (units >= tp) {
    WEFT_CHECK(units % tp == 0) << units << " units over " << tp << " ranks";
    const int64_t length = units / tp * unit;
    return {tp_rank * length, length};
  }
  WEFT_CHECK(tp % units == 0) << units << " units over " << tp << " ranks";
  return {tp_rank / (tp / units) * unit, unit};
}

Status CheckTpSplit(const ParamSpec& param, int tp) {
  if (IsReplicated(param, tp)) return OkStatus();
  WEFT_CHECK(param.tp_dim < static_cast<int>(param.shape.size())) << param.name;
  WEFT_CHECK(param.tp_sections == 1 || param.tp_dim == 0) << param.name;
  const int64_t dim = param.shape[static_cast<size_t>(param.tp_dim)];
  WEFT_CHECK(dim % param.tp_sections == 0) << param.name;
  const int64_t extent = SectionExtent(param);
  const int64_t units = param.tp_units;
  if (units == 0) {
    if (extent >= tp) return OkStatus();
    return InvalidArgument(Text(extent) + (param.tp_dim == 0 ? " rows of " : " columns of ") +
                           param.name + " cannot be split over " + Text(tp) + " ranks");
  }
  WEFT_CHECK(extent % units == 0) << param.name;
  // A repeated slice of a row-parallel layer would be added twice, so query heads are not repeated; kv heads may be.
  const bool may_repeat = param.tp_dim == 0 && param.tp_sections == 1;
  if (units % tp == 0 || (may_repeat && tp % units == 0)) return OkStatus();
  return InvalidArgument(Text(units) + " heads of " + param.name + " cannot be split over " +
                         Text(tp) + " ranks");
}

std::vector<TensorBox> TpBoxes(const ParamSpec& param, int tp, int tp_rank) {
  WEFT_CHECK(tp >= 1 && tp_rank >= 0 && tp_rank < tp) << "rank " << tp_rank << " of " << tp;
  const TensorBox whole{std::vector<int64_t>(param.shape.size(), 0), param.shape};
  if (IsReplicated(param, tp)) return {whole};
  const auto dim = static_cast<size_t>(param.tp_dim);
  const int64_t extent = SectionExtent(param);
  const IndexRange range = TpRange(extent, param.tp_units, tp, tp_rank);
  std::vector<TensorBox> boxes;
  for (int section = 0; section < param.tp_sections; ++section) {
    TensorBox box = whole;
    box.offsets[dim] = section * extent + range.offset;
    box.lengths[dim] = range.length;
    boxes.push_back(std::move(box));
  }
  return boxes;
}

std::vector<int64_t> LocalShape(const ParamSpec& param, int tp, int tp_rank) {
  std::vector<int64_t> shape = param.shape;
  if (IsReplicated(param, tp)) return shape;
  const IndexRange range = TpRange(SectionExtent(param), param.tp_units, tp, tp_rank);
  shape[static_cast<size_t>(param.tp_dim)] = param.tp_sections * range.length;
  return shape;
}

int TpReplicas(const ParamSpec& param, int tp) {
  if (tp == 1) return 1;
  if (param.tp_dim < 0) return tp;
  if (param.tp_units == 0 || param.tp_units >= tp) return 1;
  return tp / static_cast<int>(param.tp_units);
}

}  // namespace weft

#include "models/spec/param_list.h"

#include <utility>

namespace weft {

ParamSpec& ParamList::Add(const std::string& name, std::vector<int64_t> shape, Init init) {
  ParamSpec param;
  param.name = name;
  param.shape = std::move(shape);
  param.init = init;
  param.owner = block_->name;
  param.decay = decays_(param);
  block_->params.push_back(std::move(param));
  return block_->params.back();
}

void ParamList::RmsNorm(const std::string& name, int64_t width, NormRows rows) {
  ParamSpec& weight = Add(name + ".weight", {width}, Init::Constant(1));
  weight.keep_fp32 = true;
  weight.sequence_partial = rows == NormRows::kOwn;
}

void ParamList::LayerNorm(const std::string& name, int64_t width, NormRows rows) {
  RmsNorm(name, width, rows);
  ParamSpec& bias = Add(name + ".bias", {width}, Init::Constant(0));
  bias.keep_fp32 = true;
  bias.sequence_partial = rows == NormRows::kOwn;
}

void ParamList::Linear(const std::string& name, int64_t out, int64_t in, const LinearInit& init) {
  Add(name + ".weight", {out, in}, init.weight);
  if (init.bias) Add(name + ".bias", {out}, *init.bias);
}

void ParamList::Column(const std::string& name, int64_t out, int64_t in, int64_t units,
                       const LinearInit& init) {
  ParamSpec& weight = Add(name + ".weight", {out, in}, init.weight);
  weight.tp_dim = 0;
  weight.tp_units = units;
  if (!init.bias) return;
  ParamSpec& bias = Add(name + ".bias", {out}, *init.bias);
  bias.tp_dim = 0;
  bias.tp_units = units;
}

void ParamList::Row(const std::string& name, int64_t out, int64_t in, int64_t units,
                    const LinearInit& init) {
  ParamSpec& weight = Add(name + ".weight", {out, in}, init.weight);
  weight.tp_dim = 1;
  weight.tp_units = units;
  if (init.bias) Add(name + ".bias", {out}, *init.bias).sequence_partial = true;
}

}  // namespace weft

#include "models/spec/encoder_layout.h"

#include <map>
#include <string>

namespace weft {
namespace {

// What readers say of an activation follows what its maker says.
void CopyToReaders(ModelSpec* spec) {
  std::map<std::string, const ActivationSpec*> made;
  for (const BlockSpec& block : spec->blocks) {
    for (const ActivationSpec& output : block.outputs) made[output.name] = &output;
  }
  for (BlockSpec& block : spec->blocks) {
    for (ActivationSpec& input : block.inputs) {
      const auto it = made.find(input.name);
      if (it == made.end()) continue;
      input.dealt = it->second->dealt;
      input.sequence = it->second->sequence;
    }
  }
}

}  // namespace

void ApplyEncoderLayout(const Layout& layout, ModelSpec* spec) {
  if (layout.encoder() != ENCODER_DEAL || layout.tp() == 1 || spec->encoder.empty()) return;
  BlockSpec* last = nullptr;
  for (BlockSpec& block : spec->blocks) {
    if (block.tower != spec->encoder) continue;
    last = &block;
    for (ParamSpec& param : block.params) {
      param.tp_dim = -1;
      param.tp_sections = 1;
      param.tp_units = 0;
      param.dealt = true;
    }
    for (ActivationSpec& output : block.outputs) {
      output.dealt = true;
      output.sequence = false;
    }
  }
  if (last == nullptr) return;
  for (ActivationSpec& output : last->outputs) output.dealt = false;
  CopyToReaders(spec);
}

}  // namespace weft

#include "models/spec/encoder_layout.h"

namespace weft {

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
}

}  // namespace weft

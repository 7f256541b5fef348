// Shape legend: B samples, S tokens, W width, N chosen rows, V vocabulary.
#include "models/roberta/roberta.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linear.h>

#include <string>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "models/layers/activation.h"
#include "models/layers/dropout.h"
#include "models/layers/embedding.h"
#include "models/layers/layer_norm.h"
#include "models/layers/linear.h"
#include "models/layers/token_rows.h"
#include "models/layers/transformer_block.h"
#include "models/losses/vocab_cross_entropy.h"

namespace weft {
namespace {

constexpr const char* kEmbeddings = "roberta.embeddings.";

LayerNorm MakeNorm(ParameterStore* store, const std::string& name) {
  return {store->Get(name + ".weight"), store->Get(name + ".bias"), RobertaConfig::kNormEps};
}

// Padding has the position of its id; the words before it count from the next one on.
at::Tensor Positions(const at::Tensor& ids_BS) {
  const at::Tensor words = ids_BS.ne(RobertaConfig::kPadId).to(at::kLong);
  return at::cumsum(words, 1).mul_(words).add_(RobertaConfig::kPadId);
}

class Embeddings : public Block {
 public:
  Embeddings(const BlockSpec& spec, double dropout, const TensorAxis& axis, ParameterStore* store)
      : Block(spec, ParametersOf(spec.params, store)),
        dropout_(dropout),
        axis_(axis),
        words_(store->Get(std::string(kEmbeddings) + "word_embeddings.weight"), axis),
        positions_(store->Get(std::string(kEmbeddings) + "position_embeddings.weight")),
        types_(store->Get(std::string(kEmbeddings) + "token_type_embeddings.weight")),
        norm_(MakeNorm(store, std::string(kEmbeddings) + "LayerNorm")) {}

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override {
    const at::Tensor& ids_BS = inputs[0];
    const at::Tensor sum_BSW =
        at::add(at::add(words_(ids_BS), types_->value), positions_(Positions(ids_BS)));
    const at::Tensor x_BSW =
        ApplyDropout(norm_(sum_BSW), DropoutAt(context, spec().name + ".hidden", dropout_),
                     TokenRuns(context, sum_BSW.size(1), sum_BSW.size(2)));
    return {SplitTokens(x_BSW, axis_, spec().name)};
  }

 private:
  double dropout_;
  TensorAxis axis_;
  VocabEmbedding words_;
  Embedding positions_;
  Parameter* types_;
  LayerNorm norm_;
};

class Head : public Block {
 public:
  Head(const BlockSpec& spec, const TensorAxis& axis, ParameterStore* store)
      : Block(spec, ParametersOf(spec.params, store)),
        axis_(axis),
        dense_(store->Get("lm_head.dense.weight"), store->Get("lm_head.dense.bias")),
        norm_(MakeNorm(store, "lm_head.layer_norm")),
        decoder_{store->Get("lm_head.decoder.weight"), store->Get("lm_head.bias")},
        loss_(decoder_, axis) {}

  std::vector<at::Tensor> Forward(std::span<const at::Tensor> inputs,
                                  const MicroBatchContext& context) override {
    const at::Tensor labels = inputs[1].flatten();
    const at::Tensor rows = TargetRows(labels, CrossEntropyOptions().ignore, context.targets);
    const at::Tensor hidden_NW = Transform(inputs[0], rows, context.samples);
    return {loss_.OfTargets(hidden_NW, at::index_select(labels, 0, rows))};
  }

  // What the decoder multiplies, of the flat rows.
  at::Tensor Transform(const at::Tensor& x, const at::Tensor& rows, int64_t samples) const {
    const at::Tensor x_BSW = JoinTokens(x, samples, spec().inputs[0].dims[0], axis_, spec().name);
    return norm_(Gelu(dense_(at::index_select(x_BSW.flatten(0, 1), 0, rows))));
  }
  const LinearParameters& decoder() const { return decoder_; }

 private:
  TensorAxis axis_;
  Linear dense_;
  LayerNorm norm_;
  LinearParameters decoder_;
  VocabCrossEntropy loss_;
};

TransformerOptions LayerOptions(const RobertaConfig& config) {
  TransformerOptions options;
  options.names.norm_1 = "attention.output.LayerNorm";
  options.names.qkv = "";
  options.names.q = "attention.self.query";
  options.names.k = "attention.self.key";
  options.names.v = "attention.self.value";
  options.names.out = "attention.output.dense";
  options.names.norm_2 = "output.LayerNorm";
  options.names.up = "intermediate.dense";
  options.names.down = "output.dense";
  options.heads = config.heads;
  options.key_mask = true;
  options.norm_place = NormPlace::kAfter;
  options.norm_eps = RobertaConfig::kNormEps;
  options.activation = Activation::kGelu;
  options.attention_dropout = config.attention_dropout;
  options.hidden_dropout = config.dropout;
  return options;
}

std::unique_ptr<Block> MakeBlock(const RobertaConfig& config, const BlockSpec& spec,
                                 ParameterStore* store) {
  if (!store->Holds(spec.params)) return nullptr;
  const TensorAxis axis = store->context().tensor();
  if (spec.name == "roberta.embeddings")
    return std::make_unique<Embeddings>(spec, config.dropout, axis, store);
  if (spec.name == "lm_head") return std::make_unique<Head>(spec, axis, store);
  return std::make_unique<TransformerBlock>(spec, LayerOptions(config), axis, store);
}

int64_t ChosenPositions(const NamedTensors& inputs) {
  return TargetRows(inputs.at("labels")).numel();
}

}  // namespace

std::unique_ptr<Model> MakeRoberta(const RobertaConfig& config, const ModelSpec& spec,
                                   ParameterStore* store) {
  auto model = std::make_unique<Model>();
  model->spec = spec;
  for (const BlockSpec& block : spec.blocks)
    model->blocks.push_back(MakeBlock(config, block, store));
  Wave wave;
  wave.name = "main";
  wave.end_block = static_cast<int>(spec.blocks.size());
  wave.losses = {{"loss.mlm", "mlm", LossScope::kGlobal, ChosenPositions}};
  model->objective.waves = {wave};
  model->objective.phases = {{PhaseKind::kTrain, "main"}};
  return model;
}

at::Tensor PredictWords(Model* model, const at::Tensor& ids, const at::Tensor& mask,
                        const at::Tensor& rows) {
  const at::NoGradGuard no_grad;
  MicroBatchContext context;
  context.training = false;
  context.samples = ids.size(0);
  const std::vector<at::Tensor> embedded = {ids};
  at::Tensor x = model->blocks[0]->Forward(embedded, context)[0];
  for (size_t b = 1; b + 1 < model->blocks.size(); ++b) {
    const std::vector<at::Tensor> inputs = {x, mask};
    x = model->blocks[b]->Forward(inputs, context)[0];
  }
  const auto* head = dynamic_cast<const Head*>(model->blocks.back().get());
  WEFT_CHECK(head != nullptr) << "the last block is no head";
  return at::linear(head->Transform(x, rows, ids.size(0)), head->decoder().weight->value,
                    head->decoder().bias->value);
}

}  // namespace weft

#include "worker/evaluation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "parallel/engine/dtypes.h"
#include "worker/retrieval.h"

namespace weft {
namespace {

struct Features {
  at::Tensor images;
  at::Tensor texts;
};

// Samples [begin, end), a micro-batch at a time; on the last stage's ranks.
StatusOr<Features> Encode(Session* session, EvalSet* eval_set, int64_t begin, int64_t end) {
  std::vector<at::Tensor> images;
  std::vector<at::Tensor> texts;
  const int64_t b = session->recipe().batch().micro_batch_size();
  for (int64_t i = begin; i < end; i += b) {
    const int64_t samples = std::min(b, end - i);
    WEFT_ASSIGN_OR_RETURN(const MicroBatch batch, eval_set->Read(i, i + samples));
    WEFT_ASSIGN_OR_RETURN(const NamedTensors features,
                          session->rank_state().engine().Infer(ToTensors(batch), samples));
    if (features.empty()) continue;
    images.push_back(features.at("image_features"));
    texts.push_back(features.at("text_features"));
  }
  if (images.empty()) return Features();
  return Features{at::cat(images), at::cat(texts)};
}

// Rows of all ranks in rank order. `own` has this rank's rows; ranks have `rows` rows but the last ones, which have fewer.
StatusOr<at::Tensor> GatherRows(Session* session, const at::Tensor& own, int64_t rows,
                                int64_t total) {
  ParallelContext& parallel = session->parallel();
  if (parallel.dp_size() == 1) return own;
  const at::Tensor padded = at::zeros({rows, own.size(1)}, own.options());
  padded.narrow(0, 0, own.size(0)).copy_(own);
  const at::Tensor all = at::zeros({rows * parallel.dp_size(), own.size(1)}, own.options());
  WEFT_RETURN_IF_ERROR(parallel.Wait(parallel.dp().AllGather(
      padded.data_ptr(), all.data_ptr(), static_cast<size_t>(padded.numel()),
      ToDType(own.scalar_type()), parallel.Op("eval.features"))));
  return all.narrow(0, 0, total);
}

void AddRecall(const std::string& name, const Recall& recall, control::EvalRecord* record) {
  for (const auto& [suffix, value] :
       {std::pair{"r1", recall.r1}, {"r5", recall.r5}, {"r10", recall.r10}}) {
    control::Metric* metric = record->add_metrics();
    metric->set_name(name + "_" + suffix);
    metric->set_value(value);
  }
}

}  // namespace

StatusOr<control::EvalRecord> EvaluateSession(Session* session) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<EvalSet> eval_set,
                        EvalSet::Open(session->MakeLoaderOptions()));
  const int64_t total = eval_set->size();
  const int64_t ranks = session->parallel().dp_size();
  const int64_t rows = (total + ranks - 1) / ranks;
  const int64_t begin = std::min(total, session->parallel().dp_rank() * rows);
  // A rank without rows of its own still encodes one, for the shape; its row is not counted.
  const int64_t first = std::min(begin, total - 1);
  const int64_t count = std::min(total, begin + rows) - begin;
  WEFT_ASSIGN_OR_RETURN(
      Features own, Encode(session, eval_set.get(), first, first + std::max<int64_t>(count, 1)));
  control::EvalRecord record;
  if (!own.images.defined()) return record;
  own = {own.images.narrow(0, 0, count), own.texts.narrow(0, 0, count)};

  WEFT_ASSIGN_OR_RETURN(const at::Tensor images, GatherRows(session, own.images, rows, total));
  WEFT_ASSIGN_OR_RETURN(const at::Tensor texts, GatherRows(session, own.texts, rows, total));
  const RetrievalReport report =
      EvaluateRetrieval(images, texts, session->recipe().eval().top_images());
  AddRecall("image_to_text", report.image_to_text, &record);
  AddRecall("text_to_image", report.text_to_image, &record);
  record.set_details_json(RetrievalJson(report));
  return record;
}

}  // namespace weft

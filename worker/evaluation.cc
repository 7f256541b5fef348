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

// This rank's rows; on the last stage's ranks.
StatusOr<Features> Encode(Session* session, EvalSet* eval_set, const EvalPart& part) {
  std::vector<at::Tensor> images;
  std::vector<at::Tensor> texts;
  for (const EvalPart::Batch& rows : part.batches) {
    WEFT_ASSIGN_OR_RETURN(const MicroBatch batch, eval_set->Read(rows.begin, rows.end));
    WEFT_ASSIGN_OR_RETURN(
        const NamedTensors features,
        session->rank_state().engine().Infer(ToTensors(batch, session->parallel().device()),
                                             rows.end - rows.begin));
    if (features.empty()) continue;
    images.push_back(features.at("image_features"));
    texts.push_back(features.at("text_features"));
  }
  if (images.empty()) return Features();
  return Features{at::cat(images).narrow(0, 0, part.count),
                  at::cat(texts).narrow(0, 0, part.count)};
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

EvalPart EvalPartOf(int64_t total, int64_t ranks, int64_t rank, int64_t batch_size) {
  const int64_t rows = (total + ranks - 1) / ranks;
  const int64_t first = std::min(total, rank * rows);
  const int64_t end = std::min(total, first + rows);
  EvalPart part;
  part.count = end - first;
  for (int64_t i = 0; i < rows; i += batch_size) {
    const int64_t begin = first + i;
    if (begin < end) {
      part.batches.push_back({begin, std::min(begin + batch_size, end)});
    } else {
      part.batches.push_back({total - 1, total});
    }
  }
  return part;
}

StatusOr<control::EvalRecord> EvaluateSession(Session* session) {
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<EvalSet> eval_set,
                        EvalSet::Open(session->MakeLoaderOptions()));
  const int64_t total = eval_set->size();
  const int64_t ranks = session->parallel().dp_size();
  const int64_t rows = (total + ranks - 1) / ranks;
  const EvalPart part = EvalPartOf(total, ranks, session->parallel().dp_rank(),
                                   session->recipe().batch().micro_batch_size());
  WEFT_ASSIGN_OR_RETURN(const Features own, Encode(session, eval_set.get(), part));
  control::EvalRecord record;
  if (!own.images.defined()) return record;
  WEFT_ASSIGN_OR_RETURN(const at::Tensor images, GatherRows(session, own.images, rows, total));
  WEFT_ASSIGN_OR_RETURN(const at::Tensor texts, GatherRows(session, own.texts, rows, total));
  const RetrievalReport report = EvaluateRetrieval(images.to(at::kCPU), texts.to(at::kCPU),
                                                   session->recipe().eval().top_images());
  AddRecall("image_to_text", report.image_to_text, &record);
  AddRecall("text_to_image", report.text_to_image, &record);
  record.set_details_json(RetrievalJson(report));
  return record;
}

}  // namespace weft

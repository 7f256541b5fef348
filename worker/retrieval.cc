#include "worker/retrieval.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cluster/base/logging.h"

namespace weft {
namespace {

// scores: [n, n], row q's right answer is column q.
Recall RecallOf(const at::Tensor& scores) {
  const at::Tensor right = scores.diagonal().unsqueeze(1);
  const at::Tensor ranks = scores.ge(right).sum(1);  // 1 = first; the diagonal counts itself
  const auto fraction = [&ranks](int64_t k) {
    return ranks.le(k).to(at::kDouble).mean().item<double>();
  };
  return {fraction(1), fraction(5), fraction(10)};
}

}  // namespace

RetrievalReport EvaluateRetrieval(const at::Tensor& images, const at::Tensor& texts,
                                  int64_t top_images) {
  WEFT_CHECK_EQ(images.size(0), texts.size(0));
  RetrievalReport report;
  report.pairs = images.size(0);
  if (report.pairs == 0) return report;
  const at::Tensor scores = images.to(at::kDouble).matmul(texts.to(at::kDouble).t());
  report.image_to_text = RecallOf(scores);
  report.text_to_image = RecallOf(scores.t());
  std::tie(report.top_score, report.top_index) =
      scores.t().topk(std::min(top_images, report.pairs), 1);
  return report;
}

std::string RetrievalJson(const RetrievalReport& report) {
  using Json = nlohmann::ordered_json;
  const auto recall = [](const Recall& r) {
    return Json{{"r1", r.r1}, {"r5", r.r5}, {"r10", r.r10}};
  };
  Json queries = Json::array();
  for (int64_t i = 0; i < report.pairs; ++i) {
    Json top = Json::array();
    for (int64_t k = 0; k < report.top_index.size(1); ++k) {
      top.push_back({{"index", report.top_index[i][k].item<int64_t>()},
                     {"score", report.top_score[i][k].item<double>()}});
    }
    queries.push_back({{"index", i}, {"top", std::move(top)}});
  }
  return Json{{"pairs", report.pairs},
              {"image_to_text", recall(report.image_to_text)},
              {"text_to_image", recall(report.text_to_image)},
              {"queries", std::move(queries)}}
      .dump();
}

}  // namespace weft

#include "worker/retrieval.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace weft {
namespace {

TEST(Retrieval, PerfectFeaturesFindEverything) {
  const at::Tensor eye = at::eye(12, at::kFloat);
  const RetrievalReport report = EvaluateRetrieval(eye, eye, 5);
  EXPECT_EQ(report.pairs, 12);
  EXPECT_EQ(report.image_to_text.r1, 1.0);
  EXPECT_EQ(report.text_to_image.r1, 1.0);
  EXPECT_EQ(report.top_index[7][0].item<int64_t>(), 7);
}

TEST(Retrieval, CollapsedFeaturesFindNothing) {
  const at::Tensor same = at::ones({40, 4}, at::kFloat) / 2;
  const RetrievalReport report = EvaluateRetrieval(same, same, 5);
  EXPECT_EQ(report.image_to_text.r10, 0.0);
  EXPECT_EQ(report.text_to_image.r10, 0.0);
}

TEST(Retrieval, RanksCountWhatScoresHigher) {
  // Caption i points at image i + 1: the right image is always behind exactly one other.
  const at::Tensor images = at::eye(20, at::kFloat);
  const at::Tensor texts = (images.roll(1, 0) * 0.9 + images * 0.1);
  const RetrievalReport report = EvaluateRetrieval(images, texts, 3);
  EXPECT_EQ(report.text_to_image.r1, 0.0);
  EXPECT_EQ(report.text_to_image.r5, 1.0);
  EXPECT_EQ(report.image_to_text.r1, 0.0);
  EXPECT_EQ(report.image_to_text.r5, 1.0);
}

TEST(Retrieval, JsonHoldsTheBestImagesOfEachCaption) {
  const at::Tensor eye = at::eye(6, at::kFloat);
  const auto json = nlohmann::json::parse(RetrievalJson(EvaluateRetrieval(eye, eye, 2)));
  EXPECT_EQ(json["pairs"], 6);
  ASSERT_EQ(json["queries"].size(), 6u);
  EXPECT_EQ(json["queries"][3]["top"][0]["index"], 3);
  EXPECT_EQ(json["queries"][3]["top"].size(), 2u);
}

}  // namespace
}  // namespace weft

// Image-text retrieval on held-out pairs: pair i's caption belongs to pair i's image and to no other.
//
// Thread rule: pure functions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace weft {

struct Recall {
  double r1 = 0;
  double r5 = 0;
  double r10 = 0;
};

struct RetrievalReport {
  int64_t pairs = 0;
  Recall image_to_text;
  Recall text_to_image;
  // For each caption, the best images: n x top_images, indices and cosine similarities.
  at::Tensor top_index;
  at::Tensor top_score;
};

// images, texts: [n, e], unit rows, same dtype. Equal scores count against the pair (the worst rank they allow), so that a
// collapsed model scores chance at best.
RetrievalReport EvaluateRetrieval(const at::Tensor& images, const at::Tensor& texts,
                                  int64_t top_images);

// {"pairs", "image_to_text": {"r1", ...}, "text_to_image", "queries": [{"index", "top": [{"index", "score"}]}]}
std::string RetrievalJson(const RetrievalReport& report);

}  // namespace weft

// Turns the glosses of the Debian package wordnet-base into text shards: each gloss is a document, its definition and its
// quoted examples are the sentences. The same source and options give the same bytes.
//
// Output: train-000000.txt ..., eval-000000.txt (every gloss whose FNV-1a 64 mod 100 is 0), and `_done`, written last: with it
// a second call returns at once. Errors: NotFound, Unavailable (no source), Corruption (a line without a gloss),
// ResourceExhausted (disk full); messages name the file. Thread rule: one caller.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"

namespace weft {

struct PackWordnetOptions {
  // Unpacked package, or "": see FindPackage.
  std::string source;
  std::string cache = ".cache/wordnet";
  std::string out;
  // Training shards.
  int shards = 8;
};

struct PackWordnetReport {
  int64_t train = 0;
  int64_t held_out = 0;
  int64_t sentences = 0;
  // Nothing was done: the shards of an earlier call are there.
  bool already_done = false;
};

StatusOr<PackWordnetReport> PackWordnet(const PackWordnetOptions& options);

// Sentences of a gloss: "big; \"a big house\"" -> big, "a big house".
std::vector<std::string> GlossSentences(std::string_view gloss);

}  // namespace weft

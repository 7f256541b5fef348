#include "dataloader/pack/pack_wordnet.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/text.h"
#include "dataloader/pack/done_file.h"
#include "dataloader/pack/package_source.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

const DataPackage kPackage = {"wordnet-base", "usr/share/wordnet", 6};
constexpr int kFormat = 1;
constexpr uint64_t kHeldOut = 100;
const char* const kFiles[] = {"data.noun", "data.verb", "data.adj", "data.adv"};

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \r");
  if (begin == std::string_view::npos) return "";
  return text.substr(begin, text.find_last_not_of(" \r") - begin + 1);
}

std::string DonePath(const PackWordnetOptions& options) { return JoinPath(options.out, "_done"); }

Json OptionsJson(const PackWordnetOptions& options) {
  return {{"format", kFormat}, {"source", options.source}, {"shards", options.shards}};
}

// NotFound unless an earlier call with the same options finished and its shards are still there.
StatusOr<PackWordnetReport> ReadDone(const PackWordnetOptions& options) {
  WEFT_ASSIGN_OR_RETURN(const Json done, ReadDoneFile(options.out, OptionsJson(options)));
  try {
    return PackWordnetReport{done.at("train"), done.at("held_out"), done.at("sentences"), true};
  } catch (const Json::exception& error) {
    return NotFound(DonePath(options) + ": " + error.what());
  }
}

// What stands behind " | " in each line; the licence at a file's head is indented.
Status ReadGlosses(const std::string& path, std::vector<std::string>* glosses) {
  WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(path));
  int number = 0;
  for (const std::string& line : Split(text, '\n')) {
    ++number;
    if (line.empty() || line[0] == ' ') continue;
    const size_t bar = line.find(" | ");
    if (bar == std::string::npos)
      return Corruption(path + ", line " + std::to_string(number) + ": no gloss");
    glosses->emplace_back(Trim(std::string_view(line).substr(bar + 3)));
  }
  return OkStatus();
}

std::string ShardName(const std::string& set, int64_t shard) {
  char name[64];
  std::snprintf(name, sizeof name, "%s-%06lld.txt", set.c_str(), static_cast<long long>(shard));
  return name;
}

Status WriteShards(const PackWordnetOptions& options, const std::string& set, int64_t shards,
                   const std::vector<std::string>& glosses, int64_t* sentences, Json* files) {
  const auto count = static_cast<int64_t>(glosses.size());
  for (int64_t shard = 0; shard < shards; ++shard) {
    std::string text;
    for (int64_t i = shard * count / shards; i < (shard + 1) * count / shards; ++i) {
      for (const std::string& sentence : GlossSentences(glosses[static_cast<size_t>(i)])) {
        text += sentence + "\n";
        ++*sentences;
      }
      text += "\n";
    }
    const std::string name = ShardName(set, shard);
    WEFT_RETURN_IF_ERROR(WriteFileDurably(PosixFileSystem(), JoinPath(options.out, name), text));
    (*files)[name] = text.size();
  }
  return OkStatus();
}

Status CheckOptions(const PackWordnetOptions& options) {
  if (options.out.empty()) return InvalidArgument("--out: name the folder that the shards go to");
  if (options.shards < 1 || options.shards > 1000)
    return InvalidArgument("--shards must be in 1..1000");
  return OkStatus();
}

}  // namespace

std::vector<std::string> GlossSentences(std::string_view gloss) {
  static constexpr std::string_view kExample = "; \"";
  std::vector<std::string> sentences;
  while (true) {
    const size_t end = gloss.find(kExample);
    const std::string_view sentence = Trim(gloss.substr(0, end));
    if (!sentence.empty()) sentences.emplace_back(sentence);
    if (end == std::string_view::npos) return sentences;
    gloss.remove_prefix(end + 2);
  }
}

StatusOr<PackWordnetReport> PackWordnet(const PackWordnetOptions& options) {
  WEFT_RETURN_IF_ERROR(CheckOptions(options));
  if (StatusOr<PackWordnetReport> done = ReadDone(options); done.ok()) return done;
  FileSystem* fs = PosixFileSystem();
  WEFT_RETURN_IF_ERROR(fs->MakeDirs(options.out));
  if (fs->Exists(DonePath(options))) WEFT_RETURN_IF_ERROR(fs->Remove(DonePath(options)));
  WEFT_ASSIGN_OR_RETURN(const std::string root,
                        FindPackage(kPackage, options.source, options.cache));
  std::vector<std::string> glosses;
  for (const char* file : kFiles) WEFT_RETURN_IF_ERROR(ReadGlosses(JoinPath(root, file), &glosses));
  // Neighbours in the package are alike; a hash spreads them over the shards.
  std::sort(glosses.begin(), glosses.end(), [](const std::string& a, const std::string& b) {
    return std::pair(Mix64(Fnv1a64(a)), a) < std::pair(Mix64(Fnv1a64(b)), b);
  });
  const auto split = std::stable_partition(
      glosses.begin(), glosses.end(),
      [](const std::string& gloss) { return Fnv1a64(gloss) % kHeldOut != 0; });
  const std::vector<std::string> held_out(split, glosses.end());
  glosses.erase(split, glosses.end());
  PackWordnetReport report;
  Json files = Json::object();
  WEFT_RETURN_IF_ERROR(
      WriteShards(options, "train", options.shards, glosses, &report.sentences, &files));
  WEFT_RETURN_IF_ERROR(WriteShards(options, "eval", 1, held_out, &report.sentences, &files));
  report.train = static_cast<int64_t>(glosses.size());
  report.held_out = static_cast<int64_t>(held_out.size());
  const Json done = {{"options", OptionsJson(options)},
                     {"train", report.train},
                     {"held_out", report.held_out},
                     {"sentences", report.sentences},
                     {"files", files}};
  WEFT_RETURN_IF_ERROR(WriteFileDurably(fs, DonePath(options), done.dump(1) + "\n"));
  return report;
}

}  // namespace weft

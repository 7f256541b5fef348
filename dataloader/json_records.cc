#include "dataloader/json_records.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "cluster/base/file_system.h"

namespace weft {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kSpaces = " \t\r\n";
constexpr size_t kPiece = size_t{1} << 16;
// A record is held in memory. Index and checksums may step back by one block of 4 MiB.
constexpr size_t kMaxRecord = size_t{4} << 20;
constexpr uint64_t kMaxPicture = uint64_t{1} << 30;

// Cuts a file into its records: only strings and brackets are looked at, the parser sees each record by itself. (A whole
// file of 600,000 conversations parsed at once takes gigabytes, and a library's events say no byte offsets.)
class RecordCutter {
 public:
  explicit RecordCutter(const ShardBytes& bytes) : bytes_(bytes) {}

  // The next record, and where it begins; nothing at the end.
  StatusOr<std::optional<std::string_view>> Next(uint64_t* begin) {
    record_.clear();
    int depth = 0;
    bool in_string = false;
    bool escaped = false;
    while (at_ < bytes_.size()) {
      WEFT_ASSIGN_OR_RETURN(const char c, Peek());
      if (record_.empty() && c != '{') {
        WEFT_RETURN_IF_ERROR(Between(c));
        ++at_;
        continue;
      }
      if (record_.empty()) {
        *begin = at_;
        if (ended_ || (in_array_ && !separated_))
          return Error(at_, "a ',' is missing before a record");
        separated_ = false;
      }
      record_ += c;
      ++at_;
      if (record_.size() > kMaxRecord) return Error(*begin, "a record of more than 4 MiB");
      if (in_string) {
        in_string = escaped || c != '"';
        escaped = !escaped && c == '\\';
        continue;
      }
      in_string = c == '"';
      depth += static_cast<int>(c == '{' || c == '[') - static_cast<int>(c == '}' || c == ']');
      if (depth == 0) return std::optional<std::string_view>(record_);
    }
    if (!record_.empty())
      return Error(*begin, "a record is cut off: the file was not copied whole");
    if (in_array_ && !ended_)
      return Error(at_, "the list is not closed: the file was not copied whole");
    return std::optional<std::string_view>();
  }

  Status Error(uint64_t offset, const std::string& what) const {
    return Corruption("shard " + bytes_.path() + ", byte " + std::to_string(offset) + ": " + what);
  }

 private:
  StatusOr<char> Peek() {
    if (at_ < piece_begin_ || at_ - piece_begin_ >= piece_.size()) {
      piece_begin_ = at_;
      piece_.resize(static_cast<size_t>(std::min<uint64_t>(kPiece, bytes_.size() - at_)));
      WEFT_RETURN_IF_ERROR(bytes_.ReadAt(at_, piece_.size(), piece_.data()));
    }
    return piece_[at_ - piece_begin_];
  }

  // What may stand between records.
  Status Between(char c) {
    if (kSpaces.find(c) != std::string_view::npos) return OkStatus();
    if (c == '[' && !in_array_ && !ended_) {
      in_array_ = true;
      separated_ = true;
      return OkStatus();
    }
    if (c == ',' && in_array_ && !ended_ && !separated_) {
      separated_ = true;
      return OkStatus();
    }
    if (c == ']' && in_array_ && !ended_) {
      ended_ = true;
      return OkStatus();
    }
    return Error(at_, std::string("'") + (c >= ' ' && c < 127 ? c : '?') +
                          "' between records: the file must be a list of JSON objects, or one "
                          "object after the other");
  }

  const ShardBytes& bytes_;
  uint64_t at_ = 0;
  std::string piece_;
  uint64_t piece_begin_ = 0;
  std::string record_;
  bool in_array_ = false;
  bool ended_ = false;
  bool separated_ = false;  // a ',' came, or the list began
};

std::string Numbered(size_t k, const std::string& extension) {
  return k == 0 ? extension : std::to_string(k) + "." + extension;
}

// The texts of a member that is a text or a list of texts.
std::vector<std::string> Texts(const Json& record, const char* name) {
  std::vector<std::string> texts;
  const auto found = record.find(name);
  if (found == record.end()) return texts;
  if (found->is_string()) texts.push_back(found->get<std::string>());
  if (found->is_array()) {
    for (const Json& entry : *found) {
      if (entry.is_string()) texts.push_back(entry.get<std::string>());
    }
  }
  return texts;
}

// An interleaved document: lists "texts" and "images" of one length, each place a text or a picture. One text, in which
// "<image>" stands for the next picture.
std::optional<std::string> InterleavedText(const Json& record) {
  if (!record.contains("texts") || !record["texts"].is_array()) return std::nullopt;
  const Json& texts = record["texts"];
  const Json* images = record.contains("images") ? &record["images"] : nullptr;
  const bool interleaved =
      images != nullptr && images->is_array() && images->size() == texts.size();
  std::string text;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (interleaved && (*images)[i].is_string()) text += text.empty() ? "<image>" : "\n<image>";
    if (!texts[i].is_string()) continue;
    if (!text.empty()) text += '\n';
    text += texts[i].get<std::string>();
  }
  return text;
}

std::string ExtensionOf(const std::string& path) {
  const std::string name = path.substr(path.find_last_of('/') + 1);
  const size_t dot = name.rfind('.');
  std::string extension = dot == std::string::npos ? "" : name.substr(dot + 1);
  for (char& c : extension) {
    if (!std::isalnum(static_cast<unsigned char>(c))) return "jpg";
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return extension.empty() ? "jpg" : extension;
}

// "" if there is no NAME.json.images.
StatusOr<std::string> ImageFolder(const std::string& json_path) {
  const std::string path = json_path + ".images";
  if (!PosixFileSystem()->Exists(path)) return ParentPath(json_path);
  WEFT_ASSIGN_OR_RETURN(std::string folder, PosixFileSystem()->ReadFile(path));
  folder.erase(std::min(folder.find('\n'), folder.size()));
  return folder.starts_with('/') ? folder : JoinPath(ParentPath(json_path), folder);
}

}  // namespace

bool LooksLikeJson(const ShardBytes& bytes) {
  char head[64] = {};
  const auto size = static_cast<size_t>(std::min<uint64_t>(sizeof head, bytes.size()));
  if (!bytes.ReadAt(0, size, head).ok()) return false;
  const size_t first = std::string_view(head, size).find_first_not_of(kSpaces);
  return first != std::string_view::npos && (head[first] == '[' || head[first] == '{');
}

Status AddJsonSamples(const ShardBytes& bytes, ShardIndexBuilder* builder) {
  RecordCutter cutter(bytes);
  const std::string& path = bytes.path();
  const size_t slash = path.find_last_of('/') + 1;
  const std::string stem = path.substr(slash, std::min(path.find('.', slash), path.size()) - slash);
  for (uint64_t i = 0;; ++i) {
    uint64_t begin = 0;
    WEFT_ASSIGN_OR_RETURN(const std::optional<std::string_view> record, cutter.Next(&begin));
    if (!record) return OkStatus();
    StatusOr<RecordParts> parts = SplitRecord(*record);
    if (!parts.ok()) return builder->Error(begin, parts.status().message());
    const std::string key = parts->key.empty() ? stem + "/" + std::to_string(i) : parts->key;
    WEFT_RETURN_IF_ERROR(builder->BeginSample(key, begin));
    // All are made from the whole record.
    for (const RecordPart& part : parts->parts)
      WEFT_RETURN_IF_ERROR(builder->AddMember(part.extension, begin, record->size()));
  }
}

StatusOr<RecordParts> SplitRecord(std::string_view record) {
  const Json json = Json::parse(record, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Corruption("a record that is no JSON object");
  RecordParts result;
  if (json.contains("id") && json["id"].is_string()) result.key = json["id"].get<std::string>();
  if (json.contains("id") && json["id"].is_number_integer()) result.key = json["id"].dump();
  result.parts.push_back({"json", RecordPartKind::kRecord, ""});
  std::vector<std::string> pictures = Texts(json, "image");
  for (std::string& more : Texts(json, "images")) pictures.push_back(std::move(more));
  for (size_t k = 0; k < pictures.size(); ++k) {
    result.parts.push_back(
        {Numbered(k, ExtensionOf(pictures[k])), RecordPartKind::kPicture, pictures[k]});
  }
  if (const std::optional<std::string> text = InterleavedText(json)) {
    result.parts.push_back({"txt", RecordPartKind::kText, *text});
    return result;
  }
  for (const char* name : {"caption", "text", "sentence"}) {
    const std::vector<std::string> texts = Texts(json, name);
    for (size_t k = 0; k < texts.size(); ++k)
      result.parts.push_back({Numbered(k, "txt"), RecordPartKind::kText, texts[k]});
    if (!texts.empty()) break;
  }
  return result;
}

StatusOr<std::string> ReadRecordPicture(const std::string& json_path, const std::string& picture) {
  std::string path = picture;
  if (!picture.starts_with('/')) {
    WEFT_ASSIGN_OR_RETURN(const std::string folder, ImageFolder(json_path));
    path = JoinPath(folder, picture);
  }
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error) &&
      std::filesystem::is_regular_file(path + ".jpg", error)) {
    path += ".jpg";
  }
  // A missing picture is a property of the data, as a broken one is.
  if (!std::filesystem::is_regular_file(path, error))
    return Corruption("there is no picture " + path + " (named in " + json_path +
                      "; `weft data index --images DIR` says where pictures are)");
  if (std::filesystem::file_size(path, error) > kMaxPicture)
    return Corruption("picture " + path + " has more than 1 GiB");
  return PosixFileSystem()->ReadFile(path);
}

Status WriteImageFolder(const std::string& json_path, const std::string& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error))
    return InvalidArgument("--images " + folder + " is no folder");
  const std::string absolute = std::filesystem::absolute(folder, error).string();
  return WriteFileDurably(PosixFileSystem(), json_path + ".images", absolute + "\n");
}

}  // namespace weft

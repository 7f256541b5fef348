#include "dataloader/pack/pack_openclipart.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>
#include <utility>

#include "cluster/base/file_system.h"
#include "cluster/base/hash.h"
#include "cluster/base/mutex.h"
#include "cluster/base/text.h"
#include "dataloader/image_decode.h"
#include "dataloader/jpeg_codec.h"
#include "dataloader/pack/captions.h"
#include "dataloader/pack/package_source.h"
#include "dataloader/picture_check.h"
#include "dataloader/png_codec.h"
#include "dataloader/resize.h"
#include "dataloader/sample_source.h"
#include "dataloader/tar_writer.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

const DataPackage kPackage = {"openclipart-png", "usr/share/openclipart/png", 131};
constexpr int kFormat = 1;
constexpr int kMinSide = 32;
constexpr int kMaxSide = 4096;
// Standard deviation over white below which a picture counts as blank.
constexpr double kBlank = 5;
constexpr char kDone[] = "_done";

struct Picture {
  PictureTexts texts;
  std::string sha256;
  int width = 0;
  int height = 0;
  bool blank = false;
  // The bytes for the shard; empty: the file's own.
  std::string jpeg;
  std::string caption;
  std::vector<Exchange> exchanges;
};

// Runs work(i) for i in [0, count) on `threads` threads; the first error stops the rest.
Status ParallelFor(int threads, int64_t count, const std::string& stage,
                   const PackProgress& progress, const std::function<Status(int64_t)>& work) {
  std::atomic<int64_t> next = 0;
  std::atomic<bool> failed = false;
  Mutex mutex;
  Status first_error;
  int64_t done = 0;
  const auto loop = [&] {
    for (int64_t i = next++; i < count && !failed; i = next++) {
      Status status = work(i);
      MutexLock lock(mutex);
      if (!status.ok() && first_error.ok()) {
        first_error = std::move(status);
        failed = true;
      }
      progress(stage, ++done, count);
    }
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < threads; ++i) pool.emplace_back(loop);
  loop();
  for (std::thread& thread : pool) thread.join();
  return first_error;
}

class Packer {
 public:
  Packer(const PackOpenclipartOptions& options, const PackProgress& progress)
      : options_(options), progress_(progress) {}

  StatusOr<PackReport> Run() {
    if (StatusOr<PackReport> done = ReadDone(); done.ok()) return done;
    FileSystem* fs = PosixFileSystem();
    WEFT_RETURN_IF_ERROR(fs->MakeDirs(options_.out));
    if (fs->Exists(DonePath())) WEFT_RETURN_IF_ERROR(fs->Remove(DonePath()));
    WEFT_ASSIGN_OR_RETURN(root_, FindPackage(kPackage, options_.source, options_.cache));
    WEFT_RETURN_IF_ERROR(ListFiles());
    WEFT_RETURN_IF_ERROR(ReadFiles());
    WEFT_RETURN_IF_ERROR(Filter());
    MakeCaptions();
    WEFT_RETURN_IF_ERROR(WriteSets());
    WEFT_RETURN_IF_ERROR(WriteDone());
    return report_;
  }

 private:
  std::string DonePath() const { return JoinPath(options_.out, kDone); }

  // What must be equal for an earlier result to count.
  Json OptionsJson() const {
    Json json = {{"format", kFormat},
                 {"source", options_.source},
                 {"short", options_.short_side},
                 {"quality", options_.quality},
                 {"shards", options_.shards}};
    if (options_.conversations) json["conversations"] = true;
    return json;
  }

  Status ListFiles() {
    std::error_code error;
    int64_t names = 0;
    std::filesystem::recursive_directory_iterator it(root_, error);
    for (; !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error)) {
      if (it->path().extension() != ".png") continue;
      std::error_code ignored;
      const bool link = it->is_symlink(ignored);
      if (!link && !it->is_regular_file(ignored)) continue;
      ++names;
      if (link) continue;
      Picture picture;
      picture.texts.path = it->path().lexically_relative(root_).generic_string();
      pictures_.push_back(std::move(picture));
    }
    if (error) return ErrnoStatus("list " + root_, error.value());
    if (pictures_.empty()) return NotFound("no PNG files under " + root_);
    std::sort(pictures_.begin(), pictures_.end(),
              [](const Picture& a, const Picture& b) { return a.texts.path < b.texts.path; });
    report_.steps.push_back({"names of PNG files", 0, names});
    return OkStatus();
  }

  std::string FullPath(const Picture& picture) const { return JoinPath(root_, picture.texts.path); }

  Status ReadFiles() {
    return ParallelFor(options_.threads, Count(), "reading texts", progress_, [this](int64_t i) {
      Picture& picture = pictures_[static_cast<size_t>(i)];
      WEFT_ASSIGN_OR_RETURN(const std::string bytes,
                            PosixFileSystem()->ReadFile(FullPath(picture)));
      picture.sha256 = Sha256Hex(bytes);
      if (bytes.size() < 33 || SniffImageFormat(bytes) != ImageFormat::kPng) return OkStatus();
      // Sizes are read here even where they are beyond the decoder's limits: the filter counts them.
      picture.width = static_cast<int>(BigEndian(bytes, 16));
      picture.height = static_cast<int>(BigEndian(bytes, 20));
      if (std::max(picture.width, picture.height) > kMaxImageSide) return OkStatus();
      StatusOr<std::vector<std::pair<std::string, std::string>>> texts = ReadPngTexts(bytes);
      if (!texts.ok()) return OkStatus();
      for (const auto& [keyword, text] : *texts) {
        if (keyword == "Title") SetIfEmpty(text, &picture.texts.title);
        if (keyword == "Description") SetIfEmpty(text, &picture.texts.description);
        if (keyword == "Author") SetIfEmpty(text, &picture.texts.author);
      }
      return OkStatus();
    });
  }

  static uint32_t BigEndian(const std::string& bytes, size_t offset) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4; ++i)
      value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
    return std::min<uint32_t>(value, INT32_MAX);
  }

  static void SetIfEmpty(const std::string& text, std::string* field) {
    if (field->empty()) *field = DecodePngText(text);
  }

  int64_t Count() const { return static_cast<int64_t>(pictures_.size()); }

  void Keep(const std::string& what, const std::function<bool(const Picture&)>& good) {
    const int64_t before = report_.steps.back().left;
    std::erase_if(pictures_, [&](const Picture& picture) { return !good(picture); });
    report_.steps.push_back({what, before - Count(), Count()});
  }

  Status Filter() {
    std::set<std::string> contents;
    Keep("one name per content",
         [&](const Picture& p) { return contents.insert(p.sha256).second; });
    Keep("titled gramastar", [](const Picture& p) { return p.texts.title != "gramastar"; });
    Keep("GPL files (denco)", [](const Picture& p) {
      return p.texts.path.substr(p.texts.path.find_last_of('/') + 1).find("denco") ==
             std::string::npos;
    });
    Keep("shorter side < 32",
         [](const Picture& p) { return std::min(p.width, p.height) >= kMinSide; });
    Keep("longer side > 4096",
         [](const Picture& p) { return std::max(p.width, p.height) <= kMaxSide; });
    WEFT_RETURN_IF_ERROR(
        ParallelFor(options_.threads, Count(), "decoding pictures", progress_,
                    [this](int64_t i) { return CookPicture(&pictures_[static_cast<size_t>(i)]); }));
    Keep("blank", [](const Picture& p) { return !p.blank; });
    return OkStatus();
  }

  Status CookPicture(Picture* picture) const {
    WEFT_ASSIGN_OR_RETURN(const std::string bytes, PosixFileSystem()->ReadFile(FullPath(*picture)));
    ImageDecoder decoder;
    Image image;
    const Status status = decoder.Decode(bytes, 1, &image);
    if (!status.ok()) return status.WithContext(FullPath(*picture));
    picture->blank = IsBlank(image);
    if (picture->blank || options_.short_side == 0) return OkStatus();
    const int shorter = std::min(image.width, image.height);
    if (shorter > options_.short_side) {
      const auto scaled = [&](int side) {
        return static_cast<int>(
            std::lround(static_cast<double>(side) * options_.short_side / shorter));
      };
      image = ResizeImage(image, scaled(image.width), scaled(image.height), ResizeFilter::kBicubic);
    }
    WEFT_ASSIGN_OR_RETURN(picture->jpeg, EncodeJpeg(image, options_.quality));
    return OkStatus();
  }

  static bool IsBlank(const Image& image) {
    uint64_t sum = 0;
    uint64_t squares = 0;
    for (const uint8_t value : image.rgb) {
      sum += value;
      squares += static_cast<uint64_t>(value) * value;
    }
    const auto n = static_cast<double>(image.rgb.size());
    const double mean = static_cast<double>(sum) / n;
    return static_cast<double>(squares) / n - mean * mean < kBlank * kBlank;
  }

  void MakeCaptions() {
    std::vector<PictureTexts> texts;
    for (const Picture& picture : pictures_) texts.push_back(picture.texts);
    const CaptionBook book(texts);
    for (Picture& picture : pictures_) {
      picture.caption = book.Caption(picture.texts);
      picture.exchanges =
          AskAbout(picture.texts.path, book.Title(picture.texts), book.Description(picture.texts));
      report_.own_titles += book.HasOwnTitle(picture.texts);
    }
  }

  Status WriteSets() {
    std::vector<const Picture*> train;
    std::vector<const Picture*> held_out;
    std::set<std::string> seen;
    for (const Picture& picture : pictures_) {
      const std::string normalized = NormalizeCaption(picture.caption);
      const bool first = seen.insert(normalized).second;
      if (!IsHeldOut(normalized)) {
        train.push_back(&picture);
      } else if (first) {
        held_out.push_back(&picture);
      } else {
        ++report_.dropped_twins;
      }
    }
    report_.distinct_captions = static_cast<int64_t>(seen.size());
    report_.train = static_cast<int64_t>(train.size());
    report_.held_out = static_cast<int64_t>(held_out.size());
    // Neighbours in the package are alike; a hash of the path spreads them over the shards.
    std::sort(train.begin(), train.end(), [](const Picture* a, const Picture* b) {
      return std::pair(Mix64(Fnv1a64(a->texts.path)), a->texts.path) <
             std::pair(Mix64(Fnv1a64(b->texts.path)), b->texts.path);
    });
    WEFT_RETURN_IF_ERROR(WriteShards("train", train, options_.shards));
    return WriteShards("eval", held_out, 1);
  }

  Status WriteShards(const std::string& name, const std::vector<const Picture*>& pictures,
                     int64_t shards) {
    const auto count = static_cast<int64_t>(pictures.size());
    for (int64_t shard = 0; shard < shards; ++shard) {
      char file[64];
      std::snprintf(file, sizeof file, "%s-%06lld.tar", name.c_str(),
                    static_cast<long long>(shard));
      WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<TarWriter> writer,
                            TarWriter::Create(PosixFileSystem(), JoinPath(options_.out, file)));
      for (int64_t i = shard * count / shards; i < (shard + 1) * count / shards; ++i) {
        WEFT_RETURN_IF_ERROR(AddPicture(*pictures[static_cast<size_t>(i)], name, i, writer.get()));
        progress_("writing " + name + " shards", i + 1, count);
      }
      WEFT_RETURN_IF_ERROR(writer->Finish());
      WEFT_RETURN_IF_ERROR(MarkChecked(JoinPath(options_.out, file)));
      files_.push_back(file);
    }
    return OkStatus();
  }

  // Every picture was decoded, or is a JPEG of our own making.
  static Status MarkChecked(const std::string& path) {
    WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<ShardFile> file, ShardFile::Open(path));
    WEFT_ASSIGN_OR_RETURN(const ShardIndex index, ShardIndex::Build(*file));
    return WritePictureCheck(*file, index, LowerExtensions(DataRecipe().image_extensions()), {});
  }

  static Json ConversationJson(const std::vector<Exchange>& exchanges) {
    Json turns = Json::array();
    for (const Exchange& exchange : exchanges) {
      turns.push_back({{"from", "human"}, {"value", exchange.question}});
      turns.push_back({{"from", "gpt"}, {"value", exchange.answer}});
    }
    return turns;
  }

  Status AddPicture(const Picture& picture, const std::string& set, int64_t index,
                    TarWriter* writer) const {
    std::vector<std::string> categories = Split(picture.texts.path, '/');
    categories.pop_back();
    Json json = {{"path", picture.texts.path},
                 {"categories", categories},
                 {"title", picture.texts.title},
                 {"description", picture.texts.description},
                 {"author", picture.texts.author}};
    if (options_.conversations) json["conversations"] = ConversationJson(picture.exchanges);
    std::map<std::string, std::string> members = {
        {"txt", picture.caption},
        {"json", json.dump(1, ' ', false, Json::error_handler_t::replace)}};
    if (options_.short_side > 0) {
      members["jpg"] = picture.jpeg;
    } else {
      WEFT_ASSIGN_OR_RETURN(members["png"], PosixFileSystem()->ReadFile(FullPath(picture)));
    }
    char key[64];
    std::snprintf(key, sizeof key, "%s-%06lld", set.c_str(), static_cast<long long>(index));
    return writer->AddSample(key, members);
  }

  Status WriteDone() {
    Json steps = Json::array();
    for (const PackReport::Step& step : report_.steps) {
      steps.push_back({{"what", step.what}, {"dropped", step.dropped}, {"left", step.left}});
    }
    Json sizes = Json::object();
    for (const std::string& file : files_) {
      WEFT_ASSIGN_OR_RETURN(sizes[file], PosixFileSystem()->FileSize(JoinPath(options_.out, file)));
    }
    const Json done = {{"options", OptionsJson()},
                       {"steps", steps},
                       {"own_titles", report_.own_titles},
                       {"distinct_captions", report_.distinct_captions},
                       {"train", report_.train},
                       {"held_out", report_.held_out},
                       {"dropped_twins", report_.dropped_twins},
                       {"files", sizes}};
    return WriteFileDurably(PosixFileSystem(), DonePath(), done.dump(1) + "\n");
  }

  // NotFound unless an earlier call with the same options finished and its shards are still there.
  StatusOr<PackReport> ReadDone() const {
    WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(DonePath()));
    try {
      return ParseDone(Json::parse(text));
    } catch (const Json::exception& error) {
      return NotFound(DonePath() + ": " + error.what());
    }
  }

  StatusOr<PackReport> ParseDone(const Json& done) const {
    if (done.at("options") != OptionsJson()) return NotFound("other options");
    for (const auto& [file, size] : done.at("files").items()) {
      WEFT_ASSIGN_OR_RETURN(const uint64_t now,
                            PosixFileSystem()->FileSize(JoinPath(options_.out, file)));
      if (size != now) return NotFound(file + " has changed");
    }
    PackReport report;
    report.already_done = true;
    for (const Json& step : done.at("steps")) {
      report.steps.push_back({step.at("what"), step.at("dropped"), step.at("left")});
    }
    report.own_titles = done.at("own_titles");
    report.distinct_captions = done.at("distinct_captions");
    report.train = done.at("train");
    report.held_out = done.at("held_out");
    report.dropped_twins = done.at("dropped_twins");
    return report;
  }

  const PackOpenclipartOptions& options_;
  const PackProgress& progress_;
  std::string root_;
  std::vector<Picture> pictures_;
  std::vector<std::string> files_;
  PackReport report_;
};

}  // namespace

StatusOr<PackReport> PackOpenclipart(const PackOpenclipartOptions& options,
                                     const PackProgress& progress) {
  if (options.out.empty()) return InvalidArgument("--out: name the folder that the shards go to");
  if (options.short_side < 0 || options.short_side > kMaxSide)
    return InvalidArgument("--short must be in 0..4096");
  if (options.quality < 1 || options.quality > 100)
    return InvalidArgument("--quality must be in 1..100");
  if (options.threads < 1 || options.threads > 1024) {
    return InvalidArgument("--threads must be in 1..1024");
  }
  if (options.shards < 1 || options.shards > 1000)
    return InvalidArgument("--shards must be in 1..1000");
  return Packer(options, progress).Run();
}

}  // namespace weft

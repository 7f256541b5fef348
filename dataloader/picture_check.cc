#include "dataloader/picture_check.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <thread>

#include "cluster/base/file_system.h"
#include "cluster/base/mutex.h"
#include "cluster/base/text.h"
#include "dataloader/image_decode.h"
#include "dataloader/shard_members.h"

namespace weft {
namespace {

std::string CheckPath(const ShardFile& file) { return file.path() + ".checked"; }

// The lines that say what was checked.
std::string Head(const ShardFile& file, const ShardIndex& index,
                 const std::vector<std::string>& extensions) {
  return "weft-checked 1\n" + std::to_string(file.size()) + " " +
         std::to_string(index.num_samples()) + " " + std::to_string(index.contents_crc()) + "\n" +
         Join(extensions, ";") + "\n";
}

// Whether the sample's picture decodes; an error only if it cannot be read.
StatusOr<bool> IsGood(const ShardFile& file, const ShardIndex& index, int64_t sample,
                      const std::vector<std::string>& extensions, ImageDecoder* decoder) {
  for (const std::string& extension : extensions) {
    const ShardMember* member = index.Find(sample, extension);
    if (member == nullptr) continue;
    std::string bytes;
    const Status read = ReadShardMember(file, index, *member, &bytes);
    if (read.code() == StatusCode::kCorruption) return false;
    WEFT_RETURN_IF_ERROR(read);
    Image image;
    return decoder->Decode(bytes, 1, &image).ok();
  }
  return true;
}

}  // namespace

StatusOr<PictureCheck> CheckPictures(const ShardFile& file, const ShardIndex& index,
                                     const std::vector<std::string>& extensions, int threads) {
  std::atomic<int64_t> next = 0;
  Mutex mutex;
  PictureCheck check;
  Status failure;
  const auto work = [&] {
    ImageDecoder decoder;
    for (int64_t i = next++; i < index.num_samples(); i = next++) {
      const StatusOr<bool> good = IsGood(file, index, i, extensions, &decoder);
      if (good.ok() && *good) continue;
      MutexLock lock(mutex);
      if (good.ok()) check.bad.push_back(i);
      if (!good.ok() && failure.ok()) failure = good.status();
    }
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < threads; ++i) pool.emplace_back(work);
  work();
  for (std::thread& thread : pool) thread.join();
  if (!failure.ok()) return failure;
  std::sort(check.bad.begin(), check.bad.end());
  return check;
}

Status WritePictureCheck(const ShardFile& file, const ShardIndex& index,
                         const std::vector<std::string>& extensions, const PictureCheck& check) {
  std::string text = Head(file, index, extensions);
  for (const int64_t sample : check.bad) text += std::to_string(sample) + "\n";
  return WriteFileDurably(PosixFileSystem(), CheckPath(file), text + "end\n");
}

std::optional<PictureCheck> ReadPictureCheck(const ShardFile& file, const ShardIndex& index,
                                             const std::vector<std::string>& extensions) {
  const StatusOr<std::string> text = PosixFileSystem()->ReadFile(CheckPath(file));
  const std::string head = Head(file, index, extensions);
  if (!text.ok() || text->compare(0, head.size(), head) != 0) return std::nullopt;
  PictureCheck check;
  for (const std::string& line : Split(text->substr(head.size()), '\n')) {
    if (line == "end") return check;
    int64_t sample = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), sample);
    if (error != std::errc() || end != line.data() + line.size()) return std::nullopt;
    check.bad.push_back(sample);
  }
  return std::nullopt;  // cut
}

}  // namespace weft

#include "dataloader/tar_writer.h"

#include <cstdio>
#include <cstring>
#include <utility>

namespace weft {
namespace {

constexpr size_t kBlock = 512;
// Tar files are padded to whole records of 20 blocks.
constexpr uint64_t kRecord = 10240;
constexpr size_t kFlushBytes = size_t{1} << 20;

// Puts `name` into name (100 bytes) and prefix (155), cut at a '/'. False: it does not fit.
bool SetName(std::string_view name, char* block) {
  if (name.size() <= 100) {
    std::memcpy(block, name.data(), name.size());
    return !name.empty();
  }
  if (name.size() > 256) return false;
  const size_t slash = name.find('/', name.size() - 101);
  if (slash == std::string_view::npos || slash == 0 || slash > 155 || slash + 1 == name.size())
    return false;
  std::memcpy(block, name.data() + slash + 1, name.size() - slash - 1);
  std::memcpy(block + 345, name.data(), slash);
  return true;
}

void SetOctal(char* field, int digits, uint64_t value) {
  std::snprintf(field, static_cast<size_t>(digits) + 1, "%0*llo", digits,
                static_cast<unsigned long long>(value));
}

bool MakeHeader(std::string_view name, uint64_t size, char* block) {
  std::memset(block, 0, kBlock);
  if (!SetName(name, block)) return false;
  SetOctal(block + 100, 7, 0444);
  SetOctal(block + 108, 7, 0);
  SetOctal(block + 116, 7, 0);
  SetOctal(block + 124, 11, size);
  SetOctal(block + 136, 11, 0);
  block[156] = '0';
  std::memcpy(block + 257, "ustar\00000", 8);
  std::memset(block + 148, ' ', 8);
  uint64_t sum = 0;
  for (size_t i = 0; i < kBlock; ++i) sum += static_cast<unsigned char>(block[i]);
  SetOctal(block + 148, 6, sum);
  block[155] = ' ';
  return true;
}

}  // namespace

StatusOr<std::unique_ptr<TarWriter>> TarWriter::Create(FileSystem* fs, const std::string& path) {
  const std::string part = path + ".part";
  if (fs->Exists(part)) WEFT_RETURN_IF_ERROR(fs->Remove(part));
  WEFT_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, fs->CreateExclusive(part));
  return std::unique_ptr<TarWriter>(new TarWriter(fs, path, std::move(file)));
}

TarWriter::~TarWriter() {
  if (finished_) return;
  file_.reset();
  const Status ignored = fs_->Remove(path_ + ".part");
  (void)ignored;
}

Status TarWriter::AddSample(std::string_view key,
                            const std::map<std::string, std::string>& member_by_extension) {
  for (const auto& [extension, bytes] : member_by_extension) {
    WEFT_RETURN_IF_ERROR(AddMember(std::string(key) + "." + extension, bytes));
  }
  return OkStatus();
}

Status TarWriter::AddMember(const std::string& name, std::string_view bytes) {
  char block[kBlock];
  if (bytes.size() >= (uint64_t{1} << 33))
    return InvalidArgument(path_ + ": member " + name + " has 8 GiB or more");
  if (!MakeHeader(name, bytes.size(), block)) {
    return InvalidArgument(path_ + ": the member name '" + name + "' does not fit a USTAR header");
  }
  buffer_.append(block, kBlock);
  buffer_.append(bytes);
  buffer_.append((kBlock - bytes.size() % kBlock) % kBlock, '\0');
  return buffer_.size() >= kFlushBytes ? Flush() : OkStatus();
}

Status TarWriter::Flush() {
  WEFT_RETURN_IF_ERROR(file_->Append(buffer_));
  written_ += buffer_.size();
  buffer_.clear();
  return OkStatus();
}

Status TarWriter::Finish() {
  buffer_.append(2 * kBlock, '\0');
  const uint64_t total = written_ + buffer_.size();
  buffer_.append((kRecord - total % kRecord) % kRecord, '\0');
  WEFT_RETURN_IF_ERROR(Flush());
  WEFT_RETURN_IF_ERROR(file_->Sync());
  WEFT_RETURN_IF_ERROR(file_->Close());
  WEFT_RETURN_IF_ERROR(fs_->Rename(path_ + ".part", path_));
  finished_ = true;
  return fs_->SyncDir(ParentPath(path_));
}

}  // namespace weft

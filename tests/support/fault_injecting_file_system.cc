#include "tests/support/fault_injecting_file_system.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace weft {
namespace {

std::vector<std::string> Components(const std::string& path) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (begin < path.size()) {
    const size_t end = std::min(path.find('/', begin), path.size());
    if (end > begin && path.substr(begin, end - begin) != ".")
      parts.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::string BaseName(const std::string& path) {
  const std::vector<std::string> parts = Components(path);
  return parts.empty() ? "" : parts.back();
}

}  // namespace

class FaultInjectingFile : public WritableFile {
 public:
  FaultInjectingFile(FaultInjectingFileSystem* fs, FaultInjectingFileSystem::NodePtr node)
      : fs_(fs), node_(std::move(node)) {}

  Status Append(std::string_view bytes) override {
    const Status status = fs_->Enter("append");
    // A write that is cut short leaves its beginning.
    const bool half = status.code() == StatusCode::kResourceExhausted;
    if (status.ok() || half) {
      const Status full =
          fs_->AppendTo(node_.get(), half ? bytes.substr(0, bytes.size() / 2) : bytes);
      if (status.ok()) return full;
    }
    return status;
  }
  Status Sync() override {
    WEFT_RETURN_IF_ERROR(fs_->Enter("fsync"));
    node_->synced = node_->data;
    return OkStatus();
  }
  Status Truncate(uint64_t size) override {
    WEFT_RETURN_IF_ERROR(fs_->Enter("truncate"));
    node_->data.resize(size);
    return OkStatus();
  }
  Status Close() override { return OkStatus(); }

 private:
  FaultInjectingFileSystem* fs_;
  FaultInjectingFileSystem::NodePtr node_;
};

FaultInjectingFileSystem::NodePtr FaultInjectingFileSystem::NewDirectory() {
  auto node = std::make_shared<Node>();
  node->directory = true;
  return node;
}

void FaultInjectingFileSystem::ClearFaults() {
  fail_.reset();
  stop_after_.reset();
  capacity_.reset();
}

Status FaultInjectingFileSystem::Enter(const std::string& what) {
  if (stop_after_ && num_calls_ >= *stop_after_) return Unavailable(what + ": the process is dead");
  ++num_calls_;
  if (fail_ && fail_->first == num_calls_) {
    return Status(fail_->second.code(), what + ": " + fail_->second.message());
  }
  return OkStatus();
}

Status FaultInjectingFileSystem::AppendTo(Node* node, std::string_view bytes) {
  if (capacity_) {
    const uint64_t used = used_bytes();
    const uint64_t room = *capacity_ > used ? *capacity_ - used : 0;
    if (bytes.size() > room) {
      node->data.append(bytes.substr(0, room));
      return ResourceExhausted("append: no space left on device");
    }
  }
  node->data.append(bytes);
  return OkStatus();
}

void FaultInjectingFileSystem::Forget(Node* node, CrashMode mode, std::mt19937_64* random) {
  if (!node->directory) {
    const bool appended = node->data.compare(0, node->synced.size(), node->synced) == 0;
    std::string left = node->synced;
    if (mode == CrashMode::kRandomRemains && (*random)() % 2 == 0) {
      left = node->data;
      if (appended && node->data.size() > node->synced.size() && (*random)() % 2 == 0) {
        // The tail reached the disk up to some sector.
        const uint64_t tail = node->data.size() - node->synced.size();
        const uint64_t kept = node->synced.size() + (*random)() % (tail + 1);
        left = node->data.substr(0, std::max<uint64_t>(node->synced.size(), kept / 512 * 512));
      }
    }
    node->data = node->synced = left;
    return;
  }
  if (mode == CrashMode::kPowerCut || (*random)() % 2 == 0) node->entries = node->synced_entries;
  node->synced_entries = node->entries;
  for (auto& [name, child] : node->entries) Forget(child.get(), mode, random);
}

void FaultInjectingFileSystem::Crash(CrashMode mode, uint64_t seed) {
  ClearFaults();
  if (mode == CrashMode::kProcessDied) return;
  std::mt19937_64 random(seed);
  Forget(root_.get(), mode, &random);
}

uint64_t FaultInjectingFileSystem::Bytes(const Node& node) {
  uint64_t bytes = node.data.size();
  for (const auto& [name, child] : node.entries) bytes += Bytes(*child);
  return bytes;
}
uint64_t FaultInjectingFileSystem::used_bytes() const { return Bytes(*root_); }

void FaultInjectingFileSystem::FlipBit(const std::string& path, uint64_t bit) {
  const NodePtr node = Find(path);
  node->data[bit / 8] = static_cast<char>(node->data[bit / 8] ^ (1 << (bit % 8)));
  node->synced = node->data;
}
void FaultInjectingFileSystem::CutFile(const std::string& path, uint64_t size) {
  const NodePtr node = Find(path);
  node->data.resize(size);
  node->synced = node->data;
}
void FaultInjectingFileSystem::AddBytes(const std::string& path, const std::string& bytes) {
  const NodePtr node = Find(path);
  node->data += bytes;
  node->synced = node->data;
}

FaultInjectingFileSystem::NodePtr FaultInjectingFileSystem::Find(const std::string& path) const {
  NodePtr node = root_;
  for (const std::string& part : Components(path)) {
    const auto it = node->entries.find(part);
    if (it == node->entries.end()) return nullptr;
    node = it->second;
  }
  return node;
}

StatusOr<FaultInjectingFileSystem::NodePtr> FaultInjectingFileSystem::FindFile(
    const std::string& path) const {
  NodePtr node = Find(path);
  if (node == nullptr || node->directory) return NotFound("open " + path + ": no such file");
  return node;
}

StatusOr<FaultInjectingFileSystem::NodePtr> FaultInjectingFileSystem::FindParent(
    const std::string& path) const {
  NodePtr node = Find(ParentPath(path));
  if (node == nullptr || !node->directory) return NotFound(path + ": no such directory");
  return node;
}

StatusOr<std::unique_ptr<WritableFile>> FaultInjectingFileSystem::CreateExclusive(
    const std::string& path) {
  WEFT_RETURN_IF_ERROR(Enter("create " + path));
  WEFT_ASSIGN_OR_RETURN(const NodePtr parent, FindParent(path));
  NodePtr& entry = parent->entries[BaseName(path)];
  if (entry != nullptr) return AlreadyExists("create " + path + ": it exists");
  entry = std::make_shared<Node>();
  return std::unique_ptr<WritableFile>(std::make_unique<FaultInjectingFile>(this, entry));
}

StatusOr<std::unique_ptr<WritableFile>> FaultInjectingFileSystem::OpenAppend(
    const std::string& path) {
  WEFT_RETURN_IF_ERROR(Enter("open " + path));
  WEFT_ASSIGN_OR_RETURN(const NodePtr parent, FindParent(path));
  NodePtr& entry = parent->entries[BaseName(path)];
  if (entry == nullptr) entry = std::make_shared<Node>();
  return std::unique_ptr<WritableFile>(std::make_unique<FaultInjectingFile>(this, entry));
}

StatusOr<std::string> FaultInjectingFileSystem::ReadFile(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const NodePtr node, FindFile(path));
  return node->data;
}

Status FaultInjectingFileSystem::ReadRange(const std::string& path, uint64_t offset, size_t size,
                                           void* out) {
  WEFT_ASSIGN_OR_RETURN(const NodePtr node, FindFile(path));
  if (offset > node->data.size() || size > node->data.size() - offset) {
    return Corruption(path + ": ends at byte " + std::to_string(node->data.size()));
  }
  std::memcpy(out, node->data.data() + offset, size);
  return OkStatus();
}

StatusOr<uint64_t> FaultInjectingFileSystem::FileSize(const std::string& path) {
  WEFT_ASSIGN_OR_RETURN(const NodePtr node, FindFile(path));
  return static_cast<uint64_t>(node->data.size());
}

bool FaultInjectingFileSystem::Exists(const std::string& path) { return Find(path) != nullptr; }

StatusOr<std::vector<std::string>> FaultInjectingFileSystem::ListDir(const std::string& path) {
  const NodePtr node = Find(path);
  if (node == nullptr || !node->directory) return NotFound("list " + path + ": no such directory");
  std::vector<std::string> names;
  for (const auto& [name, child] : node->entries) names.push_back(name);
  return names;
}

Status FaultInjectingFileSystem::MakeDirs(const std::string& path) {
  WEFT_RETURN_IF_ERROR(Enter("mkdir " + path));
  NodePtr node = root_;
  for (const std::string& part : Components(path)) {
    NodePtr& child = node->entries[part];
    if (child == nullptr) child = NewDirectory();
    if (!child->directory) return AlreadyExists("mkdir " + path + ": a file is in the way");
    node = child;
  }
  return OkStatus();
}

Status FaultInjectingFileSystem::Rename(const std::string& from, const std::string& to) {
  WEFT_RETURN_IF_ERROR(Enter("rename " + from));
  WEFT_ASSIGN_OR_RETURN(const NodePtr source, FindParent(from));
  WEFT_ASSIGN_OR_RETURN(const NodePtr target, FindParent(to));
  const auto it = source->entries.find(BaseName(from));
  if (it == source->entries.end()) return NotFound("rename " + from + ": no such file");
  const NodePtr node = it->second;
  source->entries.erase(it);
  target->entries[BaseName(to)] = node;
  return OkStatus();
}

Status FaultInjectingFileSystem::Link(const std::string& from, const std::string& to) {
  WEFT_RETURN_IF_ERROR(Enter("link " + to));
  WEFT_ASSIGN_OR_RETURN(const NodePtr node, FindFile(from));
  WEFT_ASSIGN_OR_RETURN(const NodePtr target, FindParent(to));
  if (!target->entries.emplace(BaseName(to), node).second)
    return AlreadyExists("link " + to + ": it exists");
  return OkStatus();
}

Status FaultInjectingFileSystem::Remove(const std::string& path) {
  WEFT_RETURN_IF_ERROR(Enter("remove " + path));
  WEFT_ASSIGN_OR_RETURN(const NodePtr parent, FindParent(path));
  if (parent->entries.erase(BaseName(path)) == 0)
    return NotFound("remove " + path + ": no such file");
  return OkStatus();
}

Status FaultInjectingFileSystem::RemoveTree(const std::string& path) {
  WEFT_RETURN_IF_ERROR(Enter("remove " + path));
  WEFT_ASSIGN_OR_RETURN(const NodePtr parent, FindParent(path));
  parent->entries.erase(BaseName(path));
  return OkStatus();
}

Status FaultInjectingFileSystem::SyncDir(const std::string& path) {
  WEFT_RETURN_IF_ERROR(Enter("fsync " + path));
  const NodePtr node = Find(path);
  if (node == nullptr || !node->directory) return NotFound("fsync " + path + ": no such directory");
  node->synced_entries = node->entries;
  return OkStatus();
}

}  // namespace weft

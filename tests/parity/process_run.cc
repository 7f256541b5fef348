#include "tests/parity/process_run.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/comm/connect_mesh.h"
#include "cluster/comm/nccl_connect.h"
#include "tests/support/program.h"
#include "worker/rank_device.h"

namespace weft::testing {
namespace {

constexpr std::chrono::seconds kDeadline(120);

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Whole or not at all, for those who wait for it.
void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path + ".tmp", std::ios::binary) << bytes;
  std::filesystem::rename(path + ".tmp", path);
}

// A part as a stream of values; reader and writer are the same program.
class Writer {
 public:
  template <typename T>
  void Put(const T* data, size_t count) {
    const auto size = static_cast<uint64_t>(count);
    bytes_.append(reinterpret_cast<const char*>(&size), sizeof(size));
    bytes_.append(reinterpret_cast<const char*>(data), count * sizeof(T));
  }
  template <typename T>
  void Put(const std::vector<T>& values) {
    Put(values.data(), values.size());
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(const std::string& bytes) : bytes_(bytes) {}
  template <typename T>
  std::vector<T> Get() {
    uint64_t count = 0;
    Copy(&count, sizeof(count));
    std::vector<T> values(count);
    Copy(values.data(), count * sizeof(T));
    return values;
  }
  bool AtEnd() const { return at_ == bytes_.size(); }

 private:
  void Copy(void* to, size_t size) {
    WEFT_CHECK_LE(at_ + size, bytes_.size()) << "a rank's part is cut off";
    std::memcpy(to, bytes_.data() + at_, size);
    at_ += size;
  }
  const std::string& bytes_;
  size_t at_ = 0;
};

std::string Serialize(const RankPart& part) {
  Writer writer;
  writer.Put(part.losses);
  writer.Put(part.norms);
  for (const StatePiece& piece : part.state) {
    writer.Put(piece.name.data(), piece.name.size());
    writer.Put(piece.shape);
    writer.Put(piece.box.offsets);
    writer.Put(piece.box.lengths);
    writer.Put(&piece.flat_begin, 1);
    writer.Put(piece.values);
  }
  return writer.bytes();
}

RankPart Parse(const std::string& bytes) {
  Reader reader(bytes);
  RankPart part;
  part.losses = reader.Get<double>();
  part.norms = reader.Get<double>();
  while (!reader.AtEnd()) {
    StatePiece piece;
    const std::vector<char> name = reader.Get<char>();
    piece.name.assign(name.begin(), name.end());
    piece.shape = reader.Get<int64_t>();
    piece.box.offsets = reader.Get<int64_t>();
    piece.box.lengths = reader.Get<int64_t>();
    piece.flat_begin = reader.Get<int64_t>()[0];
    piece.values = reader.Get<double>();
    part.state.push_back(std::move(piece));
  }
  return part;
}

// What a rank has written, or will have.
StatusOr<std::string> WaitForFile(const std::string& path) {
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (!std::filesystem::exists(path)) {
    if (std::chrono::steady_clock::now() > deadline) return DeadlineExceeded("nobody made " + path);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return ReadFile(path);
}

// Ranks as processes over the layout's backend, met by files.
// Ranks share a GPU where there are not enough; NCCL's own check refuses that.
int GpuOf(const Layout& layout, int rank) {
  const int count = layout.device() == CUDA ? ComputeDevice::Count() : 0;
  return count > 0 && layout.backend() != NCCL ? rank % count : rank;
}

StatusOr<MeshCommunicators> Connect(const Layout& layout, int rank, const std::string& directory,
                                    Listener* listener) {
  const ParallelDims dims{.pp = layout.pp(), .dp = layout.dp(), .tp = layout.tp()};
  MeshBackend backend{
      .backend = layout.backend(), .device = layout.device(), .gpu = GpuOf(layout, rank)};
  if (rank == 0 && layout.backend() == NCCL) {
    WEFT_ASSIGN_OR_RETURN(const NcclUniqueId id, MakeNcclUniqueId());
    backend.comm_id.assign(reinterpret_cast<const char*>(id.data()), id.size());
  }
  if (rank == 0) WriteFile(directory + "/comm_id", backend.comm_id);
  WriteFile(directory + "/endpoint." + std::to_string(rank), listener->endpoint());
  TcpOptions options;
  options.rank = rank;
  for (int peer = 0; peer < dims.world_size(); ++peer) {
    WEFT_ASSIGN_OR_RETURN(std::string endpoint,
                          WaitForFile(directory + "/endpoint." + std::to_string(peer)));
    options.endpoints.push_back(std::move(endpoint));
  }
  WEFT_ASSIGN_OR_RETURN(backend.comm_id, WaitForFile(directory + "/comm_id"));
  options.run_token = "parity";
  return ConnectMeshFor(dims, backend, options, *listener);
}

Status RunRank(int rank, const std::string& directory) {
  Recipe recipe;
  if (!recipe.ParseFromString(ReadFile(directory + "/recipe")))
    return Internal("the recipe does not parse");
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Listener> listener, Listener::Bind({}));
  WEFT_ASSIGN_OR_RETURN(MeshCommunicators mesh,
                        Connect(recipe.layout(), rank, directory, listener.get()));
  AxisCommunicators axes;
  WEFT_ASSIGN_OR_RETURN(axes.device, OpenRankDevice(recipe, GpuOf(recipe.layout(), rank)));
  axes.dp = mesh.dp.get();
  axes.tp = mesh.tp.get();
  axes.pp = mesh.pp.get();
  StatusOr<RankPart> part = RunParityRank(recipe, axes);
  if (!part.ok()) {
    mesh.Abort(part.status());
    return part.status();
  }
  WriteFile(directory + "/part." + std::to_string(rank), Serialize(*part));
  return OkStatus();
}

}  // namespace

StatusOr<Trajectory> RunAsProcesses(const std::string& program, const Recipe& recipe) {
  std::string directory = (std::filesystem::temp_directory_path() / "weft_parity_XXXXXX").string();
  if (::mkdtemp(directory.data()) == nullptr) return Internal("cannot create " + directory);
  WriteFile(directory + "/recipe", recipe.SerializeAsString());
  const int ranks = recipe.layout().dp() * recipe.layout().tp() * recipe.layout().pp();
  std::vector<std::unique_ptr<Program>> children;
  for (int rank = 0; rank < ranks; ++rank) {
    children.push_back(std::make_unique<Program>(
        std::vector<std::string>{program, "--child", std::to_string(rank), directory}, directory));
  }
  std::vector<RankPart> parts;
  Status status;
  for (int rank = 0; rank < ranks; ++rank) {
    const ProgramResult result = children[static_cast<size_t>(rank)]->Wait(kDeadline);
    if (result.exit_code != 0 && status.ok())
      status = Internal("rank " + std::to_string(rank) + ": " + result.output);
    if (status.ok()) parts.push_back(Parse(ReadFile(directory + "/part." + std::to_string(rank))));
  }
  std::filesystem::remove_all(directory);
  WEFT_RETURN_IF_ERROR(status);
  return Assemble(parts);
}

int RunChild(int rank, const std::string& directory) {
  Status status;
  try {
    status = RunRank(rank, directory);
  } catch (const std::exception& error) {
    status = Internal(error.what());
  }
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace weft::testing

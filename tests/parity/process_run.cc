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
#include "cluster/comm/mesh_communicators.h"
#include "cluster/comm/tcp_communicator.h"
#include "tests/support/program.h"

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

StatusOr<std::vector<std::string>> Endpoints(const std::string& directory, int ranks) {
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  std::vector<std::string> endpoints;
  for (int rank = 0; rank < ranks; ++rank) {
    const std::string path = directory + "/endpoint." + std::to_string(rank);
    while (!std::filesystem::exists(path)) {
      if (std::chrono::steady_clock::now() > deadline)
        return DeadlineExceeded("rank " + std::to_string(rank) + " did not come");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    endpoints.push_back(ReadFile(path));
  }
  return endpoints;
}

Status RunRank(int rank, const std::string& directory) {
  Recipe recipe;
  if (!recipe.ParseFromString(ReadFile(directory + "/recipe")))
    return Internal("the recipe does not parse");
  const ParallelDims dims{
      .pp = recipe.layout().pp(), .dp = recipe.layout().dp(), .tp = recipe.layout().tp()};
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<Listener> listener, Listener::Bind({}));
  WriteFile(directory + "/endpoint." + std::to_string(rank), listener->endpoint());
  TcpOptions options;
  options.rank = rank;
  WEFT_ASSIGN_OR_RETURN(options.endpoints, Endpoints(directory, dims.world_size()));
  options.run_token = "parity";
  WEFT_ASSIGN_OR_RETURN(MeshCommunicators mesh, ConnectMesh(dims, options, *listener));
  AxisCommunicators axes;
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

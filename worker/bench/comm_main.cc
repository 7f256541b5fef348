#include "worker/bench/comm_main.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "cluster/base/file_system.h"
#include "cluster/base/text.h"
#include "worker/bench/comm_bench.h"

namespace weft {
namespace {

Status ParseOptions(int argc, char** argv, CommBenchOptions* options, std::string* json) {
  for (int i = 0; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const std::string value = argv[i + 1];
    if (flag == "--backend") {
      if (!CommBackend_Parse(value, &options->backend) || options->backend == BACKEND_AUTO)
        return InvalidArgument("--backend " + value + ": TCP, NCCL or MPI");
    } else if (flag == "--device") {
      if (!Device_Parse(value, &options->device) || options->device == DEVICE_AUTO)
        return InvalidArgument("--device " + value + ": CPU or CUDA");
    } else if (flag == "--ranks") {
      options->ranks = std::atoi(value.c_str());
    } else if (flag == "--max-mib") {
      options->largest_bytes = static_cast<size_t>(std::atoll(value.c_str())) << 20;
    } else if (flag == "--json") {
      *json = value;
    } else {
      return InvalidArgument("unknown flag " + flag);
    }
  }
  if (options->largest_bytes < (1 << 20)) return InvalidArgument("--max-mib: at least 1");
  return OkStatus();
}

void PrintRows(const CommBenchOptions& options, const std::vector<CommBenchRow>& rows) {
  std::printf("%d ranks over %s, buffers on %s\n%-16s %12s %12s %12s\n", options.ranks,
              CommBackend_Name(options.backend).c_str(), Device_Name(options.device).c_str(),
              "operation", "bytes", "microseconds", "bus GB/s");
  for (const CommBenchRow& row : rows) {
    std::printf("%-16s %12s %12.1f %12.2f\n", row.operation.c_str(),
                HumanBytes(static_cast<double>(row.bytes)).c_str(), 1e6 * row.seconds,
                row.bus_bytes_per_second / 1e9);
  }
}

Status WriteJson(const std::string& path, const CommBenchOptions& options,
                 const std::vector<CommBenchRow>& rows) {
  nlohmann::json json = {{"backend", CommBackend_Name(options.backend)},
                         {"device", Device_Name(options.device)},
                         {"ranks", options.ranks},
                         {"rows", nlohmann::json::array()}};
  for (const CommBenchRow& row : rows) {
    json["rows"].push_back({{"operation", row.operation},
                            {"bytes", row.bytes},
                            {"seconds", row.seconds},
                            {"bus_bytes_per_s", row.bus_bytes_per_second}});
  }
  WEFT_RETURN_IF_ERROR(PosixFileSystem()->MakeDirs(ParentPath(path)));
  return WriteFileDurably(PosixFileSystem(), path, json.dump(1) + "\n");
}

}  // namespace

int CommBenchMain(int argc, char** argv) {
  CommBenchOptions options;
  std::string json;
  Status status = ParseOptions(argc, argv, &options, &json);
  if (status.ok()) {
    const StatusOr<std::vector<CommBenchRow>> rows = BenchComm(options);
    status = rows.status();
    if (status.ok()) PrintRows(options, *rows);
    if (status.ok() && !json.empty()) status = WriteJson(json, options, *rows);
  }
  if (!status.ok()) std::fprintf(stderr, "weft bench: %s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}

}  // namespace weft

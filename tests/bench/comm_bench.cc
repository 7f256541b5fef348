// How fast the tcp communicator is between processes of this host, against memcpy in the same run.
//
//   weft_comm_bench [--out=build/reports/comm.json] [--max-bytes=67108864] [--ranks=2,4] [--ring-bytes=N]
//
// Size is what a rank holds: all_reduce reduces it, all_gather fills it, all_to_all sends and receives it. "x memcpy" is the time
// of the operation over that of a warm memcpy of the bytes that a rank receives, taken while all ranks copy.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "cluster/comm/tcp_communicator.h"

namespace weft {
namespace {

struct Flags {
  std::string out = "build/reports/comm.json";
  size_t max_bytes = 64 << 20;
  std::vector<int> ranks = {2, 4};
  size_t ring_bytes = 0;  // 0: the communicator's choice
};

struct Measurement {
  std::string operation;
  int ranks;
  size_t bytes;
  double seconds;         // median
  double memcpy_seconds;  // of the bytes that a rank receives
};

// The median of `times` runs, each started by all ranks together.
double Median(Communicator& comm, int times, const std::function<void()>& run) {
  run();  // warm
  std::vector<double> seconds;
  for (int i = 0; i < times; ++i) {
    WEFT_CHECK_OK(comm.Barrier({.name = "start"})->Wait());
    const TimePoint begin = Clock::now();
    run();
    seconds.push_back(ToSeconds(Clock::now() - begin));
  }
  std::nth_element(seconds.begin(), seconds.begin() + times / 2, seconds.end());
  return seconds[static_cast<size_t>(times / 2)];
}

struct Buffers {
  std::vector<float> send;
  std::vector<float> recv;
};

std::function<void()> Operation(const std::string& name, Communicator& comm, Buffers* buffers,
                                size_t bytes) {
  const auto ranks = static_cast<size_t>(comm.size());
  const size_t part = bytes / ranks;
  if (name == "all_reduce") {
    return [&comm, buffers, bytes] {
      WEFT_CHECK_OK(
          comm.AllReduce(buffers->recv.data(), bytes / 4, DType::kFloat32, ReduceOp::kMax, {})
              ->Wait());
    };
  }
  if (name == "all_gather") {
    return [&comm, buffers, part] {
      WEFT_CHECK_OK(
          comm.AllGather(buffers->send.data(), buffers->recv.data(), part / 4, DType::kFloat32, {})
              ->Wait());
    };
  }
  std::vector<SendBuffer> send;
  std::vector<RecvBuffer> recv;
  for (size_t r = 0; r < ranks; ++r) {
    send.push_back({buffers->send.data() + r * part / 4, part});
    recv.push_back({buffers->recv.data() + r * part / 4, part});
  }
  return [&comm, send, recv] { WEFT_CHECK_OK(comm.AllToAll(send, recv, {})->Wait()); };
}

// Runs in every rank; rank 0's figures count.
std::vector<Measurement> Measure(Communicator& comm, const Flags& flags) {
  std::vector<Measurement> measurements;
  const auto ranks = static_cast<size_t>(comm.size());
  Buffers buffers{.send = std::vector<float>(flags.max_bytes / 4, 1),
                  .recv = std::vector<float>(flags.max_bytes / 4, 2)};
  for (const char* name : {"all_to_all", "all_gather", "all_reduce"}) {
    for (size_t bytes = 1 << 10; bytes <= flags.max_bytes; bytes *= 4) {
      const int times = static_cast<int>(std::clamp<size_t>((128 << 20) / bytes, 5, 200));
      // An all_reduce receives its own chunk from every other rank, then their chunks: twice (ranks - 1) / ranks.
      const size_t received =
          bytes / ranks * (ranks - 1) * (std::strcmp(name, "all_reduce") == 0 ? 2 : 1);
      const size_t copied = std::min(received, flags.max_bytes);
      const double copy = Median(
          comm, times, [&] { std::memcpy(buffers.recv.data(), buffers.send.data(), copied); });
      measurements.push_back(
          {.operation = name,
           .ranks = comm.size(),
           .bytes = bytes,
           .seconds = Median(comm, times, Operation(name, comm, &buffers, bytes)),
           .memcpy_seconds = copy * static_cast<double>(received) / static_cast<double>(copied)});
    }
  }
  return measurements;
}

std::string AsLine(const Measurement& m) {
  std::ostringstream line;
  line << m.operation << " " << m.ranks << " " << m.bytes << " " << m.seconds << " "
       << m.memcpy_seconds << "\n";
  return line.str();
}

// One process a rank; what rank 0 measured comes back through a pipe.
std::vector<Measurement> RunWorld(int size, const Flags& flags) {
  std::vector<std::unique_ptr<Listener>> listeners;
  std::vector<std::string> endpoints;
  for (int rank = 0; rank < size; ++rank) {
    auto listener = Listener::Bind({});
    WEFT_CHECK_OK(listener.status());
    endpoints.push_back((*listener)->endpoint());
    listeners.push_back(*std::move(listener));
  }
  int ends[2];
  WEFT_CHECK_EQ(pipe(ends), 0);
  for (int rank = 0; rank < size; ++rank) {
    if (fork() != 0) continue;
    {
      auto comm = ConnectTcp({.rank = rank,
                              .endpoints = endpoints,
                              .run_token = "bench",
                              .ring_bytes = flags.ring_bytes},
                             *listeners[static_cast<size_t>(rank)]);
      WEFT_CHECK_OK(comm.status());
      std::string lines;
      for (const Measurement& m : Measure(**comm, flags)) lines += AsLine(m);
      if (rank == 0)
        WEFT_CHECK_EQ(write(ends[1], lines.data(), lines.size()),
                      static_cast<ssize_t>(lines.size()));
    }
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  for (int rank = 0; rank < size; ++rank) wait(nullptr);
  std::vector<Measurement> measurements;
  std::istringstream in(text);
  for (Measurement m; in >> m.operation >> m.ranks >> m.bytes >> m.seconds >> m.memcpy_seconds;) {
    measurements.push_back(m);
  }
  return measurements;
}

void Print(const Measurement& m) {
  std::printf("%-12s %5d %10s %12.1f us %8.2f GB/s %8.2f x memcpy\n", m.operation.c_str(), m.ranks,
              HumanBytes(static_cast<double>(m.bytes)).c_str(), m.seconds * 1e6,
              static_cast<double>(m.bytes) / m.seconds / 1e9, m.seconds / m.memcpy_seconds);
}

bool WriteJson(const std::string& path, const std::vector<Measurement>& measurements) {
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  std::ofstream out(path);
  out << "{\"measurements\": [";
  const char* separator = "\n";
  for (const Measurement& m : measurements) {
    out << separator << "  {\"operation\": \"" << m.operation << "\", \"ranks\": " << m.ranks
        << ", \"bytes\": " << m.bytes << ", \"seconds\": " << m.seconds
        << ", \"memcpy_seconds\": " << m.memcpy_seconds << "}";
    separator = ",\n";
  }
  out << "\n]}\n";
  out.close();
  return out.good();
}

bool ParseFlags(int argc, char** argv, Flags* flags) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (name == "--out" && !value.empty()) {
      flags->out = value;
    } else if (name == "--max-bytes" && std::atoll(value.c_str()) >= 1024) {
      flags->max_bytes = static_cast<size_t>(std::atoll(value.c_str()));
    } else if (name == "--ring-bytes") {
      flags->ring_bytes = static_cast<size_t>(std::atoll(value.c_str())) / 4096 * 4096;
    } else if (name == "--ranks" && !value.empty()) {
      flags->ranks.clear();
      for (const std::string& number : Split(value, ','))
        flags->ranks.push_back(std::max(2, std::atoi(number.c_str())));
    } else {
      return false;
    }
  }
  return true;
}

int Main(int argc, char** argv) {
  Flags flags;
  if (!ParseFlags(argc, argv, &flags)) {
    std::fprintf(stderr,
                 "usage: weft_comm_bench [--out=FILE] [--max-bytes=N (at least 1024)] "
                 "[--ranks=2,4] [--ring-bytes=N]\n");
    return 2;
  }
  std::vector<Measurement> all;
  for (const int ranks : flags.ranks) {
    const std::vector<Measurement> measurements = RunWorld(ranks, flags);
    if (measurements.empty()) {
      std::fprintf(stderr,
                   "weft_comm_bench: the ranks measured nothing; see their messages above\n");
      return 1;
    }
    for (const Measurement& m : measurements) Print(m);
    std::fflush(stdout);
    all.insert(all.end(), measurements.begin(), measurements.end());
  }
  if (!WriteJson(flags.out, all)) {
    std::fprintf(stderr, "weft_comm_bench: cannot write %s\n", flags.out.c_str());
    return 1;
  }
  std::printf("written to %s\n", flags.out.c_str());
  return 0;
}

}  // namespace
}  // namespace weft

int main(int argc, char** argv) { return weft::Main(argc, argv); }

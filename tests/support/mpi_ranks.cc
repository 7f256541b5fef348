#include "tests/support/mpi_ranks.h"

#include <gtest/gtest.h>

#include <unistd.h>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "cluster/base/clock.h"
#include "cluster/base/logging.h"
#include "tests/support/program.h"
#include "tests/support/temp_dir.h"

namespace weft::testing {
namespace {

// In a rank's environment: the folder for the reports.
constexpr char kReportsVariable[] = "WEFT_MPI_RANKS";

std::string CurrentTest() {
  const ::testing::TestInfo* info = ::testing::UnitTest::GetInstance()->current_test_info();
  WEFT_CHECK(info != nullptr) << "RunUnderMpirun outside of a test";
  return std::string(info->test_suite_name()) + "." + info->name();
}

std::string ReportOf(const std::string& folder, int rank) {
  return folder + "/rank-" + std::to_string(rank);
}

void WriteReport(const std::string& path, const Status& status) {
  std::ofstream(path + ".part") << static_cast<int>(status.code()) << "\n" << status.message();
  std::filesystem::rename(path + ".part", path);
}

Status ReadReport(const std::string& path) {
  std::ifstream file(path);
  int code = 0;
  if (!(file >> code)) return Internal("it ended without a word");
  file.get();
  std::ostringstream message;
  message << file.rdbuf();
  return code == 0 ? OkStatus() : Status(static_cast<StatusCode>(code), message.str());
}

[[noreturn]] void RunAsRank(const std::string& folder, int size,
                            const std::function<Status(int)>& body) {
  const char* number = std::getenv("OMPI_COMM_WORLD_RANK");
  WEFT_CHECK(number != nullptr) << "not started by mpirun";
  Status status = body(std::atoi(number));
  if (status.ok() && ::testing::Test::HasFailure())
    status = Internal("an EXPECT in the body failed");
  WriteReport(ReportOf(folder, std::atoi(number)), status);
  // mpirun kills the others when one leaves without MPI_Finalize, as one does after a failure.
  const TimePoint give_up = Clock::now() + std::chrono::seconds(10);
  for (int rank = 0; rank < size; ++rank) {
    while (!std::filesystem::exists(ReportOf(folder, rank)) && Clock::now() < give_up)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  std::fflush(nullptr);
  std::_Exit(0);
}

}  // namespace

Status MpiRun::FirstFailure() const {
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    if (!ranks[rank].ok())
      return Status(ranks[rank].code(), "MPI rank " + std::to_string(rank) + ": " +
                                            ranks[rank].message() + "\n" + output);
  }
  return OkStatus();
}

std::vector<std::string> MpirunEnvironment() {
  return {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1",
          "OMPI_MCA_rmaps_base_oversubscribe=1", "OMPI_MCA_hwloc_base_binding_policy=none",
          "OMPI_MCA_odls_base_sigkill_timeout=0"};
}

MpiRun RunUnderMpirun(int size, const std::function<Status(int)>& body,
                      std::chrono::seconds timeout) {
  if (const char* folder = std::getenv(kReportsVariable)) RunAsRank(folder, size, body);
  const TempDir folder;
  char self[PATH_MAX] = {};
  WEFT_CHECK(::readlink("/proc/self/exe", self, sizeof self - 1) > 0);
  // Without gtest's own variables: shards, XML output.
  std::vector<std::string> argv = {"/usr/bin/env",      "-u", "GTEST_OUTPUT",      "-u",
                                   "GTEST_SHARD_INDEX", "-u", "GTEST_TOTAL_SHARDS"};
  for (const std::string& variable : MpirunEnvironment()) argv.push_back(variable);
  argv.push_back(std::string(kReportsVariable) + "=" + folder.path());
  for (const std::string& word : std::vector<std::string>{"mpirun", "-n", std::to_string(size),
                                                          self, "--gtest_filter=" + CurrentTest()})
    argv.push_back(word);
  const ProgramResult result = RunProgram(argv, folder.path(), timeout);
  MpiRun run{.exit_code = result.exit_code, .output = result.output};
  for (int rank = 0; rank < size; ++rank)
    run.ranks.push_back(ReadReport(ReportOf(folder.path(), rank)));
  return run;
}

}  // namespace weft::testing

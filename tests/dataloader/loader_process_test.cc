// The loader as a process of its own: bytes equal to those of threads, whatever dies, stops or starves in between.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "cluster/base/hash.h"
#include "cluster/base/loader_segment.h"
#include "dataloader/bpe_trainer.h"
#include "dataloader/process/bottleneck.h"
#include "dataloader/process/loader_service.h"
#include "dataloader/process/ring_loader.h"
#include "dataloader/process/shared_ring.h"
#include "tests/dataloader/test_images.h"
#include "tests/support/report.h"
#include "tests/support/sanitizers.h"
#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using std::chrono::milliseconds;

// A loader process without a program: fork, so that it can be killed and stopped.
class Service {
 public:
  explicit Service(std::shared_ptr<LoaderSegment> segment) : segment_(std::move(segment)) {
    Start();
  }
  ~Service() { Kill(); }
  void Start() {
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int null = ::open("/dev/null", O_WRONLY);
    ::dup2(null, 2);
    ::_exit(RunLoaderService({.segment = segment_}).ok() ? 0 : 1);
  }
  void Signal(int signal) const { ::kill(pid_, signal); }
  void Kill() {
    Signal(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  const std::shared_ptr<LoaderSegment> segment_;
  pid_t pid_ = -1;
};

std::vector<uint32_t> ReadAll(Loader* loader, int64_t count) {
  std::vector<uint32_t> crcs;
  for (int64_t i = 0; i < count; ++i) {
    auto batch = loader->Next();
    EXPECT_TRUE(batch.ok()) << batch.status();
    if (!batch.ok()) break;
    uint32_t crc = Crc32c(batch->sample_ids.data(), batch->sample_ids.size() * 8);
    crc = Crc32c(batch->targets.data(), batch->targets.size() * 4, crc);
    for (const Field& field : batch->fields) {
      crc = Crc32c(field.spec.name.data(), field.spec.name.size(), crc);
      crc = Crc32c(field.bytes.data(), field.bytes.size(), crc);
    }
    crcs.push_back(crc);
    loader->Recycle(std::move(*batch));
  }
  return crcs;
}

int64_t CountFiles(pid_t pid) {
  int64_t files = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd"))
    ++files;
  return files;
}

// VmRSS or a part of it, of a process.
int64_t StatusKb(pid_t pid, const std::string& field) {
  const std::string status = ReadBytes("/proc/" + std::to_string(pid) + "/status");
  const size_t at = status.find(field + ":");
  return at == std::string::npos ? -1 : std::atoll(status.c_str() + at + field.size() + 1);
}

int64_t ResidentKb(pid_t pid) { return StatusKb(pid, "VmRSS"); }

class LoaderProcessTest : public ::testing::TestWithParam<SampleFamily> {
 protected:
  void SetUp() override {
    options_.family = GetParam();
    options_.seed = 3;
    options_.batch.set_slots(4);
    options_.batch.set_micro_batches(2);
    options_.batch.set_micro_batch_size(3);
    options_.image_size = 12;
    options_.patches = 4;
    options_.context_length = 40;
    options_.data.set_vocabulary(Path("vocab.txt"));
    options_.data.add_train_shards(Path("train.tar"));
    options_.data.mutable_conversation()->set_version(ConversationRecipe::V1);
    options_.data.mutable_conversation()->set_system("");
    options_.slots = {1, 2};
    options_.first_step = 2;
    options_.end_step = 12;
    const BpeStyle style = GetParam() == SampleFamily::kMaskedText     ? BpeStyle::kRoberta
                           : GetParam() == SampleFamily::kConversation ? BpeStyle::kLlava
                                                                       : BpeStyle::kClip;
    const auto vocabulary = BpeTrainer(style).Train(BpeFixedEntries(style));
    ASSERT_TRUE(vocabulary.ok());
    WriteBytes(Path("vocab.txt"), *vocabulary);
    auto samples = MakeSamples(0, 60, 20);
    for (auto& [key, members] : samples) {
      members["json"] = R"({"conversations": [{"from": "human", "value": "<image>\nIt?"},)"
                        R"({"from": "gpt", "value": ")" +
                        members["txt"].substr(8) + "\"}]}";
      if (GetParam() == SampleFamily::kMaskedText) members["txt"] += " and more of it\nso it is";
    }
    if (GetParam() != SampleFamily::kMaskedText) samples[11].second["jpg"] = "no picture";
    WriteShard(Path("train.tar"), samples);
    auto segment = LoaderSegment::Create(2, size_t{4} << 20);
    ASSERT_TRUE(segment.ok()) << segment.status();
    segment_ = std::move(*segment);
    auto threads = Loader::Open(options_);
    ASSERT_TRUE(threads.ok()) << threads.status();
    expected_ = ReadAll(threads->get(), kCount);
  }

  std::string Path(const std::string& name) const { return dir_.path() + "/" + name; }

  LoaderSeat Seat(uint64_t id) const {
    LoaderSeat seat;
    seat.segment = segment_;
    seat.region = 1;
    seat.id = id;
    return seat;
  }

  std::unique_ptr<Loader> Open(const LoaderSeat& seat) const {
    auto loader = OpenRingLoader(seat, options_);
    EXPECT_TRUE(loader.ok()) << loader.status();
    return loader.ok() ? std::move(*loader) : nullptr;
  }

  static constexpr int64_t kCount = 10 * 2 * 2;
  testing::TempDir dir_;
  LoaderOptions options_;
  std::shared_ptr<LoaderSegment> segment_;
  std::vector<uint32_t> expected_;
};

TEST_P(LoaderProcessTest, GivesTheBytesOfThreads) {
  Service service(segment_);
  const auto loader = Open(Seat(1));
  ASSERT_NE(loader, nullptr);
  auto threads = Loader::Open(options_);
  EXPECT_EQ(loader->manifest_hash(), (*threads)->manifest_hash());
  EXPECT_EQ(loader->num_samples(), (*threads)->num_samples());
  EXPECT_EQ(ReadAll(loader.get(), kCount), expected_);
  EXPECT_EQ(loader->Next().status().code(), StatusCode::kFailedPrecondition);
}

TEST_P(LoaderProcessTest, KilledAndStoppedAnywhereLeavesNoTrace) {
  std::mt19937 random(GetParam() == SampleFamily::kImageText ? 1 : 2);
  Service service(segment_);
  for (uint64_t id = 1; id <= 3; ++id) {
    std::atomic<bool> done = false;
    std::thread chaos([&] {
      while (!done) {
        std::this_thread::sleep_for(milliseconds(random() % 40));
        if (random() % 3 == 0) {
          service.Signal(SIGSTOP);
          std::this_thread::sleep_for(milliseconds(random() % 60));
          service.Signal(SIGCONT);
        } else {
          service.Kill();
          std::this_thread::sleep_for(milliseconds(random() % 10));
          service.Start();
        }
        // A while to make progress in.
        std::this_thread::sleep_for(milliseconds(60));
      }
    });
    const auto loader = Open(Seat(id));
    std::vector<uint32_t> crcs;
    for (int64_t i = 0; i < kCount && loader != nullptr; ++i) {
      const auto one = ReadAll(loader.get(), 1);
      crcs.insert(crcs.end(), one.begin(), one.end());
      std::this_thread::sleep_for(milliseconds(10));
    }
    done = true;
    chaos.join();
    EXPECT_EQ(crcs, expected_);
  }
}

TEST_P(LoaderProcessTest, NextWorkerOnTheSameRingStartsAfresh) {
  Service service(segment_);
  {
    // Dies with a ring half read.
    const auto first = Open(Seat(1));
    EXPECT_EQ(ReadAll(first.get(), 5).back(), expected_[4]);
  }
  options_.first_step = 5;
  const auto second = Open(Seat(2));
  const auto rest = ReadAll(second.get(), kCount - 12);
  EXPECT_EQ(rest, std::vector<uint32_t>(expected_.begin() + 12, expected_.end()));
}

TEST_P(LoaderProcessTest, SeveralReadersShareARing) {
  Service service(segment_);
  std::vector<std::vector<uint32_t>> read(3);
  std::vector<std::thread> readers;
  for (int i = 2; i >= 0; --i) {
    readers.emplace_back([&, i] {
      LoaderSeat seat = Seat(1);
      seat.reader = i;
      seat.readers = 3;
      const auto loader = Open(seat);
      if (loader != nullptr) read[static_cast<size_t>(i)] = ReadAll(loader.get(), kCount);
    });
    std::this_thread::sleep_for(milliseconds(20));
  }
  for (std::thread& reader : readers) reader.join();
  for (const auto& crcs : read) EXPECT_EQ(crcs, expected_);
}

TEST_P(LoaderProcessTest, KeepsNeitherMemoryNorFiles) {
  Service service(segment_);
  options_.end_step = 40;
  const int64_t count = 38 * 4;
  const auto pass = [&](uint64_t id) {
    const auto loader = Open(Seat(id));
    EXPECT_EQ(ReadAll(loader.get(), count).size(), static_cast<size_t>(count));
  };
  // A stream is closed a moment after its last micro-batch was read.
  const auto settle = [&](int64_t most) {
    for (int i = 0; i < 300 && CountFiles(service.pid()) > most; ++i)
      std::this_thread::sleep_for(milliseconds(10));
    return CountFiles(service.pid());
  };
  const int64_t idle = CountFiles(service.pid());
  for (uint64_t id = 1; id <= 3; ++id) pass(id);
  const int64_t files = settle(idle);
  const int64_t own_files = CountFiles(::getpid());
  const int64_t resident = ResidentKb(service.pid());
  for (uint64_t id = 4; id <= 12; ++id) pass(id);
  EXPECT_EQ(settle(files), files);
  EXPECT_EQ(CountFiles(::getpid()), own_files);
  if (!testing::kSanitized) {
    EXPECT_LE(ResidentKb(service.pid()), resident + resident / 10) << "in kB";
  }
}

// Ten passes over the samples on one stream: what the first two needed is all that is ever needed. Memory that it shares
// with its workers stays within the budget, and so does what it adds to its own while it reads.
TEST_P(LoaderProcessTest, ResidentSizeIsFlatAndWithinItsBudget) {
  if (testing::kSanitized) GTEST_SKIP() << "a sanitizer's own memory is counted, too";
  Service service(segment_);
  const int64_t pass = 60 / (4 * 2 * 3) + 1;  // steps of 24 samples
  options_.first_step = 0;
  options_.end_step = 12 * pass;
  options_.image_size = 160;  // a ring of some hundred kB
  const int64_t own_before = StatusKb(service.pid(), "RssAnon");
  const auto loader = Open(Seat(1));
  ASSERT_NE(loader, nullptr);
  const auto batches = pass * 2 * 2;
  nlohmann::ordered_json passes = nlohmann::ordered_json::array();
  std::vector<int64_t> resident;
  for (int i = 0; i < 12; ++i) {
    ASSERT_EQ(ReadAll(loader.get(), batches).size(), static_cast<size_t>(batches));
    const int64_t shared = StatusKb(service.pid(), "RssShmem");
    const int64_t own = StatusKb(service.pid(), "RssAnon");
    // Not VmRSS: pages of the program come as its parts first run.
    resident.push_back(shared + own);
    passes.push_back({{"resident_kb", StatusKb(service.pid(), "VmRSS")},
                      {"shared_kb", shared},
                      {"own_kb", own}});
  }
  EXPECT_LE(resident.back(), resident[1] + 128) << "in kB, after 10 more passes";
  if (GetParam() != SampleFamily::kMaskedText) {
    EXPECT_GE(StatusKb(service.pid(), "RssShmem"), 4 * 230) << "the ring";
  }
  const int64_t budget_kb = 2 * (4 << 10);
  const int64_t grown = StatusKb(service.pid(), "RssAnon") - own_before;
  const int64_t shared = StatusKb(service.pid(), "RssShmem");
  if (GetParam() == SampleFamily::kImageText) {
    testing::WriteReport("loader-resident", {{"budget_kb", budget_kb},
                                             {"own_kb_before", own_before},
                                             {"grown_and_shared_kb", grown + shared},
                                             {"passes", passes}});
  }
  // The vocabulary and the index of the shards are besides the budget: here some hundred kB.
  EXPECT_LE(grown + shared, budget_kb) << "in kB";
}

INSTANTIATE_TEST_SUITE_P(Families, LoaderProcessTest,
                         ::testing::Values(SampleFamily::kImageText, SampleFamily::kMaskedText,
                                           SampleFamily::kConversation));

using LoaderProcessPacks = LoaderProcessTest;

// Rows of several pictures have other shapes; a loader that takes over makes the same rows.
TEST_P(LoaderProcessPacks, CrossTheRing) {
  options_.data.mutable_conversation()->set_pack(true);
  options_.pictures = 2;
  options_.context_length = 96;
  auto threads = Loader::Open(options_);
  ASSERT_TRUE(threads.ok()) << threads.status();
  const std::vector<uint32_t> expected = ReadAll(threads->get(), kCount);
  auto service = std::make_unique<Service>(segment_);
  const auto loader = Open(Seat(1));
  ASSERT_NE(loader, nullptr);
  EXPECT_EQ(loader->manifest_hash(), (*threads)->manifest_hash());
  EXPECT_EQ(loader->num_samples(), (*threads)->num_samples());
  std::vector<uint32_t> got = ReadAll(loader.get(), 11);
  service.reset();
  service = std::make_unique<Service>(segment_);
  for (const uint32_t crc : ReadAll(loader.get(), kCount - 11)) got.push_back(crc);
  EXPECT_EQ(got, expected);
}

INSTANTIATE_TEST_SUITE_P(Conversations, LoaderProcessPacks,
                         ::testing::Values(SampleFamily::kConversation));

using LoaderProcessFailures = LoaderProcessTest;

TEST_P(LoaderProcessFailures, AreTheWorkersErrors) {
  Service service(segment_);
  LoaderOptions wrong = options_;
  wrong.data.set_train_shards(0, Path("nothing.tar"));
  const auto missing = OpenRingLoader(Seat(1), wrong);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.status().message().find("nothing.tar"), std::string::npos);

  wrong = options_;
  wrong.image_size = 1200;
  const auto large = OpenRingLoader(Seat(2), wrong);
  ASSERT_FALSE(large.ok());
  EXPECT_NE(large.status().message().find("--loader-bytes"), std::string::npos) << large.status();

  // All samples are bad: some micro-batches may come, then the reason.
  auto samples = MakeSamples(0, 60, 20);
  for (auto& [key, members] : samples) members["jpg"] = "no picture";
  WriteShard(Path("bad.tar"), samples);
  wrong = options_;
  wrong.data.set_train_shards(0, Path("bad.tar"));
  const auto bad = OpenRingLoader(Seat(3), wrong);
  ASSERT_TRUE(bad.ok()) << bad.status();
  const auto batch = (*bad)->Next();
  ASSERT_FALSE(batch.ok());
  EXPECT_EQ(batch.status().code(), StatusCode::kCorruption);
  EXPECT_NE(batch.status().message().find("bad.tar"), std::string::npos) << batch.status();
}

TEST_P(LoaderProcessFailures, NoLoaderEndsTheWait) {
  LoaderSeat seat = Seat(1);
  seat.dead_after = milliseconds(300);
  EXPECT_EQ(OpenRingLoader(seat, options_).status().code(), StatusCode::kUnavailable);
  std::snprintf(segment_->front().reason, 100, "the loader died too often");
  segment_->front().given_up = 1;
  EXPECT_EQ(OpenRingLoader(Seat(2), options_).status().message(), "the loader died too often");
}

INSTANTIATE_TEST_SUITE_P(Images, LoaderProcessFailures,
                         ::testing::Values(SampleFamily::kImageText));

TEST(Bottleneck, IsWhatTakesTheTime) {
  RingInterval interval;
  interval.seconds = 10;
  interval.full_s = 6;
  EXPECT_EQ(FindBottleneck(interval), Bottleneck::kConsumer);
  interval.full_s = 1;
  interval.threads = {.decode_s = 5, .read_s = 3, .core_wait_s = 1};
  EXPECT_EQ(FindBottleneck(interval), Bottleneck::kDecode);
  interval.threads.read_s = 7;
  EXPECT_EQ(FindBottleneck(interval), Bottleneck::kRead);
  interval.threads.core_wait_s = 8;
  EXPECT_EQ(FindBottleneck(interval), Bottleneck::kCores);
  EXPECT_NE(Describe(interval).find("bottleneck: decode"), std::string::npos);
}

}  // namespace
}  // namespace weft

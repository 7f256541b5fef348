#include "cluster/base/file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "tests/support/temp_dir.h"

namespace weft {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::weft::testing::TempDir;

FileSystem* Fs() { return PosixFileSystem(); }

// The exit code of `body` in a process of its own.
int InChild(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(PosixFileSystem, WritesReadsAndLists) {
  const TempDir dir;
  ASSERT_TRUE(Fs()->MakeDirs(dir / "a/b/c").ok());
  ASSERT_TRUE(Fs()->MakeDirs(dir / "a/b/c").ok()) << "a directory that is there is fine";
  auto file = Fs()->CreateExclusive(dir / "a/x");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE((*file)->Append("hello ").ok());
  EXPECT_TRUE((*file)->Append(std::string("wor\0ld", 6)).ok());
  EXPECT_TRUE((*file)->Sync().ok());
  EXPECT_TRUE((*file)->Close().ok());
  EXPECT_EQ(*Fs()->ReadFile(dir / "a/x"), std::string("hello wor\0ld", 12));
  EXPECT_EQ(*Fs()->FileSize(dir / "a/x"), 12u);

  auto more = Fs()->OpenAppend(dir / "a/x");
  ASSERT_TRUE(more.ok());
  EXPECT_TRUE((*more)->Append("!").ok());
  EXPECT_TRUE((*more)->Close().ok());
  EXPECT_EQ(*Fs()->FileSize(dir / "a/x"), 13u);

  EXPECT_TRUE(Fs()->Link(dir / "a/x", dir / "a/second").ok());
  EXPECT_TRUE(Fs()->Rename(dir / "a/x", dir / "a/third").ok());
  EXPECT_THAT(*Fs()->ListDir(dir / "a"), ElementsAre("b", "second", "third"));
  EXPECT_TRUE(Fs()->Remove(dir / "a/second").ok());
  EXPECT_TRUE(Fs()->SyncDir(dir / "a").ok());
  EXPECT_TRUE(Fs()->RemoveTree(dir / "a").ok());
  EXPECT_FALSE(Fs()->Exists(dir / "a"));
}

TEST(PosixFileSystem, AppendsGoOnAfterTheCut) {
  const TempDir dir;
  ASSERT_TRUE(WriteFileDurably(Fs(), dir / "x", "good and torn").ok());
  auto file = Fs()->OpenAppend(dir / "x");
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->Truncate(5).ok());
  EXPECT_TRUE((*file)->Append("new").ok());
  EXPECT_EQ(*Fs()->ReadFile(dir / "x"), "good new");
}

TEST(PosixFileSystem, ReadsFilesWithoutASize) {
  const auto status = Fs()->ReadFile("/proc/self/status");
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_THAT(*status, HasSubstr("Pid:"));
}

TEST(PosixFileSystem, ReadRangeNamesATornFile) {
  const TempDir dir;
  ASSERT_TRUE(WriteFileDurably(Fs(), dir / "x", "0123456789").ok());
  char bytes[8] = {};
  EXPECT_TRUE(Fs()->ReadRange(dir / "x", 2, 8, bytes).ok());
  EXPECT_EQ(std::string(bytes, 8), "23456789");
  const Status torn = Fs()->ReadRange(dir / "x", 5, 8, bytes);
  EXPECT_EQ(torn.code(), StatusCode::kCorruption);
  EXPECT_THAT(torn.message(), HasSubstr(dir / "x"));
  EXPECT_THAT(torn.message(), HasSubstr("ends at byte 10"));
}

TEST(PosixFileSystem, ErrorsHaveCodesAndNameThePath) {
  const TempDir dir;
  ASSERT_TRUE(WriteFileDurably(Fs(), dir / "x", "text").ok());
  const auto expect = [](const Status& status, StatusCode code, const std::string& path) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(status.message(), HasSubstr(path));
  };
  expect(Fs()->ReadFile(dir / "gone").status(), StatusCode::kNotFound, dir / "gone");
  expect(Fs()->ListDir(dir / "gone").status(), StatusCode::kNotFound, dir / "gone");
  expect(Fs()->FileSize(dir / "gone").status(), StatusCode::kNotFound, dir / "gone");
  expect(Fs()->Remove(dir / "gone"), StatusCode::kNotFound, dir / "gone");
  expect(Fs()->Rename(dir / "gone", dir / "y"), StatusCode::kNotFound, dir / "gone");
  expect(Fs()->SyncDir(dir / "gone"), StatusCode::kNotFound, dir / "gone");
  expect(Fs()->ReadFile(dir / "x/y").status(), StatusCode::kNotFound, dir / "x/y");
  expect(Fs()->CreateExclusive(dir / "gone/y").status(), StatusCode::kNotFound, dir / "gone/y");
  expect(Fs()->CreateExclusive(dir / "x").status(), StatusCode::kAlreadyExists, dir / "x");
  expect(Fs()->Link(dir / "x", dir / "x"), StatusCode::kAlreadyExists, dir / "x");
  expect(Fs()->ReadFile(dir.path()).status(), StatusCode::kInvalidArgument, dir.path());
  expect(Fs()->ReadFile(dir / std::string(300, 'n')).status(), StatusCode::kInvalidArgument, "nnn");
  expect(Fs()->MakeDirs(dir / "x/y"), StatusCode::kNotFound, dir / "x/y");
}

TEST(PosixFileSystem, UnreadableFileAndDirectory) {
  const TempDir dir;
  ASSERT_TRUE(WriteFileDurably(Fs(), dir / "x", "secret").ok());
  ASSERT_TRUE(Fs()->MakeDirs(dir / "closed").ok());
  std::filesystem::permissions(dir.path(), std::filesystem::perms(0755));
  std::filesystem::permissions(dir / "x", std::filesystem::perms::none);
  std::filesystem::permissions(dir / "closed", std::filesystem::perms::none);
  // Root may read anything, so the child becomes somebody else.
  const int code = InChild([&dir] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) return 10;
    const Status file = Fs()->ReadFile(dir / "x").status();
    const Status list = Fs()->ListDir(dir / "closed").status();
    const Status create = Fs()->CreateExclusive(dir / "closed/y").status();
    if (file.code() != StatusCode::kInvalidArgument) return 1;
    if (file.message().find("Permission denied") == std::string::npos) return 2;
    if (list.code() != StatusCode::kInvalidArgument) return 3;
    return create.code() == StatusCode::kInvalidArgument ? 0 : 4;
  });
  EXPECT_EQ(code, 0);
  std::filesystem::permissions(dir / "closed", std::filesystem::perms(0755));
}

TEST(WriteFileDurably, ReplacesTheWholeFile) {
  const TempDir dir;
  ASSERT_TRUE(WriteFileDurably(Fs(), dir / "x", "a long first text").ok());
  ASSERT_TRUE(WriteFileDurably(Fs(), dir / "x.tmp", "left by a crash").ok());
  ASSERT_TRUE(WriteFileDurably(Fs(), dir / "x", "short").ok());
  EXPECT_EQ(*Fs()->ReadFile(dir / "x"), "short");
  EXPECT_THAT(*Fs()->ListDir(dir.path()), ElementsAre("x"));
  const Status missing = WriteFileDurably(Fs(), dir / "gone/x", "text");
  EXPECT_EQ(missing.code(), StatusCode::kNotFound);
}

TEST(WriteFileDurably, AFailedWriteKeepsTheOldFile) {
  const TempDir dir;
  ASSERT_TRUE(WriteFileDurably(Fs(), dir / "x", "old").ok());
  const int code = InChild([&dir] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1000, 1000};  // a disk with room for 1000 bytes
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const Status status = WriteFileDurably(Fs(), dir / "x", std::string(5000, 'n'));
    return status.ok() ? 1 : 0;
  });
  EXPECT_EQ(code, 0);
  EXPECT_EQ(*Fs()->ReadFile(dir / "x"), "old");
  EXPECT_THAT(*Fs()->ListDir(dir.path()), ElementsAre("x")) << "half a file is left behind";
}

// Records the order of the calls that durability rests on.
class RecordingFileSystem : public FileSystem {
 public:
  class File : public WritableFile {
   public:
    File(std::unique_ptr<WritableFile> base, std::vector<std::string>* calls)
        : base_(std::move(base)), calls_(calls) {}
    Status Append(std::string_view bytes) override {
      calls_->push_back("append");
      return base_->Append(bytes);
    }
    Status Truncate(uint64_t size) override { return base_->Truncate(size); }
    Status Sync() override {
      calls_->push_back("sync");
      return base_->Sync();
    }
    Status Close() override {
      calls_->push_back("close");
      return base_->Close();
    }

   private:
    std::unique_ptr<WritableFile> base_;
    std::vector<std::string>* calls_;
  };

  StatusOr<std::unique_ptr<WritableFile>> CreateExclusive(const std::string& path) override {
    WEFT_ASSIGN_OR_RETURN(auto file, Fs()->CreateExclusive(path));
    calls.push_back("create");
    return std::unique_ptr<WritableFile>(std::make_unique<File>(std::move(file), &calls));
  }
  StatusOr<std::unique_ptr<WritableFile>> OpenAppend(const std::string& path) override {
    return Fs()->OpenAppend(path);
  }
  StatusOr<std::string> ReadFile(const std::string& path) override { return Fs()->ReadFile(path); }
  Status ReadRange(const std::string& path, uint64_t offset, size_t size, void* out) override {
    return Fs()->ReadRange(path, offset, size, out);
  }
  StatusOr<uint64_t> FileSize(const std::string& path) override { return Fs()->FileSize(path); }
  bool Exists(const std::string& path) override { return Fs()->Exists(path); }
  StatusOr<std::vector<std::string>> ListDir(const std::string& path) override {
    return Fs()->ListDir(path);
  }
  Status MakeDirs(const std::string& path) override { return Fs()->MakeDirs(path); }
  Status Rename(const std::string& from, const std::string& to) override {
    calls.push_back("rename");
    return Fs()->Rename(from, to);
  }
  Status Link(const std::string& from, const std::string& to) override {
    return Fs()->Link(from, to);
  }
  Status Remove(const std::string& path) override { return Fs()->Remove(path); }
  Status RemoveTree(const std::string& path) override { return Fs()->RemoveTree(path); }
  Status SyncDir(const std::string& path) override {
    calls.push_back("syncdir " + path);
    return Fs()->SyncDir(path);
  }

  std::vector<std::string> calls;
};

TEST(WriteFileDurably, SyncsBytesBeforeTheNameAndTheDirectoryAfter) {
  const TempDir dir;
  RecordingFileSystem fs;
  ASSERT_TRUE(WriteFileDurably(&fs, dir / "x", "text").ok());
  EXPECT_THAT(fs.calls,
              ElementsAre("create", "append", "sync", "close", "rename", "syncdir " + dir.path()));
}

TEST(Paths, JoinAndParent) {
  EXPECT_EQ(JoinPath("a/b", "c"), "a/b/c");
  EXPECT_EQ(JoinPath("a/b/", "c"), "a/b/c");
  EXPECT_EQ(JoinPath("", "c"), "c");
  EXPECT_EQ(ParentPath("a/b/c"), "a/b");
  EXPECT_EQ(ParentPath("c"), ".");
  EXPECT_EQ(ParentPath("/c"), "/");
}

TEST(FileLock, OneHolderAtATime) {
  const TempDir dir;
  auto lock = FileLock::TryAcquire(dir / "lock");
  ASSERT_TRUE(lock.ok()) << lock.status();
  ASSERT_TRUE((*lock)->SetOwner("pid 1234567 on host n5 since noon, and a long tail").ok());
  ASSERT_TRUE((*lock)->SetOwner("pid 42 on host n5").ok());
  const auto second = FileLock::TryAcquire(dir / "lock");
  EXPECT_EQ(second.status().code(), StatusCode::kAlreadyExists);
  EXPECT_EQ(second.status().message(), dir / "lock" + " is held by pid 42 on host n5");
  lock->reset();
  EXPECT_TRUE(FileLock::TryAcquire(dir / "lock").ok());
}

TEST(FileLock, HoldsAgainstAnotherProcessUntilItDies) {
  const TempDir dir;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t holder = ::fork();
  if (holder == 0) {
    const auto lock = FileLock::TryAcquire(dir / "lock");
    const char answer = lock.ok() && (*lock)->SetOwner("the child").ok() ? 'y' : 'n';
    (void)!::write(ready[1], &answer, 1);
    ::pause();
    ::_exit(0);
  }
  char answer = 0;
  ASSERT_EQ(::read(ready[0], &answer, 1), 1);
  ASSERT_EQ(answer, 'y');
  const auto refused = FileLock::TryAcquire(dir / "lock");
  EXPECT_EQ(refused.status().code(), StatusCode::kAlreadyExists);
  EXPECT_THAT(refused.status().message(), HasSubstr("the child"));
  ::kill(holder, SIGKILL);
  ::waitpid(holder, nullptr, 0);
  EXPECT_TRUE(FileLock::TryAcquire(dir / "lock").ok());
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(FileLock, UnreachablePath) {
  const TempDir dir;
  EXPECT_EQ(FileLock::TryAcquire(dir / "gone/lock").status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace weft

#include "tests/fuzz/fuzz_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "cluster/base/logging.h"

namespace weft {

FuzzFolder::FuzzFolder() {
  for (const char* base : {"/dev/shm", "/tmp"}) {
    path_ = std::string(base) + "/weft-fuzz-XXXXXX";
    if (::mkdtemp(path_.data()) != nullptr) return;
  }
  WEFT_CHECK(false) << "no folder for temporary files in /dev/shm and /tmp";
}

FuzzFolder::~FuzzFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string FuzzFolder::Write(const std::string& name, std::string_view bytes) const {
  std::string path = Path(name);
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  WEFT_CHECK(fd >= 0) << path;
  WEFT_CHECK(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  ::close(fd);
  return path;
}

}  // namespace weft

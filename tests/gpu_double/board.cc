#include "tests/gpu_double/board.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <new>

#include "cluster/base/logging.h"
#include "cluster/base/mutex.h"

namespace weft::testing {
namespace {

struct FamilyId {
  int64_t pid;
  int64_t fd;
  int64_t number;
};

struct Mappings {
  Mutex mutex;
  int64_t made = 0;
  std::map<std::string, std::weak_ptr<Family>> families;  // by the id's bytes
};

Mappings& All() {
  static Mappings mappings;
  return mappings;
}

FamilyId Parse(const ncclUniqueId& id) {
  FamilyId family;
  std::memcpy(&family, id.internal, sizeof(family));
  return family;
}

}  // namespace

const char* CallName(CallKind kind) {
  constexpr const char* kNames[] = {"nothing", "ncclAllReduce", "ncclAllGather",
                                    "ncclReduceScatter", "ncclBroadcast"};
  return kNames[static_cast<int>(kind)];
}

ncclUniqueId MakeFamily() {
  const int fd = memfd_create("weft-nccl-double", MFD_CLOEXEC);
  WEFT_CHECK(fd >= 0 && ftruncate(fd, sizeof(Family)) == 0) << std::strerror(errno);
  FamilyId family{.pid = getpid(), .fd = fd};
  {
    MutexLock lock(All().mutex);
    family.number = ++All().made;
  }
  ncclUniqueId id{};
  std::memcpy(id.internal, &family, sizeof(family));
  return id;
}

std::shared_ptr<Family> OpenFamily(const ncclUniqueId& id) {
  MutexLock lock(All().mutex);
  std::weak_ptr<Family>& known = All().families[std::string(id.internal, sizeof(id.internal))];
  if (std::shared_ptr<Family> family = known.lock()) return family;
  const FamilyId parsed = Parse(id);
  const std::string path =
      "/proc/" + std::to_string(parsed.pid) + "/fd/" + std::to_string(parsed.fd);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  // A new segment is zero, and so are all counters.
  void* memory = mmap(nullptr, sizeof(Family), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  WEFT_CHECK(memory != MAP_FAILED) << std::strerror(errno);
  std::shared_ptr<Family> family(static_cast<Family*>(memory),
                                 [](Family* f) { munmap(f, sizeof(Family)); });
  known = family;
  return family;
}

void CloseFamilyFile(const ncclUniqueId& id) {
  const FamilyId parsed = Parse(id);
  if (parsed.pid == getpid()) close(static_cast<int>(parsed.fd));
}

}  // namespace weft::testing

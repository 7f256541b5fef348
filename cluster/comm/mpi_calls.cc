#include "cluster/comm/mpi_calls.h"

#include <dlfcn.h>

#include <algorithm>

namespace weft::mpi {
namespace {

constexpr char kLibrary[] = "libmpi.so.40";
// Of one message: MPI counts in int.
constexpr size_t kPieceBytes = size_t{1} << 30;

// Looks up symbols; remembers the first that is missing.
class Finder {
 public:
  explicit Finder(void* library) : library_(library) {}

  template <typename Function>
  void Find(const char* name, Function* function) {
    *function = reinterpret_cast<Function>(Address(name));
  }
  // MPI_BYTE and the like are addresses of objects in the library.
  template <typename Handle>
  void FindObject(const char* name, Handle* handle) {
    *handle = static_cast<Handle>(Address(name));
  }
  const std::string& missing() const { return missing_; }

 private:
  void* Address(const char* name) {
    void* address = dlsym(library_, name);
    if (address == nullptr && missing_.empty()) missing_ = name;
    return address;
  }

  void* const library_;
  std::string missing_;
};

void FindFunctions(Finder* finder, Calls* calls) {
  finder->Find("MPI_Init_thread", &calls->init_thread);
  finder->Find("MPI_Initialized", &calls->initialized);
  finder->Find("MPI_Finalize", &calls->finalize);
  finder->Find("MPI_Comm_size", &calls->comm_size);
  finder->Find("MPI_Comm_split", &calls->comm_split);
  finder->Find("MPI_Comm_set_errhandler", &calls->comm_set_errhandler);
  finder->Find("MPI_Error_string", &calls->error_string);
  finder->Find("MPI_Isend", &calls->isend);
  finder->Find("MPI_Irecv", &calls->irecv);
  finder->Find("MPI_Test", &calls->test);
  finder->Find("MPI_Cancel", &calls->cancel);
  finder->Find("MPI_Get_count", &calls->get_count);
  finder->Find("MPI_Ibcast", &calls->ibcast);
  finder->Find("MPI_Iallgather", &calls->iallgather);
  finder->Find("MPI_Iallgatherv", &calls->iallgatherv);
  finder->Find("MPI_Iallreduce", &calls->iallreduce);
  finder->Find("MPI_Ireduce_scatter_block", &calls->ireduce_scatter_block);
}

void FindObjects(Finder* finder, Calls* calls) {
  finder->FindObject("ompi_mpi_comm_world", &calls->world);
  finder->FindObject("ompi_mpi_byte", &calls->byte);
  finder->FindObject("ompi_mpi_int64_t", &calls->int64);
  finder->FindObject("ompi_mpi_uint8_t", &calls->uint8);
  finder->FindObject("ompi_mpi_op_sum", &calls->sum);
  finder->FindObject("ompi_mpi_op_max", &calls->max);
  finder->FindObject("ompi_request_null", &calls->no_request);
  finder->FindObject("ompi_mpi_errors_return", &calls->errors_return);
}

}  // namespace

StatusOr<Calls> Calls::Load() {
  // Global: OpenMPI's own plugins look for its symbols. Never closed: MPI cannot be unloaded.
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    return InvalidArgument(std::string("layout.backend MPI needs OpenMPI: ") + dlerror() +
                           "; install it (Debian: openmpi-bin), or put the folder of the site's " +
                           kLibrary + " into LD_LIBRARY_PATH");
  }
  Calls calls;
  Finder finder(library);
  FindFunctions(&finder, &calls);
  FindObjects(&finder, &calls);
  if (!finder.missing().empty())
    return InvalidArgument(std::string(kLibrary) + " is no OpenMPI that fits: it has no " +
                           finder.missing());
  return calls;
}

Status Calls::From(int result, const std::string& what) const {
  if (result == MPI_SUCCESS) return OkStatus();
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  error_string(result, text, &length);
  return Internal(what + ": " + text);
}

Status Requests::Send(int peer, const void* data, size_t bytes, Tag tag) {
  const auto* from = static_cast<const std::byte*>(data);
  do {  // once for no bytes at all
    const size_t piece = std::min(bytes, kPieceBytes);
    MPI_Request request = calls_->no_request;
    const int result =
        calls_->isend(from, static_cast<int>(piece), calls_->byte, peer, tag, comm_, &request);
    WEFT_RETURN_IF_ERROR(calls_->From(result, "MPI_Isend"));
    pending_.push_back({.request = request, .peer = peer});
    from += piece;
    bytes -= piece;
  } while (bytes > 0);
  return OkStatus();
}

Status Requests::Receive(int peer, void* data, size_t bytes, Tag tag) {
  auto* to = static_cast<std::byte*>(data);
  do {
    const size_t piece = std::min(bytes, kPieceBytes);
    MPI_Request request = calls_->no_request;
    const int result =
        calls_->irecv(to, static_cast<int>(piece), calls_->byte, peer, tag, comm_, &request);
    WEFT_RETURN_IF_ERROR(calls_->From(result, "MPI_Irecv"));
    pending_.push_back({.request = request, .peer = peer, .expected = static_cast<int>(piece)});
    to += piece;
    bytes -= piece;
  } while (bytes > 0);
  return OkStatus();
}

Status Requests::Add(int result, MPI_Request request, const std::string& what) {
  WEFT_RETURN_IF_ERROR(calls_->From(result, what));
  pending_.push_back({.request = request});
  return OkStatus();
}

StatusOr<bool> Requests::Test() {
  while (!pending_.empty()) {
    Pending& next = pending_.back();
    int done = 0;
    MPI_Status status;
    const int result = calls_->test(&next.request, &done, &status);
    WEFT_RETURN_IF_ERROR(calls_->From(result, "MPI_Test"));
    if (done == 0) return false;
    int got = next.expected;
    if (next.expected >= 0) calls_->get_count(&status, calls_->byte, &got);
    if (got != next.expected) {
      return FailedPrecondition("member " + std::to_string(next.peer) + " sent " +
                                std::to_string(got) + " bytes where " +
                                std::to_string(next.expected) + " were expected");
    }
    pending_.pop_back();
  }
  return true;
}

}  // namespace weft::mpi

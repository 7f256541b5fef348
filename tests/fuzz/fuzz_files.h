// Files for fuzz targets: the code under test opens paths.
//
// Thread rule: one thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace weft {

// A folder in memory (/dev/shm, else /tmp) that the process removes when it ends.
class FuzzFolder {
 public:
  FuzzFolder();
  ~FuzzFolder();
  FuzzFolder(const FuzzFolder&) = delete;
  FuzzFolder& operator=(const FuzzFolder&) = delete;

  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  // Replaces the file's bytes; its path.
  std::string Write(const std::string& name, std::string_view bytes) const;

 private:
  std::string path_;
};

inline std::string_view AsText(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace weft

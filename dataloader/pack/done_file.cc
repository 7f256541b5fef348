#include "dataloader/pack/done_file.h"

#include "cluster/base/file_system.h"

namespace weft {

StatusOr<nlohmann::ordered_json> ReadDoneFile(const std::string& dir,
                                              const nlohmann::ordered_json& options) {
  const std::string path = JoinPath(dir, "_done");
  WEFT_ASSIGN_OR_RETURN(const std::string text, PosixFileSystem()->ReadFile(path));
  try {
    nlohmann::ordered_json done = nlohmann::ordered_json::parse(text);
    if (done.at("options") != options) return NotFound("other options");
    for (const auto& [file, size] : done.at("files").items()) {
      WEFT_ASSIGN_OR_RETURN(const uint64_t now, PosixFileSystem()->FileSize(JoinPath(dir, file)));
      if (size != now) return NotFound(file + " has changed");
    }
    return done;
  } catch (const nlohmann::json::exception& error) {
    return NotFound(path + ": " + error.what());
  }
}

}  // namespace weft

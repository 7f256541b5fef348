// Figures of a test as build/reports/NAME.json, if the environment asks for them: WEFT_REPORTS=DIR (`make bench-loader`). With
// it a test may take longer and measure more.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "cluster/base/file_system.h"

namespace weft::testing {

inline bool WantsReports() { return std::getenv("WEFT_REPORTS") != nullptr; }

inline void WriteReport(const std::string& name, const nlohmann::ordered_json& figures) {
  if (!WantsReports()) return;
  const std::string folder = std::getenv("WEFT_REPORTS");
  const std::string text = figures.dump(1) + "\n";
  std::printf("%s.json: %s", name.c_str(), text.c_str());
  EXPECT_TRUE(PosixFileSystem()->MakeDirs(folder).ok());
  EXPECT_TRUE(WriteFileDurably(PosixFileSystem(), folder + "/" + name + ".json", text).ok());
}

}  // namespace weft::testing

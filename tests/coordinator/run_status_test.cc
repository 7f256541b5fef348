#include "coordinator/run_status.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace weft {
namespace {

RunStatus MakeStatus() {
  RunStatus status;
  status.name = "clip-demo";
  status.run_dir = "/runs/a";
  status.phase = "running";
  status.reason = "training";
  status.step = 33;
  status.steps = 100;
  status.loss = 2.5;
  status.members.push_back({1, "n5", 77, "training", 33, "all_to_all grads.0 #812", 0.25});
  status.checkpoints.push_back({30, "MANIFEST-000030.E1.G1.A3", 2048, 12});
  status.recoveries.push_back({"rank 1 was killed", 10, 1.9});
  return status;
}

TEST(RunStatusTest, JsonHoldsAll) {
  const auto json = nlohmann::json::parse(ToJson(MakeStatus()));
  EXPECT_EQ(json.at("step"), 33);
  EXPECT_EQ(json.at("members").at(0).at("operation"), "all_to_all grads.0 #812");
  EXPECT_EQ(json.at("checkpoints").at(0).at("bytes"), 2048);
  EXPECT_EQ(json.at("recoveries").at(0).at("from_step"), 10);
}

TEST(RunStatusTest, TheTableIsForPeople) {
  const std::string table = StatusTable(ToJson(MakeStatus()));
  EXPECT_NE(table.find("clip-demo (/runs/a)"), std::string::npos) << table;
  EXPECT_NE(table.find("33 of 100, loss 2.5000"), std::string::npos) << table;
  EXPECT_NE(table.find("all_to_all grads.0 #812"), std::string::npos) << table;
  EXPECT_NE(table.find("rank 1 was killed; from step 10"), std::string::npos) << table;
}

TEST(RunStatusTest, WhatIsNoStatusGivesNoTable) {
  EXPECT_EQ(StatusTable("no json"), "");
  EXPECT_EQ(StatusTable("{\"step\": 1}"), "");
}

}  // namespace
}  // namespace weft

#include "coordinator/run_status.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "cluster/base/text.h"

namespace weft {
namespace {

using Json = nlohmann::ordered_json;

template <typename... Args>
std::string Format(const char* format, Args... args) {
  char text[512];
  std::snprintf(text, sizeof text, format, args...);
  return text;
}

std::string HeadTable(const Json& json) {
  std::string out;
  out += "run         " + json.at("name").get<std::string>() + " (" +
         json.at("run_dir").get<std::string>() + ")\n";
  out += "state       " + json.at("phase").get<std::string>() + ": " +
         json.at("reason").get<std::string>() + "\n";
  out += Format("step        %lld of %lld", json.at("step").get<long long>(),
                json.at("steps").get<long long>());
  if (json.at("loss").is_number()) out += Format(", loss %.4f", json.at("loss").get<double>());
  out += Format(", %.0f samples/s, ETA ", json.at("images_per_s").get<double>()) +
         HumanSeconds(json.at("eta_s").get<double>()) + "\n";
  const Json& waiting = json.at("waiting");
  const std::string bottleneck = waiting.value("data_bottleneck", "");
  const std::string why = bottleneck.empty() ? "" : " (" + bottleneck + ")";
  out += Format("waiting     data %.0f%%%s, peers %.0f%%, checkpoints %.0f%%\n",
                100 * waiting.at("data").get<double>(), why.c_str(),
                100 * waiting.at("peers").get<double>(),
                100 * waiting.at("checkpoints").get<double>());
  out += Format("generation  E%llu.G%llu, coordinator pid %lld\n",
                json.at("epoch").get<unsigned long long>(),
                json.at("generation").get<unsigned long long>(), json.at("pid").get<long long>());
  return out;
}

std::string Table(const Json& json) {
  std::string out = HeadTable(json);
  out += "\nrank  host              pid      phase       step      last progress\n";
  for (const Json& m : json.at("members")) {
    out += Format("%-5d %-17s %-8lld %-11s %-9lld ", m.at("rank").get<int>(),
                  m.at("host").get<std::string>().c_str(), m.at("pid").get<long long>(),
                  m.at("phase").get<std::string>().c_str(), m.at("step").get<long long>()) +
           HumanSeconds(m.at("stood_still_s").get<double>()) + " ago  " +
           m.at("operation").get<std::string>() + "\n";
  }
  out += "\ncheckpoints\n";
  for (const Json& c : json.at("checkpoints")) {
    out += Format("  step %-8lld %s, ", c.at("step").get<long long>(),
                  HumanBytes(c.at("bytes").get<double>()).c_str()) +
           HumanSeconds(c.at("age_s").get<double>()) + " ago, " +
           c.at("manifest").get<std::string>() + "\n";
  }
  if (json.at("checkpoints").empty()) out += "  none yet\n";
  if (!json.at("recoveries").empty()) out += "\nrecoveries\n";
  for (const Json& r : json.at("recoveries")) {
    out += "  " + r.at("verdict").get<std::string>() +
           Format("; from step %lld in ", r.at("from_step").get<long long>()) +
           HumanSeconds(r.at("seconds").get<double>()) + "\n";
  }
  return out;
}

}  // namespace

std::string ToJson(const RunStatus& s) {
  Json json = {{"name", s.name},
               {"run_dir", s.run_dir},
               {"pid", s.pid},
               {"epoch", s.epoch},
               {"generation", s.generation},
               {"phase", s.phase},
               {"reason", s.reason},
               {"step", s.step},
               {"steps", s.steps},
               {"loss", s.loss},
               {"images_per_s", s.images_per_s},
               {"waiting",
                {{"data", s.data_wait},
                 {"data_bottleneck", s.data_bottleneck},
                 {"peers", s.peer_wait},
                 {"checkpoints", s.save_wait}}},
               {"eta_s", s.eta_s},
               {"stale_frames", s.stale_frames},
               {"members", Json::array()},
               {"checkpoints", Json::array()},
               {"recoveries", Json::array()}};
  for (const MemberStatus& m : s.members) {
    json["members"].push_back({{"rank", m.rank},
                               {"host", m.host},
                               {"pid", m.pid},
                               {"phase", m.phase},
                               {"step", m.step},
                               {"operation", m.operation},
                               {"stood_still_s", m.stood_still_s}});
  }
  for (const CheckpointStatus& c : s.checkpoints) {
    json["checkpoints"].push_back(
        {{"step", c.step}, {"manifest", c.manifest}, {"bytes", c.bytes}, {"age_s", c.age_s}});
  }
  for (const RecoveryStatus& r : s.recoveries) {
    json["recoveries"].push_back(
        {{"verdict", r.verdict}, {"from_step", r.from_step}, {"seconds", r.seconds}});
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace);
}

std::string StatusTable(const std::string& text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return "";
  try {
    return Table(json);
  } catch (const Json::exception&) {  // another version's coordinator
    return "";
  }
}

}  // namespace weft

#include "coordinator/console.h"

#include <algorithm>

#include "cluster/base/text.h"

namespace weft {
namespace {

constexpr size_t kWindowSteps = 50;
constexpr auto kLivePeriod = std::chrono::milliseconds(100);
constexpr auto kPlainPeriod = std::chrono::seconds(10);
// Below it nobody needs to know what data waits for.
constexpr double kNoticedWait = 0.05;
constexpr char kClearLine[] = "\r\033[K";

template <typename Field>
double Sum(const std::deque<ThroughputWindow::Step>& steps, Field field) {
  double sum = 0;
  for (const ThroughputWindow::Step& step : steps) sum += step.*field;
  return sum;
}

template <typename Field>
double Share(const std::deque<ThroughputWindow::Step>& steps, Field field) {
  const double seconds = Sum(steps, &ThroughputWindow::Step::seconds);
  return seconds > 0 ? std::min(1.0, Sum(steps, field) / seconds) : 0;
}

double MetricOf(const control::StepRecord& record, const std::string& name) {
  for (const control::Metric& metric : record.metrics()) {
    if (metric.name() == name) return metric.value();
  }
  return 0;
}

}  // namespace

void ThroughputWindow::Add(const control::StepRecord& r) {
  steps.push_back({r.seconds(), static_cast<double>(r.samples()), r.data_wait_s(), r.peer_wait_s(),
                   r.save_wait_s(), MetricOf(r, "data_decode_s"), MetricOf(r, "data_read_s"),
                   MetricOf(r, "data_core_wait_s")});
  if (steps.size() > kWindowSteps) steps.pop_front();
}

double ThroughputWindow::StepSeconds() const {
  return steps.empty() ? 0 : Sum(steps, &Step::seconds) / static_cast<double>(steps.size());
}

double ThroughputWindow::SamplesPerSecond() const {
  return Share(steps, &Step::seconds) > 0 ? Sum(steps, &Step::samples) / Sum(steps, &Step::seconds)
                                          : 0;
}

double ThroughputWindow::DataWait() const { return Share(steps, &Step::data); }
double ThroughputWindow::PeerWait() const { return Share(steps, &Step::peer); }
double ThroughputWindow::SaveWait() const { return Share(steps, &Step::save); }

std::string ThroughputWindow::DataBottleneck() const {
  if (DataWait() < kNoticedWait) return "";
  const double decode = Sum(steps, &Step::decode);
  const double read = Sum(steps, &Step::read);
  const double cores = Sum(steps, &Step::core_wait);
  if (decode + read + cores <= 0) return "";
  if (read > std::max(decode, cores)) return "read";
  return cores > decode ? "cores" : "decode";
}

std::string StepLine(int64_t step, int64_t num_steps, double loss, const ThroughputWindow& window) {
  const std::string bottleneck = window.DataBottleneck();
  const std::string why = bottleneck.empty() ? "" : " (" + bottleneck + ")";
  char text[256];
  std::snprintf(text, sizeof text,
                "step %lld/%lld  loss %.4f  %.0f samples/s  waiting: data %.0f%%%s, peers %.0f%%, "
                "checkpoints %.0f%%",
                static_cast<long long>(step), static_cast<long long>(num_steps), loss,
                window.SamplesPerSecond(), 100 * window.DataWait(), why.c_str(),
                100 * window.PeerWait(), 100 * window.SaveWait());
  std::string line = text;
  const int64_t left = std::max<int64_t>(0, num_steps - step);
  if (left > 0) line += "  ETA " + HumanSeconds(static_cast<double>(left) * window.StepSeconds());
  return line;
}

void Console::OnStep(TimePoint now, const control::StepRecord& record) {
  window_.Add(record);
  const bool last = record.step() >= num_steps_;
  const auto period = live_ ? Duration(kLivePeriod) : Duration(kPlainPeriod);
  if (any_shown_ && !last && now - last_shown_ < period) return;
  any_shown_ = true;
  last_shown_ = now;
  line_ = StepLine(record.step(), num_steps_, record.loss(), window_);
  if (live_) {
    std::fprintf(out_, "%s%s", kClearLine, line_.c_str());
  } else {
    std::fprintf(out_, "%s\n", line_.c_str());
    line_.clear();
  }
  std::fflush(out_);
}

void Console::Say(const std::string& text) {
  if (live_ && !line_.empty()) std::fputs(kClearLine, out_);
  std::fprintf(out_, "%s\n", text.c_str());
  if (live_ && !line_.empty()) std::fputs(line_.c_str(), out_);
  std::fflush(out_);
}

void Console::Finish() {
  if (live_ && !line_.empty()) std::fputs("\n", out_);
  line_.clear();
  std::fflush(out_);
}

}  // namespace weft

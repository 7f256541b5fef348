#include "coordinator/hang_inquiry.h"

#include "cluster/base/text.h"

namespace weft {
namespace {

constexpr Duration kPatience = std::chrono::seconds(1);

bool HasEnded(const control::FlightOperation& operation) {
  return operation.state() == control::FlightOperation::DONE ||
         operation.state() == control::FlightOperation::FAILED;
}

std::string Describe(const control::FlightOperation& operation) {
  std::string text = (operation.axis().empty() ? "" : operation.axis() + " ") + "#" +
                     std::to_string(operation.sequence()) + " " + operation.operation() + " (" +
                     HumanBytes(static_cast<double>(operation.bytes())) + "), ";
  const std::string seconds = HumanSeconds(operation.seconds());
  switch (operation.state()) {
    case control::FlightOperation::ENQUEUED:
      return text + "in the queue for " + seconds;
    case control::FlightOperation::STARTED:
      return text + "running for " + seconds;
    default:
      break;
  }
  text += operation.state() == control::FlightOperation::DONE ? "done after " : "failed after ";
  return text + seconds + ", " + HumanSeconds(operation.ago_s()) + " ago";
}

}  // namespace

void HangInquiry::Reset(int world_size) {
  world_size_ = world_size;
  asked_ = false;
  dumps_.clear();
}

HangInquiry::Next HangInquiry::OnVerdict(TimePoint now) {
  if (!asked_) {
    asked_ = true;
    asked_at_ = now;
    return Next::kAsk;
  }
  const bool all = static_cast<int>(dumps_.size()) == world_size_;
  return all || now - asked_at_ >= kPatience ? Next::kDecide : Next::kWait;
}

void HangInquiry::OnDump(int rank, const control::FlightDump& dump) {
  if (asked_ && rank >= 0 && rank < world_size_) dumps_[rank] = dump;
}

std::string HangInquiry::Report() const {
  std::string text;
  for (int rank = 0; rank < world_size_; ++rank) {
    const auto dump = dumps_.find(rank);
    text += "rank " + std::to_string(rank) + ":\n";
    if (dump == dumps_.end()) {
      text += "  no answer within " + HumanSeconds(ToSeconds(kPatience)) + "\n";
    } else if (dump->second.operations().empty()) {
      text += "  no operations\n";
    } else {
      for (const auto& operation : dump->second.operations())
        text += "  " + Describe(operation) + "\n";
    }
  }
  return text;
}

std::string HangInquiry::LastOperation(int rank) const {
  const auto dump = dumps_.find(rank);
  if (dump == dumps_.end() || dump->second.operations().empty()) return "";
  for (const auto& operation : dump->second.operations()) {
    if (!HasEnded(operation)) return Describe(operation);
  }
  return Describe(*dump->second.operations().rbegin());
}

}  // namespace weft

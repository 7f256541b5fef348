#include "cli/report_html.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "cluster/base/hash.h"
#include "cluster/base/text.h"

namespace weft {
namespace {

constexpr char kStyle[] = R"(
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f6f7f9;color:#1c2330}
main{max-width:1080px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:28px;margin:0 0 4px}h2{font-size:20px;margin:40px 0 12px}
.sub{color:#5a6472;margin:0 0 24px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}
.card,.panel{background:#fff;border:1px solid #e1e5ea;border-radius:10px;padding:14px 16px}
.card b{display:block;font-size:24px}.card span{color:#5a6472;font-size:13px}
table{border-collapse:collapse;background:#fff;border:1px solid #e1e5ea;border-radius:10px;width:100%}
th,td{padding:8px 14px;text-align:right;border-top:1px solid #edf0f3}th{border:0;color:#5a6472;font-weight:500;font-size:13px}
th:first-child,td:first-child{text-align:left}
.query{display:flex;gap:16px;align-items:center;background:#fff;border:1px solid #e1e5ea;border-radius:10px;padding:10px 14px;margin:8px 0}
.query p{flex:0 0 240px;margin:0;overflow-wrap:anywhere}.query small{color:#5a6472;display:block}
.top{display:flex;gap:8px;flex-wrap:wrap}
.top img{width:88px;height:88px;object-fit:contain;border:3px solid #e1e5ea;border-radius:8px;background:#fff}
.top img.hit{border-color:#1b8a4b}
ol.events{padding-left:20px}ol.events li{margin:4px 0}.lost{color:#b3261e}
)";

std::string EscapeHtml(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string Base64(std::string_view bytes) {
  static const char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = (group << 8) | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0);
    }
    for (size_t j = 0; j < 4; ++j) {
      text += i + j <= bytes.size() ? kDigits[(group >> (18 - 6 * j)) & 63] : '=';
    }
  }
  return text;
}

const char* MimeType(std::string_view bytes) {
  if (bytes.substr(0, 4) == "\x89PNG") return "image/png";
  if (bytes.substr(0, 4) == "RIFF") return "image/webp";
  return "image/jpeg";
}

std::string Fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string Percent(double fraction) { return Fixed(100 * fraction, 1) + " %"; }

std::string Card(const std::string& value, const std::string& label) {
  return "<div class=card><b>" + EscapeHtml(value) + "</b><span>" + EscapeHtml(label) +
         "</span></div>";
}

std::string RecallRow(const std::string& name, const RecallTriple& recall) {
  return "<tr><td>" + name + "</td><td>" + Percent(recall.r1) + "</td><td>" + Percent(recall.r5) +
         "</td><td>" + Percent(recall.r10) + "</td></tr>";
}

std::string RecallTable(const RetrievalResult& retrieval) {
  const auto n = static_cast<double>(std::max<int64_t>(retrieval.pairs, 1));
  const double mean10 = (retrieval.image_to_text.r10 + retrieval.text_to_image.r10) / 2;
  return "<table><tr><th>" + std::to_string(retrieval.pairs) +
         " held-out pairs<th>recall@1<th>recall@5<th>recall@10</tr>" +
         RecallRow("image &rarr; text", retrieval.image_to_text) +
         RecallRow("text &rarr; image", retrieval.text_to_image) +
         RecallRow("chance", {1 / n, std::min(1.0, 5 / n), std::min(1.0, 10 / n)}) +
         "</table><p class=sub>recall@10 is " + Fixed(mean10 * n / 10, 1) +
         " times chance (mean of both directions).</p>";
}

// The queries with the smallest hash of their index: a fixed, arbitrary choice.
std::vector<RetrievalQuery> PickQueries(std::vector<RetrievalQuery> queries, int count) {
  std::sort(queries.begin(), queries.end(), [](const RetrievalQuery& a, const RetrievalQuery& b) {
    return Mix64(static_cast<uint64_t>(a.index)) < Mix64(static_cast<uint64_t>(b.index));
  });
  if (queries.size() > static_cast<size_t>(count)) queries.resize(static_cast<size_t>(count));
  return queries;
}

std::string QueryRow(const RetrievalQuery& query,
                     const std::function<StatusOr<EvalSample>(int64_t)>& sample) {
  const StatusOr<EvalSample> caption = sample(query.index);
  if (!caption.ok()) return "";
  bool found = false;
  std::string images;
  for (const RankedImage& ranked : query.top) {
    const StatusOr<EvalSample> image = sample(ranked.index);
    if (!image.ok()) continue;
    const bool hit = ranked.index == query.index;
    found |= hit;
    images += std::string("<img ") + (hit ? "class=hit " : "") + "title=\"" +
              EscapeHtml(image->caption) + " (" + Fixed(ranked.score, 3) + ")\" alt=\"" +
              EscapeHtml(image->caption) + "\" src=\"data:" + MimeType(image->image_bytes) +
              ";base64," + Base64(image->image_bytes) + "\">";
  }
  return "<div class=query><p>" + EscapeHtml(caption->caption) + "<small>" +
         (found ? "its picture is among them" : "its picture is not among them") +
         "</small></p><div class=top>" + images + "</div></div>";
}

std::string EventList(const std::vector<RunEvent>& events) {
  if (events.empty()) return "";
  const double start = events.front().unix_time;
  std::string list = "<h2>What happened</h2><div class=panel><ol class=events>";
  for (const RunEvent& event : events) {
    list += std::string("<li") + (event.kind == "worker_lost" ? " class=lost" : "") + ">+" +
            HumanSeconds(event.unix_time - start) + " &mdash; " + EscapeHtml(event.text) + "</li>";
  }
  return list + "</ol></div>";
}

}  // namespace

std::string LossCurveSvg(const std::vector<StepPoint>& steps) {
  if (steps.size() < 2) return "";
  constexpr double kWidth = 1000;
  constexpr double kHeight = 300;
  constexpr double kLeft = 56;
  constexpr double kBottom = 28;
  double low = steps[0].loss;
  double high = steps[0].loss;
  for (const StepPoint& point : steps) {
    low = std::min(low, point.loss);
    high = std::max(high, point.loss);
  }
  low = std::min(low, 0.9 * low);
  const double last = static_cast<double>(steps.back().step);
  const auto x = [&](double step) { return kLeft + (kWidth - kLeft - 10) * step / last; };
  const auto y = [&](double loss) {
    return 10 + (kHeight - kBottom - 10) * (high - loss) / std::max(high - low, 1e-9);
  };
  std::string svg =
      "<svg viewBox=\"0 0 1000 300\" role=img aria-label=\"loss by step\" style=\"width:100%\">";
  for (int i = 0; i <= 4; ++i) {
    const double loss = low + (high - low) * i / 4;
    const double step = std::round(last * i / 4);
    svg += "<line x1=56 x2=990 y1=" + Fixed(y(loss), 1) + " y2=" + Fixed(y(loss), 1) +
           " stroke=#e8ebef /><text x=48 y=" + Fixed(y(loss) + 4, 1) +
           " font-size=12 text-anchor=end fill=#5a6472>" + Fixed(loss, 2) +
           "</text><text x=" + Fixed(x(step), 1) +
           " y=294 font-size=12 text-anchor=" + (i == 4 ? "end" : "middle") + " fill=#5a6472>" +
           Fixed(step, 0) + "</text>";
  }
  svg += "<polyline fill=none stroke=#2457c5 stroke-width=1.8 points=\"";
  const size_t stride = std::max<size_t>(1, steps.size() / 1000);
  for (size_t i = 0; i < steps.size(); i += stride) {
    svg += Fixed(x(static_cast<double>(steps[i].step)), 1) + "," + Fixed(y(steps[i].loss), 1) + " ";
  }
  return svg + "\"/></svg>";
}

std::string ReportHtml(const RunSummary& summary, const ReportOptions& options,
                       const std::function<StatusOr<EvalSample>(int64_t)>& sample) {
  const StepPoint last = summary.steps.empty() ? StepPoint() : summary.steps.back();
  std::string page =
      "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport "
      "content=\"width=device-width\"><title>Weft: " +
      EscapeHtml(summary.recipe.name()) + "</title><style>" + kStyle + "</style><main><h1>" +
      EscapeHtml(summary.recipe.name()) + "</h1><p class=sub>" + std::to_string(last.step) +
      " of " + std::to_string(summary.recipe.steps()) + " steps, " +
      std::to_string(summary.recipe.layout().dp()) + " data-parallel ranks</p><div class=cards>";
  page += Card(Fixed(last.loss, 3), "loss of the last step") +
          Card(Fixed(summary.images_per_second, 0), "samples/s") +
          Card(HumanSeconds(summary.train_seconds), "in training steps") +
          Card(std::to_string(summary.kills), "workers lost and replaced") + "</div>";
  if (summary.retrieval.present) page += "<h2>Retrieval</h2>" + RecallTable(summary.retrieval);
  page += "<h2>Loss</h2><div class=panel>" + LossCurveSvg(summary.steps) + "</div>";
  page += EventList(summary.events);
  if (summary.retrieval.present) {
    page +=
        "<h2>Text queries and the pictures found</h2><p class=sub>Held-out captions, picked "
        "blindly. Best match "
        "first; the caption's own picture has a green border. Hover for a picture's caption and "
        "score.</p>";
    for (const RetrievalQuery& query :
         PickQueries(summary.retrieval.queries, options.num_queries)) {
      page += QueryRow(query, sample);
    }
  }
  return page + "</main></html>\n";
}

}  // namespace weft

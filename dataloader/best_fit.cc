#include "dataloader/best_fit.h"

#include <algorithm>
#include <numeric>

#include "cluster/base/logging.h"

namespace weft {
namespace {

struct OpenRow {
  int32_t room = 0;
  int32_t pictures = 0;
  std::vector<int32_t> items;
};

// nullptr: none holds the item.
OpenRow* BestRow(const RowNeeds& item, std::vector<OpenRow>* rows) {
  OpenRow* best = nullptr;
  for (OpenRow& row : *rows) {
    const bool fits = row.room >= item.tokens && (!item.picture || row.pictures > 0);
    if (fits && (best == nullptr || row.room < best->room)) best = &row;
  }
  return best;
}

}  // namespace

std::vector<std::vector<int32_t>> PackBestFit(std::span<const RowNeeds> items, int32_t room,
                                              int32_t pictures) {
  std::vector<int32_t> order(items.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [items](int32_t a, int32_t b) {
    return items[static_cast<size_t>(a)].tokens > items[static_cast<size_t>(b)].tokens;
  });
  std::vector<OpenRow> rows;
  for (const int32_t number : order) {
    const RowNeeds& item = items[static_cast<size_t>(number)];
    WEFT_CHECK(item.tokens >= 1 && item.tokens <= room) << item.tokens << " of " << room;
    OpenRow* row = BestRow(item, &rows);
    if (row == nullptr) row = &rows.emplace_back(OpenRow{room, pictures, {}});
    row->room -= item.tokens;
    row->pictures -= item.picture ? 1 : 0;
    row->items.push_back(number);
  }
  std::vector<std::vector<int32_t>> packed;
  for (OpenRow& row : rows) {
    std::sort(row.items.begin(), row.items.end());
    packed.push_back(std::move(row.items));
  }
  return packed;
}

}  // namespace weft

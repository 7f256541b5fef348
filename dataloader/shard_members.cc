#include "dataloader/shard_members.h"

#include <utility>

#include "dataloader/json_records.h"

namespace weft {

Status ReadShardMember(const ShardBytes& file, const ShardIndex& index, const ShardMember& member,
                       std::string* bytes) {
  if (member.size > file.size())
    return Corruption("shard " + file.path() + ": a member of " + std::to_string(member.size) +
                      " bytes, more than the shard has");
  bytes->resize(member.size);
  WEFT_RETURN_IF_ERROR(file.ReadAt(member.offset, member.size, bytes->data()));
  const std::string& extension = index.extension(member);
  if (index.format() != ShardFormat::kJson || extension == "json") return OkStatus();
  WEFT_ASSIGN_OR_RETURN(RecordParts record, SplitRecord(*bytes));
  for (RecordPart& part : record.parts) {
    if (part.extension != extension) continue;
    if (part.kind == RecordPartKind::kPicture) {
      WEFT_ASSIGN_OR_RETURN(*bytes, ReadRecordPicture(file.path(), part.value));
    } else {
      *bytes = std::move(part.value);
    }
    return OkStatus();
  }
  return Corruption("shard " + file.path() + ", byte " + std::to_string(member.offset) +
                    ": the record has no ." + extension + " any more");
}

}  // namespace weft

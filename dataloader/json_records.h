// Files of JSON records whose pictures are files of their own: one array of objects (LLaVA's conversations, ALBEF's and
// BLIP's captions, VQA, NLVR, ...), or one object after the other (JSON lines). A record is a sample:
//
//   json             the record as it stands
//   jpg, 1.jpg, ...  the pictures that "image" or "images" names (a path or a list); the extension is the file's own
//   txt, 1.txt, ...  "caption" (a text or a list), else "text", else "sentence"; of an interleaved document ("texts" and
//                    "images", lists of one length, null where the other has something) one text with "<image>"
//
// Its key is "id" (a text or a number), else FILE/NUMBER. Paths are absolute, or relative to the JSON's folder, or to the
// folder that a file NAME.json.images beside it names (`weft data index --images`).
//
// Errors: Corruption (no JSON, a record that is no object), with the file and the byte. Thread rule: pure functions.
// Source: LLaVA's train.py; ALBEF's and BLIP's dataset/*.py; all say their formats in code only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cluster/base/status.h"
#include "dataloader/shard_file.h"
#include "dataloader/shard_index_builder.h"

namespace weft {

enum class RecordPartKind { kRecord, kPicture, kText };

struct RecordPart {
  std::string extension;
  RecordPartKind kind = RecordPartKind::kRecord;
  // A picture's path as it is written, or the text; of the record itself nothing.
  std::string value;
};

struct RecordParts {
  std::string key;  // "" if the record has no id
  std::vector<RecordPart> parts;
};

// Whether the file begins as one of these (its first character that is no space is '[' or '{').
bool LooksLikeJson(const ShardBytes& bytes);

Status AddJsonSamples(const ShardBytes& bytes, ShardIndexBuilder* builder);

StatusOr<RecordParts> SplitRecord(std::string_view record);

// The picture that a record of the file `json_path` names. A path without an extension gets ".jpg" if there is no such file.
StatusOr<std::string> ReadRecordPicture(const std::string& json_path, const std::string& picture);
// NAME.json.images. Errors: InvalidArgument (no such folder).
Status WriteImageFolder(const std::string& json_path, const std::string& folder);

}  // namespace weft

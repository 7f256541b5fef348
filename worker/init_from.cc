#include "worker/init_from.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/manifest.h"
#include "cluster/base/logging.h"
#include "cluster/base/text.h"
#include "parallel/engine/dtypes.h"

namespace weft {
namespace {

const std::string kPrefix = "param/";

StatusOr<at::ScalarType> TypeNamed(const std::string& name) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    if (name == CheckpointTypeName(type)) return type;
  }
  return InvalidArgument("a tensor of type " + name + " is no parameter; f32, f64 and bf16 are");
}

// By parameter, the type in which the checkpoint has it: of all that are named and there, whoever holds them, so that all
// ranks fail alike.
StatusOr<std::map<std::string, at::ScalarType>> FindParameters(const InitFrom& init,
                                                               const ModelSpec& spec,
                                                               const CheckpointReader& reader) {
  const std::string where = "init_from " + init.checkpoint() + ": ";
  std::map<std::string, at::ScalarType> found;
  for (const ParamSpec& param : spec.Params()) {
    if (!param.tie.empty() || !GlobMatch(init.parameters(), param.name) ||
        !reader.Has(kPrefix + param.name))
      continue;
    WEFT_ASSIGN_OR_RETURN(const TensorInfo info, reader.tensor(kPrefix + param.name));
    if (info.shape != param.shape)
      return InvalidArgument(where + param.name + " has another shape there");
    const StatusOr<at::ScalarType> type = TypeNamed(info.dtype);
    if (!type.ok()) return type.status().WithContext(where + param.name);
    found[param.name] = *type;
  }
  if (!found.empty()) return found;
  std::vector<std::string> names;
  for (const std::string& name : reader.TensorNames()) {
    if (name.compare(0, kPrefix.size(), kPrefix) == 0) names.push_back(name.substr(kPrefix.size()));
  }
  std::string example = NearestName(init.parameters(), names);
  if (example.empty() && !names.empty()) example = names[0];
  return InvalidArgument(where + "it has none of this model's parameters that match '" +
                         init.parameters() + "'; it has '" + example + "'");
}

// Elements [begin, end) of a tensor that is stored as `stored`.
Status ReadAs(CheckpointReader* reader, const std::string& name, int64_t begin, int64_t end,
              at::ScalarType stored, at::ScalarType wanted, void* out) {
  if (stored == wanted) return reader->Read(name, begin, end, out);
  const at::Tensor values = at::empty({end - begin}, at::TensorOptions(stored));
  WEFT_RETURN_IF_ERROR(reader->Read(name, begin, end, values.data_ptr()));
  at::from_blob(out, {end - begin}, at::TensorOptions(wanted)).copy_(values);
  return OkStatus();
}

}  // namespace

Status InitializeFrom(const InitFrom& init, FileSystem* fs, RankState* state) {
  WEFT_ASSIGN_OR_RETURN(const std::string path, FindManifest(fs, init.checkpoint()));
  WEFT_ASSIGN_OR_RETURN(checkpoint::Manifest manifest, ReadManifest(fs, path));
  WEFT_ASSIGN_OR_RETURN(const std::unique_ptr<CheckpointReader> reader,
                        CheckpointReader::Open(fs, ParentPath(path), std::move(manifest)));
  WEFT_ASSIGN_OR_RETURN(const auto found, FindParameters(init, state->model().spec, *reader));
  ParameterStore& store = state->parameters();
  const auto read = [&](const std::string& name, int64_t begin, int64_t end, void* out) -> Status {
    if (name.compare(0, kPrefix.size(), kPrefix) != 0) return OkStatus();
    const std::string parameter = name.substr(kPrefix.size());
    const auto it = found.find(parameter);
    if (it == found.end()) return OkStatus();
    const auto group = static_cast<size_t>(store.Get(parameter)->group);
    return ReadAs(reader.get(), name, begin, end, it->second,
                  store.groups()[group].master.scalar_type(), out);
  };
  WEFT_RETURN_IF_ERROR(state->optimizer().ImportState(0, read));
  WEFT_LOG(INFO) << "init_from " << path << ": " << found.size() << " parameters of the model";
  return OkStatus();
}

}  // namespace weft

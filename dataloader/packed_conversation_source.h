// Several conversations in a row of tokens, none of which sees another (LoaderOptions::pictures). A sample is a pack of
// conversation_packs.h. A member that turns out bad, as by a picture that does not decode, is left out: the others move up, and
// one line says so; a pack of bad members only is a bad sample.
#pragma once

#include <memory>

#include "cluster/base/status.h"
#include "dataloader/conversation_set.h"
#include "dataloader/sample_source.h"

namespace weft {

// Makes the tables of packs that are not there. Errors: see ConversationPacks::Open.
StatusOr<std::unique_ptr<SampleSource>> OpenPackedConversationSource(ConversationSet conversations);

}  // namespace weft

// preview.h - what the model sees of an example, as text.
#pragma once
#include "data/batch.h"
#include "tokenizer/tokenizer.h"

// Appends the text of the run of tokens from *token on, up to `end`, that are all targets or all not, special tokens by
// name, and moves *token behind it. Called until *token is end, from dataset->starts[e] on, it gives example e.
bool preview_run(const Dataset *dataset, const Tokenizer *tokenizer, int64_t *token, int64_t end, Buffer *text,
                 bool *trained, Error *error);

// preview.c - see preview.h.
#include "data/preview.h"

bool preview_run(const Dataset *dataset, const Tokenizer *tokenizer, int64_t *token, int64_t end, Buffer *text,
                 bool *trained, Error *error) {
    *trained = dataset->trained[*token];
    for (; *token < end && dataset->trained[*token] == *trained; ++*token)
        if (!tokenizer_decode(tokenizer, dataset->ids[*token], true, text, error)) return false;
    return true;
}

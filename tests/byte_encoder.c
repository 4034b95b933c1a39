// byte_encoder.c - see byte_encoder.h.
#include "tests/byte_encoder.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>

static bool add(EncodedChat *encoded, const char *text, bool trained, Error *error) {
    size_t size = strlen(text);
    encoded->trained = realloc(encoded->trained, (size_t)encoded->tokens.count + size + 2);
    assert_non_null(encoded->trained);
    for (size_t i = 0; i < size; i++) {
        encoded->trained[encoded->tokens.count] = trained;
        if (!token_list_append(&encoded->tokens, (unsigned char)text[i], error)) return false;
    }
    if (!trained) return true;
    encoded->trained[encoded->tokens.count] = true;
    return token_list_append(&encoded->tokens, BYTE_EOS, error);
}

static RecordResult encode(const void *context, const Record *record, EncodedChat *encoded, Error *error) {
    (void)context;
    if (record->kind == RECORD_COMPLETION) {
        if (strcmp(record->prompt, "too long") == 0) return record_bad(error, "every answer is truncated away");
        if (strcmp(record->prompt, "broken") == 0) return error_set(error, "no token"), RECORD_FAILED;
        bool ok = add(encoded, record->prompt, false, error) && add(encoded, record->completion, true, error);
        return ok ? RECORD_GOOD : RECORD_FAILED;
    }
    for (int i = 0; i < record->count; i++)
        if (!add(encoded, record->messages[i].text, record->messages[i].role == ROLE_ASSISTANT, error))
            return RECORD_FAILED;
    return RECORD_GOOD;
}

static bool encode_text(const void *context, const char *text, size_t size, TextPlace place, TokenList *ids,
                        Error *error) {
    (void)context;
    if (place == TEXT_FIRST && !token_list_append(ids, '^', error)) return false;
    for (size_t i = 0; i < size; i++)
        if (!token_list_append(ids, (unsigned char)text[i], error)) return false;
    return true;
}

const RecordEncoder byte_encoder = {NULL, encode, encode_text, -1, BYTE_EOS};

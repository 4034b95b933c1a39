// fuzz_tokenizer.c - the readers of tokenizer.json and tokenizer.model on any bytes, then encoding and decoding with
// what they took. The first byte chooses the reader; for tokenizer.model the library behind it is fuzzed too.
#include "tokenizer/tokenizer_parts.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] =
        "It's 12345 na\xc3\xafve caf\x65\xcc\x81s,\r\n\n  \xe4\xbd\xa0\xe5\xa5\xbd <s></s> abab aaaa\t";
    Error error;
    if (size == 0) return 0;
    Tokenizer *tokenizer = tokenizer_new("fuzz", &error);
    if (!tokenizer) return 0;
    const char *bytes = (const char *)data + 1;
    bool ok = data[0] & 1 ? tokenizer_read_json(tokenizer, bytes, size - 1, "fuzz", &error)
                          : tokenizer_read_model(tokenizer, bytes, size - 1, "fuzz", &error);
    TokenList ids = {0};
    Buffer back = BUFFER_EMPTY;
    if (ok && tokenizer_finish(tokenizer, 1 << 24, &error)) {
        tokenizer_encode(tokenizer, text, strlen(text), TEXT_FIRST, &ids, &error);
        for (int64_t i = 0; i < ids.count; i++) tokenizer_decode(tokenizer, ids.ids[i], true, &back, &error);
    }
    buffer_free(&back);
    token_list_free(&ids);
    tokenizer_close(tokenizer);
    return 0;
}

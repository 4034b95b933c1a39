// fuzz_tokenizer.c - the readers of tokenizer.json, tokenizer.model and GGUF metadata on any bytes, then encoding,
// decoding and writing with what they took. The first byte chooses the reader: '0' a model, '1' JSON, '2' GGUF.
#include "tokenizer/tokenizer_json.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_any(Tokenizer *tokenizer, char kind, const char *bytes, size_t size, Error *error) {
    if (kind == '1') return tokenizer_read_json(tokenizer, bytes, size, "fuzz", error);
    if (kind != '2') return tokenizer_read_model(tokenizer, bytes, size, "fuzz", error);
    GgufFile file;
    if (!gguf_parse(&file, bytes, size, "fuzz", error)) return false;
    bool ok = tokenizer_read_metadata(tokenizer, &file, error);
    gguf_close(&file);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] =
        "It's 12345 na\xc3\xafve caf\x65\xcc\x81s,\r\n\n  \xe4\xbd\xa0\xe5\xa5\xbd <s></s> abab aaaa\t";
    Error error;
    if (size == 0) return 0;
    Tokenizer *tokenizer = tokenizer_new("fuzz", &error);
    if (!tokenizer) return 0;
    bool ok = read_any(tokenizer, (char)data[0], (const char *)data + 1, size - 1, &error);
    TokenList ids = {0};
    Buffer back = BUFFER_EMPTY;
    if (ok && tokenizer_finish(tokenizer, 1 << 24, &error)) {
        tokenizer_encode(tokenizer, text, strlen(text), TEXT_FIRST, &ids, &error);
        for (int64_t i = 0; i < ids.count; i++) tokenizer_decode(tokenizer, ids.ids[i], true, &back, &error);
        if (tokenizer->from_gguf) json_decref(tokenizer_to_json(tokenizer, &error));
    }
    buffer_free(&back);
    token_list_free(&ids);
    tokenizer_close(tokenizer);
    return 0;
}

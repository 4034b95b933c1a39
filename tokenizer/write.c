// write.c - the tokenizer's files in an output directory: copied from a Hugging Face directory, built from a GGUF file.
//
// The chat template stands in exactly one place: in chat_template.jinja where the source has that file, else in
// tokenizer_config.json.
#include "base/files.h"
#include "tokenizer/tokenizer_json.h"
#include <string.h>

static bool write_text_file(const char *directory, const char *name, const void *bytes, size_t size, Error *error) {
    char *path = path_join(directory, name);
    if (!path) return error_memory(error, "path", strlen(directory));
    bool ok = file_write_atomic(path, bytes, size, error);
    free(path);
    return ok;
}

static bool write_json(const char *directory, const char *name, const json_t *value, Error *error) {
    char *text = value ? json_to_text(value) : NULL;
    if (!text) return error_memory(error, name, 0);
    bool ok = write_text_file(directory, name, text, strlen(text), error);
    free(text);
    return ok;
}

static bool write_model(const Tokenizer *tokenizer, const char *directory, Error *error) {
    Buffer bytes = BUFFER_EMPTY;
    bool ok = sentencepiece_model_write(&tokenizer->model, &bytes, error) &&
              write_text_file(directory, "tokenizer.model", bytes.data, bytes.size, error);
    buffer_free(&bytes);
    return ok;
}

// ---- from a Hugging Face directory ----

// *bytes is NULL when the source has no such file.
static bool read_source(const Tokenizer *tokenizer, const char *name, char **bytes, size_t *size, Error *error) {
    *bytes = NULL;
    char *path = path_join(tokenizer->source, name);
    if (!path) return error_memory(error, "path", strlen(tokenizer->source));
    bool ok = !path_exists(path) || file_read(path, TOKENIZER_FILE_LIMIT, bytes, size, error);
    free(path);
    return ok;
}

static bool copy(const Tokenizer *tokenizer, const char *directory, const char *name, bool *copied, Error *error) {
    char *bytes;
    size_t size;
    if (!read_source(tokenizer, name, &bytes, &size, error)) return false;
    *copied = bytes != NULL;
    bool ok = !bytes || write_text_file(directory, name, bytes, size, error);
    free(bytes);
    return ok;
}

// tokenizer_config.json with the template put in, or, where it stands in a file of its own, taken out.
static bool write_config(const Tokenizer *tokenizer, const char *directory, const char *chat_template, Error *error) {
    char *text;
    size_t size = 0;
    if (!read_source(tokenizer, "tokenizer_config.json", &text, &size, error)) return false;
    json_t *config = text ? json_parse(text, size, "tokenizer_config.json", 1, 1, error) : json_object();
    free(text);
    if (!config) return false;
    if (chat_template)
        json_object_set_new(config, "chat_template", json_string(chat_template));
    else
        json_object_del(config, "chat_template");
    bool ok = write_json(directory, "tokenizer_config.json", config, error);
    json_decref(config);
    return ok;
}

static bool write_copies(const Tokenizer *tokenizer, const char *directory, const char *chat_template, Error *error) {
    static const char *const names[] = {"tokenizer.json",    "tokenizer.model", "special_tokens_map.json",
                                        "added_tokens.json", "vocab.json",      "merges.txt"};
    bool copied;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!copy(tokenizer, directory, names[i], &copied, error)) return false;
    }
    if (!tokenizer->bpe && !tokenizer->model_from_file && !write_model(tokenizer, directory, error)) return false;
    if (!copy(tokenizer, directory, "chat_template.jinja", &copied, error)) return false;
    if (!chat_template) return copy(tokenizer, directory, "tokenizer_config.json", &copied, error);
    if (!copied) return write_config(tokenizer, directory, chat_template, error);
    return write_text_file(directory, "chat_template.jinja", chat_template, strlen(chat_template), error) &&
           write_config(tokenizer, directory, NULL, error);
}

// ---- from a GGUF file ----

// {"bos_token": "<s>", ...} of those that there are.
static json_t *special_tokens(const Tokenizer *tokenizer) {
    const struct {
        const char *key;
        int32_t id;
    } specials[] = {{"bos_token", tokenizer->bos},
                    {"eos_token", tokenizer->eos},
                    {"unk_token", tokenizer->unknown},
                    {"pad_token", tokenizer->padding}};
    json_t *object = json_object();
    for (int i = 0; i < 4; i++) {
        const AddedToken *token = added_token_by_id(&tokenizer->added, specials[i].id);
        if (token) json_object_set_new(object, specials[i].key, json_string(token->text));
    }
    return object;
}

static bool write_built(const Tokenizer *tokenizer, const char *directory, const char *chat_template, Error *error) {
    json_t *json = tokenizer_to_json(tokenizer, error);
    json_t *specials = special_tokens(tokenizer), *config = json_deep_copy(specials);
    json_object_set_new(config, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    json_object_set_new(config, "add_bos_token", json_boolean(tokenizer->adds_bos));
    json_object_set_new(config, "clean_up_tokenization_spaces", json_false());
    if (chat_template) json_object_set_new(config, "chat_template", json_string(chat_template));
    bool ok = json && write_json(directory, "tokenizer.json", json, error) &&
              write_json(directory, "special_tokens_map.json", specials, error) &&
              write_json(directory, "tokenizer_config.json", config, error) &&
              (tokenizer->bpe || write_model(tokenizer, directory, error));
    json_decref(json);
    json_decref(specials);
    json_decref(config);
    return ok;
}

bool tokenizer_write(const Tokenizer *tokenizer, const char *directory, const char *chat_template, Error *error) {
    if (!tokenizer->from_gguf) return write_copies(tokenizer, directory, chat_template, error);
    return write_built(tokenizer, directory, chat_template ? chat_template : tokenizer->chat_template, error);
}

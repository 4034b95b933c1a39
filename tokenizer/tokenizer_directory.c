// tokenizer_directory.c - the tokenizer of a Hugging Face directory: which files it has, and what tokenizer_config.json
// adds to the vocabulary: special tokens, the chat template, the rule for the space before SentencePiece text.
//
// That rule follows the file that transformers follows. tokenizer.json says it itself; but transformers' LlamaTokenizer
// builds it anew from tokenizer_config.json's "legacy" and "add_prefix_space" and reads only vocabulary and merges, so
// where that class is named (and the model is no Mistral, for which it is not used) they decide. With tokenizer.model
// alone the rule is SentencePiece's own.
#include "base/files.h"
#include "tokenizer/tokenizer_json.h"
#include <string.h>

// An optional JSON file of the directory that holds an object: *value is NULL when there is no such file.
static bool read_optional(const char *directory, const char *name, json_t **value, Error *error) {
    *value = NULL;
    char *path = path_join(directory, name);
    if (!path) return error_memory(error, "path", strlen(directory));
    bool ok = true;
    if (path_exists(path)) {
        *value = json_read_file(path, TOKENIZER_FILE_LIMIT, error);
        ok = *value != NULL;
        if (ok && !json_is_object(*value)) ok = error_set(error, "%s: not a JSON object", path);
    }
    free(path);
    return ok;
}

// Reads directory/name, which exists, by one of the two readers of bytes.
typedef bool ReadBytes(Tokenizer *tokenizer, const char *bytes, size_t size, const char *where, Error *error);

static bool read_file(Tokenizer *tokenizer, const char *directory, const char *name, ReadBytes *read, Error *error) {
    char *path = path_join(directory, name), *bytes = NULL;
    size_t size;
    if (!path) return error_memory(error, "path", strlen(directory));
    bool ok = file_read(path, TOKENIZER_FILE_LIMIT, &bytes, &size, error) && read(tokenizer, bytes, size, path, error);
    free(bytes);
    free(path);
    return ok;
}

static bool has_file(const char *directory, const char *name) {
    char *path = path_join(directory, name);
    bool there = path && path_exists(path);
    free(path);
    return there;
}

static bool read_vocabulary(Tokenizer *tokenizer, const char *directory, Error *error) {
    bool json = has_file(directory, "tokenizer.json");
    tokenizer->model_from_file = has_file(directory, "tokenizer.model");
    if (!json && !tokenizer->model_from_file) {
        error_set(error, "%s has no tokenizer: neither tokenizer.json nor tokenizer.model is there", directory);
        if (has_file(directory, "vocab.json"))
            return error_hint(error,
                              "make tokenizer.json of its vocab.json: python3 -c \"from transformers import "
                              "AutoTokenizer as T; T.from_pretrained('%s').save_pretrained('%s')\"",
                              directory, directory);
        return error_hint(error,
                          "copy tokenizer.json or tokenizer.model, and tokenizer_config.json, into it from where "
                          "the model came from");
    }
    if (json && !read_file(tokenizer, directory, "tokenizer.json", tokenizer_read_json, error)) return false;
    if (tokenizer->bpe || !tokenizer->model_from_file) return true;
    SpacePrefix prefix = tokenizer->prefix;
    bool adds_bos = tokenizer->adds_bos;
    if (!read_file(tokenizer, directory, "tokenizer.model", tokenizer_read_model, error)) return false;
    if (json) { // its settings stand before those of tokenizer.model
        tokenizer->prefix = prefix;
        tokenizer->adds_bos = adds_bos;
    }
    return true;
}

// ---- added and special tokens ----

static bool has_id(const AddedTokens *added, int64_t id) {
    for (int32_t i = 0; i < added->count; i++) {
        if (added->tokens[i].id == id) return true;
    }
    return false;
}

// {"32000": {"content": "<pad>", "special": true, ...}}; tokenizer.json's own list comes first.
static bool read_decoder(Tokenizer *tokenizer, const json_t *config, const char *where, Error *error) {
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, value) {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (*end || end == key) return error_set(error, "%s: added_tokens_decoder has the key \"%.64s\"", where, key);
        if (!has_id(&tokenizer->added, id) && !json_added_token(&tokenizer->added, id, value, where, error))
            return false;
    }
    return true;
}

// added_tokens.json: {"<pad>": 32000}. What kind of token they are is not said there; they are taken for special.
static bool read_added(Tokenizer *tokenizer, const json_t *added, const char *where, Error *error) {
    const char *text;
    json_t *id;
    json_object_foreach((json_t *)added, text, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= TOKENIZER_IDS_MAX)
            return error_set(error, "%s: \"%.64s\" has no id", where, text);
        AddedToken token = {
            .text = (char *)text, .size = strlen(text), .id = (int32_t)json_integer_value(id), .special = true};
        if (!has_id(&tokenizer->added, token.id) && !added_tokens_add(&tokenizer->added, &token, error)) return false;
    }
    return true;
}

// The id of the token that "bos_token" and the like name, as a text or an object with "content".
static void read_special(const Tokenizer *tokenizer, const json_t *object, const char *key, int32_t *id) {
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(json_is_object(value) ? json_object_get(value, "content") : value);
    if (!text) return;
    for (int32_t i = 0; i < tokenizer->added.count; i++) {
        if (!strcmp(tokenizer->added.tokens[i].text, text)) {
            *id = tokenizer->added.tokens[i].id;
            return;
        }
    }
    int32_t found = tokenizer->bpe ? bpe_token_id(tokenizer->bpe, text, strlen(text)) : -1;
    if (found >= 0) *id = found;
    for (int64_t i = 0; i < tokenizer->model.count; i++) {
        if (tokenizer->model.pieces[i].size == strlen(text) && !strcmp(piece_text(&tokenizer->model, i), text))
            *id = (int32_t)i;
    }
}

static void read_specials(Tokenizer *tokenizer, const json_t *object) {
    read_special(tokenizer, object, "bos_token", &tokenizer->bos);
    read_special(tokenizer, object, "eos_token", &tokenizer->eos);
    read_special(tokenizer, object, "unk_token", &tokenizer->unknown);
    read_special(tokenizer, object, "pad_token", &tokenizer->padding);
}

// ---- tokenizer_config.json ----

static bool is_llama_class(const json_t *config, const json_t *model_config) {
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    const char *type = json_string_value(json_object_get(model_config, "model_type"));
    if (!class || (type && !strcmp(type, "mistral"))) return false;
    return !strcmp(class, "LlamaTokenizer") || !strcmp(class, "LlamaTokenizerFast");
}

// A text, or a list of named ones of which "default" counts; NULL when there is none.
static const char *template_text(const json_t *value) {
    size_t i;
    json_t *entry;
    json_array_foreach(value, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && !strcmp(name, "default")) return json_string_value(json_object_get(entry, "template"));
    }
    return json_string_value(value);
}

// chat_template.jinja, where it is there, stands before tokenizer_config.json's chat_template.
static bool read_template(Tokenizer *tokenizer, const char *directory, const json_t *config, Error *error) {
    if (has_file(directory, "chat_template.jinja")) {
        char *path = path_join(directory, "chat_template.jinja");
        size_t size;
        bool ok = path ? file_read(path, TOKENIZER_FILE_LIMIT, &tokenizer->chat_template, &size, error)
                       : error_memory(error, "path", strlen(directory));
        free(path);
        return ok;
    }
    const char *text = template_text(json_object_get(config, "chat_template"));
    if (!text) return true;
    tokenizer->chat_template = strdup(text);
    return tokenizer->chat_template || error_memory(error, "chat template", strlen(text));
}

static bool read_config(Tokenizer *tokenizer, const char *directory, const json_t *config, const json_t *model_config,
                        Error *error) {
    bool legacy = false, add_prefix = true;
    const char *where = "tokenizer_config.json";
    if (!read_decoder(tokenizer, config, where, error) || !json_get_boolean(config, "legacy", &legacy, where, error) ||
        !json_get_boolean(config, "add_prefix_space", &add_prefix, where, error) ||
        !json_get_boolean(config, "add_bos_token", &tokenizer->adds_bos, where, error))
        return false;
    read_specials(tokenizer, config);
    if (!tokenizer->bpe && is_llama_class(config, model_config))
        tokenizer->prefix = !add_prefix ? PREFIX_NEVER : legacy ? PREFIX_METASPACE : PREFIX_FIRST_METASPACE;
    return read_template(tokenizer, directory, config, error);
}

bool tokenizer_read_directory(Tokenizer *tokenizer, const char *directory, Error *error) {
    json_t *config = NULL, *model_config = NULL, *specials = NULL, *added = NULL;
    bool ok = read_vocabulary(tokenizer, directory, error) &&
              read_optional(directory, "config.json", &model_config, error) &&
              read_optional(directory, "added_tokens.json", &added, error) &&
              read_optional(directory, "special_tokens_map.json", &specials, error) &&
              read_optional(directory, "tokenizer_config.json", &config, error);
    if (ok) {
        read_specials(tokenizer, specials);
        ok = (read_config(tokenizer, directory, config, model_config, error) &&
              read_added(tokenizer, added, "added_tokens.json", error)) ||
             error_context(error, "%s", directory);
    }
    json_decref(config);
    json_decref(model_config);
    json_decref(specials);
    json_decref(added);
    return ok;
}

// tokenizer_json.c - reading tokenizer.json: which of the two kinds it is, its settings, its added tokens, and a
// byte-level BPE vocabulary. tokenizer_json_pieces.c reads the vocabularies that were converted from SentencePiece.
#include "tokenizer/tokenizer_json.h"
#include "base/json.h"
#include <string.h>

// The JSON text of a part that is not supported, cut to a line, for the message.
static bool unsupported(const char *where, const char *what, const json_t *value, Error *error) {
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    error_set(error, "%s: %s that is not supported: %.200s", where, what, text ? text : "null");
    free(text);
    return error_hint(error, "supported are byte-level BPE as in GPT-2, SmolLM, Llama 3 and Qwen2, and SentencePiece "
                             "models as converted for Llama 1/2, TinyLlama and Mistral");
}

bool json_type_is(const json_t *value, const char *type) {
    const char *text = json_string_value(json_object_get(value, "type"));
    return text && !strcmp(text, type);
}

static bool json_text_is(const json_t *object, const char *key, const char *text) {
    const char *value = json_string_value(json_object_get(object, key));
    return value && !strcmp(value, text);
}

// A Sequence of one part is that part.
static const json_t *unwrap(const json_t *value, const char *parts) {
    const json_t *list = json_object_get(value, parts);
    return json_type_is(value, "Sequence") && json_array_size(list) == 1 ? json_array_get(list, 0) : value;
}

static bool is_byte_level(const json_t *value, bool regex) {
    const json_t *use = json_object_get(value, "use_regex");
    bool used = use ? json_is_true(use) : true;
    return json_type_is(value, "ByteLevel") && used == regex &&
           !json_is_true(json_object_get(value, "add_prefix_space"));
}

static bool recognise_split(const json_t *split, Pretokenizer *kind) {
    static const char gpt2[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    const char *regex = json_string_value(json_object_get(json_object_get(split, "pattern"), "Regex"));
    if (!json_type_is(split, "Split") || !regex || !json_text_is(split, "behavior", "Isolated") ||
        json_is_true(json_object_get(split, "invert")))
        return false;
    if (!strcmp(regex, PRETOKENIZE_LLAMA3_REGEX))
        *kind = PRETOKENIZE_LLAMA3;
    else if (!strcmp(regex, PRETOKENIZE_QWEN2_REGEX))
        *kind = PRETOKENIZE_QWEN2;
    else if (!strcmp(regex, gpt2))
        *kind = PRETOKENIZE_GPT2;
    else
        return false;
    return true;
}

static bool recognise_pretokenizer(const json_t *root, Pretokenizer *kind) {
    const json_t *value = unwrap(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    if (is_byte_level(value, true)) {
        *kind = PRETOKENIZE_GPT2;
        return true;
    }
    const json_t *list = json_object_get(value, "pretokenizers");
    if (!json_type_is(value, "Sequence") || json_array_size(list) != 2) return false;
    const json_t *first = json_array_get(list, 0), *second = json_array_get(list, 1);
    if (json_type_is(first, "Digits") && json_is_true(json_object_get(first, "individual_digits")) &&
        is_byte_level(second, true)) {
        *kind = PRETOKENIZE_SMOLLM;
        return true;
    }
    return is_byte_level(second, false) && recognise_split(first, kind);
}

// Settings of a BPE model that would change its merging in ways that no model of ours uses.
static bool check_bpe(const json_t *model, const char *where, Error *error) {
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        const char *affix = json_string_value(json_object_get(model, affixes[i]));
        if (affix && *affix) return error_set(error, "%s: %s is not supported", where, affixes[i]);
    }
    if (json_number_value(json_object_get(model, "dropout")) != 0)
        return error_set(error, "%s: a BPE model with dropout is not supported", where);
    return true;
}

// An added token's member that must be false where the token is looked for in text.
static bool check_plain(const json_t *value, const char *where, Error *error) {
    static const char *const keys[] = {"lstrip", "rstrip", "single_word"};
    for (int i = 0; i < 3; i++) {
        if (!json_is_true(json_object_get(value, keys[i]))) continue;
        return error_set(error, "%s: added token \"%.64s\" is not special but has %s, which is not supported", where,
                         json_string_value(json_object_get(value, "content")), keys[i]);
    }
    return true;
}

bool json_added_token(AddedTokens *added, int64_t id, const json_t *value, const char *where, Error *error) {
    const json_t *content = json_object_get(value, "content");
    if (id < 0 || id >= TOKENIZER_IDS_MAX || !json_is_string(content))
        return error_set(error, "%s: an added token needs \"content\" and an id below %d", where, TOKENIZER_IDS_MAX);
    AddedToken token = {.text = (char *)json_string_value(content),
                        .size = json_string_length(content),
                        .id = (int32_t)id,
                        .special = json_is_true(json_object_get(value, "special"))};
    const json_t *normalized = json_object_get(value, "normalized");
    token.normalized = normalized ? json_is_true(normalized) : !token.special;
    if (!token.special && !check_plain(value, where, error)) return false;
    return added_tokens_add(added, &token, error);
}

static bool read_added_tokens(Tokenizer *tokenizer, const json_t *root, const char *where, Error *error) {
    size_t i;
    json_t *value;
    json_array_foreach(json_object_get(root, "added_tokens"), i, value) {
        const json_t *id = json_object_get(value, "id");
        if (!json_added_token(&tokenizer->added, json_is_integer(id) ? json_integer_value(id) : -1, value, where,
                              error))
            return false;
    }
    return true;
}

bool json_vocabulary_size(const json_t *vocabulary, int64_t *size, const char *where, Error *error) {
    const char *text;
    json_t *id;
    if (!json_is_object(vocabulary) || json_object_size(vocabulary) == 0)
        return error_set(error, "%s: \"model\" has no \"vocab\"", where);
    *size = 0;
    json_object_foreach((json_t *)vocabulary, text, id) {
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= TOKENIZER_IDS_MAX)
            return error_set(error, "%s: the id of token \"%.64s\" is not an integer in 0 .. %d", where, text,
                             TOKENIZER_IDS_MAX - 1);
        if (json_integer_value(id) >= *size) *size = json_integer_value(id) + 1;
    }
    if (*size / 2 > (int64_t)json_object_size(vocabulary) + 1024) // a damaged id would take memory for all below it
        return error_set(error, "%s: the vocabulary has %zu tokens, but ids up to %lld", where,
                         json_object_size(vocabulary), (long long)*size - 1);
    return true;
}

static bool read_merges(Bpe *bpe, const json_t *merges, Error *error) {
    size_t i;
    json_t *merge;
    json_array_foreach(merges, i, merge) {
        const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
        bool ok;
        if (json_is_string(merge))
            ok = bpe_add_merge(bpe, json_string_value(merge), json_string_length(merge), error);
        else if (json_array_size(merge) == 2 && json_is_string(left) && json_is_string(right))
            ok = bpe_add_merge_pair(bpe, json_string_value(left), json_string_length(left), json_string_value(right),
                                    json_string_length(right), error);
        else
            ok = error_set(error, "merge %zu is not a pair of texts", i);
        if (!ok) return false;
    }
    return true;
}

static bool read_byte_level(Tokenizer *tokenizer, const json_t *model, const char *where, Error *error) {
    const json_t *vocabulary = json_object_get(model, "vocab");
    int64_t rows;
    if (!check_bpe(model, where, error) || !json_vocabulary_size(vocabulary, &rows, where, error)) return false;
    for (int32_t i = 0; i < tokenizer->added.count; i++) {
        if (tokenizer->added.tokens[i].id >= rows) rows = tokenizer->added.tokens[i].id + 1;
    }
    tokenizer->bpe = bpe_create(rows, error);
    if (!tokenizer->bpe) return false;
    const char *text;
    size_t size;
    json_t *id;
    json_object_foreach((json_t *)vocabulary, text, id) {
        size = strlen(text);
        if (!bpe_add_token(tokenizer->bpe, json_integer_value(id), text, size, true, error))
            return error_context(error, "%s", where);
    }
    if (!read_merges(tokenizer->bpe, json_object_get(model, "merges"), error)) return error_context(error, "%s", where);
    BpeOptions options = {.ignore_merges = json_is_true(json_object_get(model, "ignore_merges")),
                          .unknown = -1,
                          .fuse_unknown = json_is_true(json_object_get(model, "fuse_unk"))};
    const char *unknown = json_string_value(json_object_get(model, "unk_token"));
    if (unknown) {
        const json_t *found = json_object_get(vocabulary, unknown);
        if (!found) return error_set(error, "%s: unk_token \"%.64s\" is not in the vocabulary", where, unknown);
        options.unknown = (int32_t)json_integer_value(found);
    }
    tokenizer->size = rows;
    return bpe_finish(tokenizer->bpe, &options, error);
}

// NFC or nothing.
static bool recognise_normalizer(const json_t *root, bool *compose) {
    const json_t *value = unwrap(json_object_get(root, "normalizer"), "normalizers");
    *compose = json_type_is(value, "NFC");
    return *compose || !value || json_is_null(value);
}

// Whether text starts with BOS: the post-processor's template for one text begins with a special token.
static bool adds_bos(const json_t *processor) {
    if (json_type_is(processor, "Sequence")) {
        size_t i;
        json_t *part;
        json_array_foreach(json_object_get(processor, "processors"), i, part) {
            if (adds_bos(part)) return true;
        }
    }
    const json_t *first = json_array_get(json_object_get(processor, "single"), 0);
    return json_type_is(processor, "TemplateProcessing") && json_object_get(first, "SpecialToken");
}

static bool read_root(Tokenizer *tokenizer, const json_t *root, const char *where, Error *error) {
    const json_t *model = json_object_get(root, "model");
    const json_t *type = json_object_get(model, "type");
    if (!json_is_object(model)) return error_set(error, "%s: there is no \"model\"", where);
    bool bpe = json_type_is(model, "BPE") || (!type && json_object_get(model, "merges"));
    if (!bpe && !json_type_is(model, "Unigram")) return unsupported(where, "a model of a type", type, error);
    if (!read_added_tokens(tokenizer, root, where, error)) return false;
    tokenizer->adds_bos = adds_bos(json_object_get(root, "post_processor"));
    bool known_prefix = json_space_prefix(root, &tokenizer->prefix);
    if (known_prefix)
        return (!bpe || check_bpe(model, where, error)) && json_read_pieces(tokenizer, model, where, error);
    if (!bpe || json_is_true(json_object_get(model, "byte_fallback"))) {
        json_t *both = json_pack("{sO?sO?}", "normalizer", json_object_get(root, "normalizer"), "pre_tokenizer",
                                 json_object_get(root, "pre_tokenizer"));
        unsupported(where, "a SentencePiece vocabulary with normalisation", both, error);
        json_decref(both);
        return false;
    }
    if (!recognise_normalizer(root, &tokenizer->compose))
        return unsupported(where, "a normaliser", json_object_get(root, "normalizer"), error);
    if (!recognise_pretokenizer(root, &tokenizer->pretokenizer))
        return unsupported(where, "a pre-tokeniser", json_object_get(root, "pre_tokenizer"), error);
    return read_byte_level(tokenizer, model, where, error);
}

bool tokenizer_read_json(Tokenizer *tokenizer, const char *text, size_t size, const char *where, Error *error) {
    json_t *root = json_parse(text, size, where, 1, 1, error);
    if (!root) return false;
    bool ok = read_root(tokenizer, root, where, error);
    json_decref(root);
    return ok;
}

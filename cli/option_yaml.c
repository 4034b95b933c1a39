// option_yaml.c - options from a YAML file, as LLaMA-Factory and axolotl users have them (libyaml reads it).
#include "base/files.h"
#include "cli/options.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define YAML_SIZE_MAX  (1 << 20) // bytes; a configuration is far smaller
#define VALUE_SIZE_MAX (1 << 20) // bytes of a list's items together

typedef struct YamlReader {
    Options *options;
    CommandSet command;
    const char *source; // the file's name, for messages
    yaml_document_t document;
    Buffer value; // the value being put together
} YamlReader;

static bool fail_at(const YamlReader *reader, const yaml_node_t *node, const char *what, Error *error) {
    error_usage(error, "%s:%zu: %s", reader->source, node->start_mark.line + 1, what);
    return error_hint(error, "the file holds one `option: value` per line; lists are written [a, b]");
}

// The text of a scalar; NULL when it is not one or holds a NUL character.
static const char *scalar_text(const yaml_node_t *node) {
    if (node->type != YAML_SCALAR_NODE) return NULL;
    const char *text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

static bool is_null(const yaml_node_t *node) {
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) return false;
    const char *text = (const char *)node->data.scalar.value;
    return !*text || !strcmp(text, "~") || !strcasecmp(text, "null");
}

// The `path` of axolotl's {path: ..., type: ...}; the type is read off the records instead.
static const char *mapping_path(YamlReader *reader, const yaml_node_t *node, Error *error) {
    const char *path = NULL;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(&reader->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(&reader->document, pair->value);
        const char *name = scalar_text(key);
        if (name && !strcmp(name, "path")) {
            path = scalar_text(value);
        } else if (!name || (strcmp(name, "type") != 0 && strcmp(name, "ds_type") != 0)) {
            fail_at(reader, key, "a data set here has a path and a type, nothing else", error);
            return NULL;
        }
    }
    if (!path) fail_at(reader, node, "a data set without a path", error);
    return path;
}

// Puts a sequence's items into reader->value, separated by commas.
static bool join_sequence(YamlReader *reader, const yaml_node_t *node, bool data_sets, Error *error) {
    for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++) {
        const yaml_node_t *entry = yaml_document_get_node(&reader->document, *item);
        bool mapping = data_sets && entry->type == YAML_MAPPING_NODE;
        const char *text = mapping ? mapping_path(reader, entry, error) : scalar_text(entry);
        if (!text) return mapping ? false : fail_at(reader, entry, "a list holds plain values here", error);
        // Aliases can repeat a long text at little cost for the file.
        if (reader->value.size + strlen(text) > VALUE_SIZE_MAX) return fail_at(reader, entry, "too long a list", error);
        if (!buffer_format(&reader->value, error, "%s%s", reader->value.size ? "," : "", text)) return false;
    }
    return true;
}

// Whether nested values below the name are of no interest: an option of another tool without effect here.
static bool nested_is_harmless(const char *name) {
    const ForeignOption *foreign = option_find(name) ? NULL : foreign_option_find(name);
    return foreign && foreign->harmless && !strcmp(foreign->harmless, "*");
}

static bool read_pair(YamlReader *reader, const yaml_node_pair_t *pair, Error *error) {
    const yaml_node_t *key = yaml_document_get_node(&reader->document, pair->key);
    const yaml_node_t *value = yaml_document_get_node(&reader->document, pair->value);
    const char *name = scalar_text(key);
    if (!name) return fail_at(reader, key, "an option's name is a plain word", error);
    const OptionRow *row = option_find(name);
    if (row && is_null(value)) return true; // as if the line were not there
    buffer_clear(&reader->value);
    if (value->type == YAML_SEQUENCE_NODE) {
        bool data_sets = row && row->group == GROUP_DATA;
        if (row && row->type != VALUE_TEXT) return fail_at(reader, value, "one value is expected, not a list", error);
        if (!nested_is_harmless(name) && !join_sequence(reader, value, data_sets, error)) return false;
    } else if (value->type == YAML_MAPPING_NODE) {
        if (row) return fail_at(reader, value, "one value is expected, not a mapping", error);
        if (!nested_is_harmless(name) && !buffer_text(&reader->value, "{...}", error)) return false;
    } else {
        const char *text = is_null(value) ? "" : scalar_text(value);
        if (!text) return fail_at(reader, value, "a value holds a NUL character", error);
        if (!buffer_text(&reader->value, text, error)) return false;
    }
    char where[512];
    snprintf(where, sizeof where, "%s:%zu", reader->source, key->start_mark.line + 1);
    return options_set(reader->options, reader->command, name, buffer_string(&reader->value), where, error);
}

static bool read_document(YamlReader *reader, Error *error) {
    const yaml_node_t *root = yaml_document_get_root_node(&reader->document);
    if (!root) return true; // an empty file
    if (root->type != YAML_MAPPING_NODE) return fail_at(reader, root, "no `option: value` lines", error);
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++)
        if (!read_pair(reader, pair, error)) return false;
    return true;
}

bool options_parse_yaml(Options *options, CommandSet command, const char *text, size_t size, const char *where,
                        Error *error) {
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) return error_memory(error, "the YAML parser", sizeof parser);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    YamlReader reader = {.options = options, .command = command, .source = where};
    bool good = false;
    if (!yaml_parser_load(&parser, &reader.document)) {
        error_usage(error, "%s:%zu:%zu: not YAML: %s", where, parser.problem_mark.line + 1,
                    parser.problem_mark.column + 1, parser.problem ? parser.problem : "it cannot be read");
        error_hint(error, "the file holds one `option: value` per line; a value with `: ` or ` #` in it needs quotes");
        goto cleanup;
    }
    good = read_document(&reader, error);
    yaml_document_delete(&reader.document);
cleanup:
    buffer_free(&reader.value);
    yaml_parser_delete(&parser);
    return good;
}

bool options_read_yaml(Options *options, CommandSet command, const char *path, Error *error) {
    char *text = NULL;
    size_t size = 0;
    if (!file_read(path, YAML_SIZE_MAX, &text, &size, error)) return false;
    bool good = options_parse_yaml(options, command, text, size, path, error);
    free(text);
    return good;
}

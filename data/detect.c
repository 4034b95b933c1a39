// detect.c - see detect.h.
#include "data/detect.h"
#include "base/ending.h"
#include "base/utf8.h"
#include "data/json_stream.h"
#include <string.h>

bool data_is_plain_name(const char *path) {
    static const char *const suffixes[] = {".txt", ".md", ".text", ".txt.gz", ".md.gz", ".text.gz"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (has_ending(path, suffixes[i])) return true;
    return false;
}

bool data_check_readable(const char *path, Error *error) {
    static const struct {
        const char *suffix, *name, *call, *more; // the pandas call that reads it
    } tables[] = {
        {".parquet", "Parquet", "read_parquet", ""},
        {".csv", "CSV", "read_csv", ""},
        {".tsv", "TSV", "read_csv", ", sep='\\t'"},
    };
    static const struct {
        const char *suffix, *command;
    } archives[] = {{".zst", "zstd -d"}, {".xz", "xz -d"}, {".bz2", "bzip2 -d"}, {".zip", "unzip"}, {".tar", "tar xf"}};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (!has_ending(path, tables[i].suffix)) continue;
        error_set(error, "%s: %s files are not read", path, tables[i].name);
        return error_hint(error,
                          "convert it: python3 -c \"import pandas; pandas.%s('%s'%s).to_json('%s.jsonl', "
                          "orient='records', lines=True, force_ascii=False)\"",
                          tables[i].call, path, tables[i].more, path);
    }
    for (size_t i = 0; i < sizeof archives / sizeof *archives; i++) {
        if (!has_ending(path, archives[i].suffix)) continue;
        error_set(error, "%s: %s files are not read", path, archives[i].suffix);
        return error_hint(error, "unpack it: %s '%s' (gzip is read as it is)", archives[i].command, path);
    }
    return true;
}

// The format of a file with such messages, whatever their list is called: OpenAI's keys or ShareGPT's.
static DataFormat format_of_messages(const json_t *list, DataFormat otherwise) {
    const json_t *message = json_array_get(list, 0);
    if (json_object_get(message, "role") && json_object_get(message, "content")) return FORMAT_OPENAI;
    if (json_object_get(message, "from") && json_object_get(message, "value")) return FORMAT_SHAREGPT;
    return otherwise;
}

static bool unknown_keys(const json_t *record, const char *where, Error *error) {
    char names[256] = "";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)record, key, value) {
        size_t size = strlen(names);
        snprintf(names + size, sizeof names - size, "%s\"%.40s\"", size ? ", " : "", key);
    }
    error_set(error, "%s: the first record has the keys %s, which belong to no known format", where, names);
    return error_hint(error, "known are instruction + output, conversations, messages, prompt + completion, and text; "
                             "name other keys in dataset_info.json, see docs/data.md");
}

static bool detect_keys(const json_t *record, const char *where, DataFormat *format, RecordKeys *keys, Error *error) {
    const json_t *conversations = json_object_get(record, "conversations"),
                 *messages = json_object_get(record, "messages");
    if (!json_is_object(record)) {
        error_set(error, "%s: the first record is not a JSON object", where);
        return error_hint(error,
                          "a data file is a JSON array of objects, or one object per line; docs/data.md has each "
                          "format");
    }
    if (conversations || messages)
        *format = format_of_messages(messages ? messages : conversations, messages ? FORMAT_OPENAI : FORMAT_SHAREGPT);
    else if (json_object_get(record, "instruction") && !json_object_get(record, "response")) // Dolly's keys are others
        *format = FORMAT_ALPACA;
    else if (json_object_get(record, "prompt") && json_object_get(record, "completion"))
        *format = FORMAT_PROMPT_COMPLETION;
    else if (json_object_get(record, "text"))
        *format = FORMAT_TEXT;
    else
        return unknown_keys(record, where, error);
    *keys = record_keys(*format);
    if (keys->messages) keys->messages = messages ? "messages" : "conversations";
    return true;
}

// LMFlow names the kind of its instances in front of them.
static bool detect_lmflow(const char *type, const char *path, DataFormat *format, RecordKeys *keys, Error *error) {
    if (strcmp(type, "text_only") == 0) {
        *format = FORMAT_TEXT;
        *keys = record_keys(FORMAT_TEXT);
    } else if (strcmp(type, "text2text") == 0) {
        *format = FORMAT_PROMPT_COMPLETION;
        *keys = (RecordKeys){.prompt = "input", .response = "output"};
    } else if (strcmp(type, "conversation") == 0) {
        *format = FORMAT_OPENAI;
        *keys = record_keys(FORMAT_OPENAI);
        keys->system = "system";
    } else {
        error_set(error, "%s: LMFlow's type \"%s\" is not read", path, type);
        return error_hint(error, "read are text_only, text2text and conversation");
    }
    return true;
}

// Reads up to the first record that is UTF-8; the others are bad records, which loading counts.
static bool first_record(JsonStream *stream, const char *path, Buffer *text, JsonPlace *place, Error *error) {
    for (bool any = false;; any = true) {
        bool found;
        buffer_clear(text);
        if (!json_stream_next(stream, text, place, &found, error)) return false;
        if (found && utf8_valid(text->data, text->size)) return true;
        if (found) continue;
        if (!any) {
            error_set(error, "%s: the file has no records", path);
            return error_hint(error, "give a data set with at least one record (dataset)");
        }
        error_set(error, "%s: no record is valid UTF-8", path);
        return error_hint(error, "convert it: iconv -f LATIN1 -t UTF-8 '%s' > '%s.utf8' (with its encoding for LATIN1)",
                          path, path);
    }
}

static bool detect_json(JsonStream *stream, const char *path, DataFormat *format, RecordKeys *keys, Buffer *text,
                        Error *error) {
    JsonPlace place;
    if (!first_record(stream, path, text, &place, error)) return false;
    if (*json_stream_type(stream)) return detect_lmflow(json_stream_type(stream), path, format, keys, error);
    char where[1024];
    snprintf(where, sizeof where, "%s:%lld", path, (long long)place.line);
    json_t *record = json_parse(text->data, text->size, path, place.line, place.column, error);
    bool ok = record && detect_keys(record, where, format, keys, error);
    json_decref(record);
    return ok;
}

bool data_detect(const char *path, DataFormat *format, RecordKeys *keys, Error *error) {
    if (!data_check_readable(path, error)) return false;
    JsonStream *stream = json_stream_open(path, error);
    if (!stream) return false;
    Buffer text = BUFFER_EMPTY;
    bool ok = true;
    if (data_is_plain_name(path)) {
        *format = FORMAT_PLAIN;
        *keys = (RecordKeys){0};
    } else {
        ok = detect_json(stream, path, format, keys, &text, error);
    }
    buffer_free(&text);
    json_stream_close(stream);
    return ok;
}

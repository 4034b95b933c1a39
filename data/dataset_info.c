// dataset_info.c - see dataset_info.h.
#include "data/dataset_info.h"
#include <string.h>

// A name for a part of the records in "columns" or "tags".
typedef struct Name {
    const char *key;
    const char **value;
} Name;

static bool read_names(const json_t *object, const Name *names, size_t count, const char *where, Error *error) {
    for (size_t i = 0; i < count; i++)
        if (!json_get_string(object, names[i].key, names[i].value, where, error)) return false;
    return true;
}

// An entry that names columns has no others. Without a column for answers the records are texts.
static bool read_columns(const json_t *columns, DatasetInfo *info, const char *where, Error *error) {
    RecordKeys *keys = &info->keys;
    keys->query = keys->response = keys->history = keys->system = keys->tools = NULL;
    const Name names[] = {{"prompt", &keys->prompt},    {"query", &keys->query},   {"response", &keys->response},
                          {"history", &keys->history},  {"system", &keys->system}, {"tools", &keys->tools},
                          {"messages", &keys->messages}};
    if (!read_names(columns, names, sizeof names / sizeof *names, where, error)) return false;
    if (info->formatting != FORMAT_ALPACA || keys->response) return true;
    info->formatting = FORMAT_TEXT;
    info->keys = (RecordKeys){.text = keys->prompt};
    return true;
}

static bool read_tags(const json_t *tags, RecordKeys *keys, const char *where, Error *error) {
    const Name names[] = {{"role_tag", &keys->role_tag},
                          {"content_tag", &keys->content_tag},
                          {"user_tag", &keys->user_tag},
                          {"assistant_tag", &keys->assistant_tag},
                          {"system_tag", &keys->system_tag},
                          {"function_tag", &keys->function_tag},
                          {"observation_tag", &keys->observation_tag}};
    return read_names(tags, names, sizeof names / sizeof *names, where, error);
}

// Where the data is when it is not in a file here.
static bool check_local(const json_t *entry, const DatasetInfo *info, const char *where, Error *error) {
    static const char *const places[] = {"hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"};
    if (info->file_name) return true;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        const char *url = json_string_value(json_object_get(entry, places[i]));
        if (!url) continue;
        error_set(error, "%s: the data is not in a local file (%s: %s)", where, places[i], url);
        return error_hint(error,
                          "download it (hf download --repo-type dataset %s --local-dir data) and give the entry a "
                          "\"file_name\"",
                          url);
    }
    error_set(error, "%s: \"file_name\" is missing", where);
    return error_hint(error, "an entry looks like {\"file_name\": \"my.json\"}");
}

static bool read_formatting(const char *name, DatasetInfo *info, const char *where, Error *error) {
    info->formatting = FORMAT_AUTO;
    if (!name) return true;
    if (strcmp(name, "alpaca") == 0)
        info->formatting = FORMAT_ALPACA;
    else if (strcmp(name, "sharegpt") == 0)
        info->formatting = FORMAT_SHAREGPT;
    else if (strcmp(name, "openai") == 0)
        info->formatting = FORMAT_OPENAI;
    if (info->formatting != FORMAT_AUTO) return true;
    error_set(error, "%s: the formatting \"%s\" is unknown", where, name);
    return error_hint(error, "known are alpaca, sharegpt and openai");
}

bool dataset_info_read(const json_t *entry, const char *where, DatasetInfo *info, Error *error) {
    *info = (DatasetInfo){0};
    const char *formatting = NULL;
    bool ranking = false;
    if (!json_is_object(entry)) return error_set(error, "%s: the entry must be an object", where);
    if (!json_get_string(entry, "file_name", &info->file_name, where, error)) return false;
    if (!json_get_string(entry, "formatting", &formatting, where, error)) return false;
    if (!json_get_integer(entry, "num_samples", &info->num_samples, where, error)) return false;
    if (!json_get_boolean(entry, "ranking", &ranking, where, error)) return false;
    if (info->num_samples < 0) return error_set(error, "%s: \"num_samples\" must not be negative", where);
    if (ranking) return error_set(error, "%s: preference data (\"ranking\") cannot be trained on", where);
    if (!check_local(entry, info, where, error) || !read_formatting(formatting, info, where, error)) return false;

    const json_t *columns = json_object_get(entry, "columns"), *tags = json_object_get(entry, "tags");
    if (info->formatting == FORMAT_AUTO && (columns || tags))
        info->formatting = tags || json_object_get(columns, "messages") ? FORMAT_SHAREGPT : FORMAT_ALPACA;
    info->keys = record_keys(info->formatting);
    return (!tags || read_tags(tags, &info->keys, where, error)) &&
           (!columns || read_columns(columns, info, where, error));
}

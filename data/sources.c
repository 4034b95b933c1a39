// sources.c - see sources.h.
#include "data/sources.h"
#include "base/buffer.h"
#include "base/files.h"
#include "data/dataset_info.h"
#include "data/detect.h"
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#define INFO_LIMIT ((size_t)64 << 20) // bytes of a dataset_info.json

// What one entry of the list has said so far.
typedef struct Entry {
    const char *name; // as given
    int number;
    const DatasetInfo *info; // NULL: a file, folder or glob
    const DataSettings *settings;
} Entry;

void data_sources_free(DataSources *sources) {
    for (int64_t i = 0; i < sources->count; i++) free(sources->items[i].path);
    free(sources->items);
    json_decref(sources->info);
    *sources = (DataSources){0};
}

bool data_sources_are_texts(const DataSources *sources) {
    for (int64_t i = 0; i < sources->count; i++)
        if (sources->items[i].format != FORMAT_PLAIN && sources->items[i].format != FORMAT_TEXT) return false;
    return true;
}

bool data_sources_have(const DataSources *sources, DataFormat format) {
    for (int64_t i = 0; i < sources->count; i++)
        if (sources->items[i].format == format) return true;
    return false;
}

bool data_sources_have_chats(const DataSources *sources) {
    return data_sources_have(sources, FORMAT_ALPACA) || data_sources_have(sources, FORMAT_SHAREGPT) ||
           data_sources_have(sources, FORMAT_OPENAI);
}

static bool find_format(DataSource *source, const Entry *entry, Error *error) {
    DataFormat format = entry->info ? entry->info->formatting : entry->settings->formatting;
    if (format == FORMAT_AUTO) return data_detect(source->path, &source->format, &source->keys, error);
    source->format = format;
    source->keys = entry->info ? entry->info->keys : record_keys(format);
    if (entry->info && data_is_plain_name(source->path)) source->format = FORMAT_PLAIN; // columns mean nothing in text
    return data_check_readable(source->path, error);
}

static int64_t smaller_limit(int64_t a, int64_t b) {
    return a == 0 || (b > 0 && b < a) ? b : a;
}

static bool add_file(DataSources *sources, const Entry *entry, const char *path, Error *error) {
    DataSource *items = realloc(sources->items, ((size_t)sources->count + 1) * sizeof *items);
    if (!items) return error_memory(error, "the list of data files", ((size_t)sources->count + 1) * sizeof *items);
    sources->items = items;
    DataSource *source = &items[sources->count];
    *source = (DataSource){.path = strdup(path), .entry = entry->number};
    if (!source->path) return error_memory(error, "the list of data files", strlen(path));
    sources->count++;
    source->limit = smaller_limit(entry->settings->max_samples, entry->info ? entry->info->num_samples : 0);
    return find_format(source, entry, error);
}

static bool add_folder(DataSources *sources, const Entry *entry, const char *path, Error *error) {
    char **names;
    size_t count;
    if (!directory_list(path, &names, &count, error)) return false;
    bool ok = true, any = false;
    for (size_t i = 0; ok && i < count; i++) {
        char *file = path_join(path, names[i]);
        if (!file) ok = error_memory(error, "the list of data files", strlen(path));
        if (ok && names[i][0] != '.' && path_size(file) >= 0) {
            ok = add_file(sources, entry, file, error);
            any = true;
        }
        free(file);
    }
    names_free(names, count);
    return ok && (any || error_set(error, "%s: the folder has no files", path));
}

static bool add_path(DataSources *sources, const Entry *entry, const char *path, Error *error) {
    return path_is_directory(path) ? add_folder(sources, entry, path, error) : add_file(sources, entry, path, error);
}

// Adds what a pattern matches; *any tells whether it matched.
static bool add_glob(DataSources *sources, const Entry *entry, const char *pattern, bool *any, Error *error) {
    glob_t found;
    int code = glob(pattern, 0, NULL, &found);
    bool ok = code != GLOB_NOSPACE || error_memory(error, "the list of data files", strlen(pattern));
    *any = code == 0;
    for (size_t i = 0; ok && code == 0 && i < found.gl_pathc; i++)
        ok = add_path(sources, entry, found.gl_pathv[i], error);
    globfree(&found);
    return ok;
}

// Tries a path or pattern as it stands.
static bool add_matches(DataSources *sources, const Entry *entry, const char *path, bool *any, Error *error) {
    *any = true;
    if (path_exists(path)) return add_path(sources, entry, path, error);
    return add_glob(sources, entry, path, any, error);
}

static bool not_found(const DataSources *sources, const Entry *entry, Error *error) {
    if (!sources->info && strpbrk(entry->name, "/.") && !strpbrk(entry->name, "*?[")) {
        errno = ENOENT;
        return error_system(error, "cannot read", entry->name);
    }
    error_set(error, "the data set \"%s\" is not a file, not a glob that matches one, and not a name in %s/%s",
              entry->name, entry->settings->dataset_dir, "dataset_info.json");
    char names[512] = "";
    const char *key;
    json_t *value;
    json_object_foreach(sources->info, key, value) {
        size_t size = strlen(names);
        snprintf(names + size, sizeof names - size, "%s%s", size ? ", " : "", key);
    }
    if (*names) return error_hint(error, "its names are: %s", names);
    return error_hint(error, "there is no such dataset_info.json; give a file (dataset: my.jsonl), or its folder "
                             "(dataset_dir)");
}

static bool add_named(DataSources *sources, Entry *entry, const json_t *value, Error *error) {
    DatasetInfo info;
    char where[1024];
    const char *folder = entry->settings->dataset_dir;
    snprintf(where, sizeof where, "%s/dataset_info.json: %s", folder, entry->name);
    if (!dataset_info_read(value, where, &info, error)) return false;
    char *path = info.file_name[0] == '/' ? strdup(info.file_name) : path_join(folder, info.file_name);
    if (!path) return error_memory(error, "the list of data files", strlen(info.file_name));
    entry->info = &info;
    bool ok = add_path(sources, entry, path, error) || error_context(error, "%s", where);
    entry->info = NULL;
    free(path);
    return ok;
}

static bool add_entry(DataSources *sources, Entry *entry, Error *error) {
    const json_t *value = json_object_get(sources->info, entry->name);
    if (value) return add_named(sources, entry, value, error);
    bool any;
    if (!add_matches(sources, entry, entry->name, &any, error)) return false;
    if (any) return true;
    if (entry->name[0] != '/') {
        char *path = path_join(entry->settings->dataset_dir, entry->name);
        bool ok = path ? add_matches(sources, entry, path, &any, error) : error_memory(error, "a path", 1);
        free(path);
        if (!ok || any) return ok;
    }
    return not_found(sources, entry, error);
}

static bool read_info(DataSources *sources, const char *folder, Error *error) {
    char *path = path_join(folder, "dataset_info.json");
    if (!path) return error_memory(error, "a path", strlen(folder));
    bool ok = true;
    if (path_exists(path)) {
        sources->info = json_read_file(path, INFO_LIMIT, error);
        ok = sources->info != NULL;
        if (ok && !json_is_object(sources->info)) ok = error_set(error, "%s: it must hold a JSON object", path);
    }
    free(path);
    return ok;
}

// Calls add_entry for each part between commas, white space around it left out.
static bool add_list(DataSources *sources, char *list, const DataSettings *settings, Error *error) {
    char *rest = NULL;
    int number = 0;
    for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        while (*name == ' ' || *name == '\t') name++;
        size_t size = strlen(name);
        while (size && (name[size - 1] == ' ' || name[size - 1] == '\t')) name[--size] = 0;
        Entry entry = {.name = name, .number = number++, .settings = settings};
        if (size && !add_entry(sources, &entry, error)) return false;
    }
    return sources->count > 0 || error_usage(error, "no data set is named");
}

bool data_sources_open(DataSources *sources, const char *names, const DataSettings *settings, Error *error) {
    *sources = (DataSources){0};
    char *list = strdup(names);
    bool ok = list ? read_info(sources, settings->dataset_dir, error) && add_list(sources, list, settings, error)
                   : error_memory(error, "the list of data sets", strlen(names));
    free(list);
    if (!ok) data_sources_free(sources);
    return ok;
}

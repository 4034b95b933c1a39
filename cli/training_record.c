// training_record.c - see training_record.h.
#include "cli/training_record.h"
#include "base/files.h"
#include "base/json.h"
#include "cli/option_values.h"
#include <stdlib.h>
#include <string.h>

// Each of ", "-separated names: what exists here by its last name, anything else (a hub id, a glob) as it is.
static json_t *names(const char *given) {
    Buffer text = BUFFER_EMPTY;
    Error ignored = {0};
    for (const char *at = given; *at; at += *at == ',') {
        size_t size = strcspn(at, ",");
        char *name = strndup(at, size);
        while (name && size > 1 && name[size - 1] == '/') name[--size] = 0;
        const char *told = name && path_exists(name) ? path_name(name) : name ? name : "";
        buffer_format(&text, &ignored, "%s%s", text.size ? ", " : "", told);
        free(name);
        at += strcspn(at, ",");
    }
    json_t *value = json_string(buffer_string(&text));
    buffer_free(&text);
    return value;
}

static json_t *value_of(const Options *options, const OptionRow *row) {
    const void *place = option_place(options, row);
    switch (row->type) {
    case VALUE_FLAG:
        return json_boolean(*(const bool *)place);
    case VALUE_INTEGER:
        return json_integer(*(const int64_t *)place);
    case VALUE_SEED:
    case VALUE_SIZE:
        return json_integer((json_int_t)(*(const uint64_t *)place));
    case VALUE_NUMBER:
        return json_real(*(const double *)place);
    case VALUE_CHOICE:
        return json_string(row->choices[*(const int *)place]);
    case VALUE_SIZES:
        return NULL;
    case VALUE_TEXT:
        break;
    }
    const char *text = *(char *const *)place;
    return text ? json_string(text) : NULL;
}

// What decides what is learned: not where files lie, nor how memory is used.
static bool is_told(const OptionRow *row) {
    bool group = row->group == GROUP_DATA || row->group == GROUP_METHOD || row->group == GROUP_LENGTH ||
                 row->group == GROUP_OPTIMIZER || row->group == GROUP_MODEL;
    bool path = row->placeholder && (!strcmp(row->placeholder, "MODEL") || !strcmp(row->placeholder, "FOLDER") ||
                                     !strcmp(row->placeholder, "FILE,..."));
    return group && !path && (row->commands & COMMAND_TRAIN);
}

bool training_record(const Options *options, Buffer *text, Error *error) {
    json_t *values = json_object();
    for (int i = 0; i < option_count; i++) {
        const OptionRow *row = &option_table[i];
        json_t *value = is_told(row) ? value_of(options, row) : NULL;
        if (value) json_object_set_new(values, row->name, value);
    }
    json_t *record =
        json_pack("{s:o, s:o, s:s, s:o}", "base_model", names(options->model_name_or_path), "dataset",
                  names(options->data.dataset), "method",
                  options->train.finetuning_type == METHOD_FULL ? "full fine-tuning" : "LISA", "options", values);
    char *dumped = record ? json_to_text(record) : NULL;
    bool ok = dumped ? buffer_text(text, dumped, error) : error_memory(error, "training.json", 4096);
    free(dumped);
    json_decref(record);
    return ok;
}

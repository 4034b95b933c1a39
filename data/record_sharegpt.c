// record_sharegpt.c - {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}], "system"}.
#include "data/record_formats.h"
#include <string.h>

static bool is(const char *role, const char *tag, const char *other) {
    return (tag && strcmp(role, tag) == 0) || (other && strcmp(role, other) == 0);
}

// Messages in the wild say "user" and "assistant" too.
static RecordResult read_role(const RecordKeys *keys, const char *role, size_t number, Role *found, Error *error) {
    if (is(role, keys->function_tag, "function_call") || is(role, keys->observation_tag, "tool"))
        return record_bad(error, "tool role \"%.40s\" (message %zu): tool calls are not supported", role, number);
    if (is(role, keys->user_tag, "user")) {
        *found = ROLE_USER;
    } else if (is(role, keys->assistant_tag, "assistant")) {
        *found = ROLE_ASSISTANT;
    } else if (is(role, keys->system_tag, NULL)) {
        *found = ROLE_SYSTEM;
    } else {
        return record_bad(error, "unknown role \"%.40s\" (message %zu); known are \"%s\", \"%s\", \"%s\"", role, number,
                          keys->system_tag, keys->user_tag, keys->assistant_tag);
    }
    return RECORD_GOOD;
}

RecordResult record_read_sharegpt(const RecordKeys *keys, const json_t *value, Record *record, Error *error) {
    const json_t *list;
    const char *system;
    RecordResult result = record_messages(keys, value, &list, error);
    if (result == RECORD_GOOD) result = record_string(value, keys->system, &system, error);
    for (size_t i = 0; result == RECORD_GOOD && i < json_array_size(list); i++) {
        const json_t *message = json_array_get(list, i);
        const char *role_name, *text;
        Role role = ROLE_USER;
        if (!json_is_object(message)) return record_bad(error, "message %zu is not an object", i + 1);
        result = record_string(message, keys->role_tag, &role_name, error);
        if (result == RECORD_GOOD) result = record_string(message, keys->content_tag, &text, error);
        if (result != RECORD_GOOD) return result;
        if (!role_name || !text)
            return record_bad(error, "\"%s\" is missing (message %zu)", role_name ? keys->content_tag : keys->role_tag,
                              i + 1);
        result = read_role(keys, role_name, i + 1, &role, error);
        if (result != RECORD_GOOD) return result;
        // the system column stands back behind a system message
        if (i == 0 && role != ROLE_SYSTEM && system && *system &&
            !record_add(record, ROLE_SYSTEM, system, false, error))
            return RECORD_FAILED;
        if (!record_add(record, role, text, true, error)) return RECORD_FAILED;
    }
    return result == RECORD_GOOD ? record_refuse_tools(keys, value, error) : result;
}

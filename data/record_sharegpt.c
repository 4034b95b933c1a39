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
        return record_unknown_role(keys, role, number, error);
    }
    return RECORD_GOOD;
}

static RecordResult read_message(const RecordKeys *keys, const json_t *value, size_t number, RecordMessage *message,
                                 Error *error) {
    const char *role;
    RecordResult result = record_string(value, keys->role_tag, &role, error);
    if (result == RECORD_GOOD) result = record_string(value, keys->content_tag, &message->text, error);
    if (result != RECORD_GOOD) return result;
    if (!role || !message->text)
        return record_bad(error, "\"%s\" is missing (message %zu)", role ? keys->content_tag : keys->role_tag, number);
    return read_role(keys, role, number, &message->role, error);
}

RecordResult record_read_sharegpt(const RecordKeys *keys, const json_t *value, Record *record, Error *error) {
    return record_read_messages(keys, value, read_message, record, error);
}

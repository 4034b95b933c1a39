// record_openai.c - {"messages": [{"role": "system" | "user" | "assistant", "content": ..., "weight": 0 | 1}, ...]}.
#include "data/record_formats.h"
#include <string.h>

// A content is a string, or a list with one text part.
static RecordResult read_content(const RecordKeys *keys, const json_t *message, size_t number, const char **text,
                                 Error *error) {
    const json_t *content = json_object_get(message, keys->content_tag);
    if (json_is_array(content)) {
        const json_t *part = json_array_get(content, 0);
        const char *type = json_string_value(json_object_get(part, "type"));
        if (json_array_size(content) != 1 || !type || strcmp(type, "text") != 0)
            return record_bad(error, "\"%s\" has parts that are not one text (message %zu)", keys->content_tag, number);
        content = json_object_get(part, "text");
    }
    if (!content || json_is_null(content))
        return record_bad(error, "\"%s\" is missing (message %zu)", keys->content_tag, number);
    *text = json_string_value(content);
    return *text ? RECORD_GOOD : record_bad(error, "\"%s\" is not a string (message %zu)", keys->content_tag, number);
}

static RecordResult read_role(const RecordKeys *keys, const json_t *message, size_t number, Role *found, Error *error) {
    const char *role;
    RecordResult result = record_string(message, keys->role_tag, &role, error);
    if (result != RECORD_GOOD) return result;
    if (!role) return record_bad(error, "\"%s\" is missing (message %zu)", keys->role_tag, number);
    const json_t *calls = json_object_get(message, "tool_calls");
    bool is_tool = strcmp(role, keys->observation_tag) == 0 || strcmp(role, keys->function_tag) == 0;
    if (is_tool || json_array_size(calls) || json_is_object(json_object_get(message, "function_call")))
        return record_bad(error, "%s \"%.40s\" (message %zu): tool calls are not supported",
                          is_tool ? "tool role" : "tool calls of", role, number);
    if (strcmp(role, keys->user_tag) == 0) {
        *found = ROLE_USER;
    } else if (strcmp(role, keys->assistant_tag) == 0) {
        *found = ROLE_ASSISTANT;
    } else if (strcmp(role, keys->system_tag) == 0 || strcmp(role, "developer") == 0) {
        *found = ROLE_SYSTEM;
    } else {
        return record_unknown_role(keys, role, number, error);
    }
    return RECORD_GOOD;
}

// "weight" of an assistant message: 0 keeps it from being trained.
static RecordResult read_weight(const json_t *message, size_t number, bool *target, Error *error) {
    const json_t *weight = json_object_get(message, "weight");
    *target = true;
    if (!weight || json_is_null(weight)) return RECORD_GOOD;
    double value = json_is_number(weight) ? json_number_value(weight) : -1;
    if (value != 0 && value != 1) return record_bad(error, "\"weight\" is neither 0 nor 1 (message %zu)", number);
    *target = value != 0;
    return RECORD_GOOD;
}

static RecordResult read_message(const RecordKeys *keys, const json_t *value, size_t number, RecordMessage *message,
                                 Error *error) {
    RecordResult result = read_role(keys, value, number, &message->role, error);
    if (result == RECORD_GOOD) result = read_content(keys, value, number, &message->text, error);
    return result == RECORD_GOOD ? read_weight(value, number, &message->target, error) : result;
}

RecordResult record_read_openai(const RecordKeys *keys, const json_t *value, Record *record, Error *error) {
    return record_read_messages(keys, value, read_message, record, error);
}

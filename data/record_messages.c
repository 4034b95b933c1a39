// record_messages.c - the list of messages that ShareGPT's and OpenAI's records are.
#include "data/record_formats.h"

RecordResult record_unknown_role(const RecordKeys *keys, const char *role, size_t number, Error *error) {
    return record_bad(error, "unknown role \"%.40s\" (message %zu); known are \"%s\", \"%s\", \"%s\"", role, number,
                      keys->system_tag, keys->user_tag, keys->assistant_tag);
}

// *list is borrowed.
static RecordResult find_list(const RecordKeys *keys, const json_t *value, const json_t **list, Error *error) {
    *list = keys->messages ? json_object_get(value, keys->messages) : NULL;
    const char *name = keys->messages ? keys->messages : "messages";
    if (!*list || json_is_null(*list)) return record_bad(error, "\"%s\" is missing", name);
    if (!json_is_array(*list)) return record_bad(error, "\"%s\" is not a list", name);
    return RECORD_GOOD;
}

RecordResult record_read_messages(const RecordKeys *keys, const json_t *value, ReadMessage *read, Record *record,
                                  Error *error) {
    const json_t *list;
    const char *system;
    RecordResult result = find_list(keys, value, &list, error);
    if (result == RECORD_GOOD) result = record_string(value, keys->system, &system, error);
    for (size_t i = 0; result == RECORD_GOOD && i < json_array_size(list); i++) {
        RecordMessage message = {.role = ROLE_USER, .target = true};
        const json_t *item = json_array_get(list, i);
        if (!json_is_object(item)) return record_bad(error, "message %zu is not an object", i + 1);
        result = read(keys, item, i + 1, &message, error);
        if (result != RECORD_GOOD) return result;
        // the system text of the record stands back behind a system message
        if (i == 0 && message.role != ROLE_SYSTEM && system && *system &&
            !record_add(record, ROLE_SYSTEM, system, false, error))
            return RECORD_FAILED;
        if (!record_add(record, message.role, message.text, message.target, error)) return RECORD_FAILED;
    }
    return result == RECORD_GOOD ? record_refuse_tools(keys, value, error) : result;
}

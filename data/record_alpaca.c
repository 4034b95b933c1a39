// record_alpaca.c - {"instruction", "input", "output"} with optional "system" and "history", as LLaMA-Factory reads it.
#include "data/record_formats.h"

// Earlier turns: [[user, assistant], ...].
static RecordResult read_history(const RecordKeys *keys, const json_t *value, Record *record, Error *error) {
    const json_t *history = keys->history ? json_object_get(value, keys->history) : NULL;
    if (!history || json_is_null(history)) return RECORD_GOOD;
    if (!json_is_array(history)) return record_bad(error, "\"%s\" is not a list", keys->history);
    for (size_t i = 0; i < json_array_size(history); i++) {
        const json_t *pair = json_array_get(history, i);
        const char *user = json_string_value(json_array_get(pair, 0));
        const char *assistant = json_string_value(json_array_get(pair, 1));
        if (json_array_size(pair) != 2 || !user || !assistant)
            return record_bad(error, "\"%s\" is not a list of [user, assistant] pairs", keys->history);
        if (!record_add(record, ROLE_USER, user, true, error)) return RECORD_FAILED;
        if (!record_add(record, ROLE_ASSISTANT, assistant, true, error)) return RECORD_FAILED;
    }
    return RECORD_GOOD;
}

RecordResult record_read_alpaca(const RecordKeys *keys, const json_t *value, Record *record, Error *error) {
    const char *system, *instruction, *input, *output;
    RecordResult result = record_refuse_tools(keys, value, error);
    if (result == RECORD_GOOD) result = record_string(value, keys->system, &system, error);
    if (result == RECORD_GOOD) result = record_string(value, keys->prompt, &instruction, error);
    if (result == RECORD_GOOD) result = record_string(value, keys->query, &input, error);
    if (result == RECORD_GOOD) result = record_string(value, keys->response, &output, error);
    if (result != RECORD_GOOD) return result;
    if (!instruction) return record_bad(error, "\"%s\" is missing", keys->prompt ? keys->prompt : "instruction");
    if (!output) return record_bad(error, "no answer: \"%s\" is missing", keys->response ? keys->response : "output");
    if (system && *system && !record_add(record, ROLE_SYSTEM, system, false, error)) return RECORD_FAILED;
    result = read_history(keys, value, record, error);
    if (result != RECORD_GOOD) return result;
    if (!record_add(record, ROLE_USER, instruction, false, error)) return RECORD_FAILED;
    if (input && *input) record->messages[record->count - 1].input = input;
    return record_add(record, ROLE_ASSISTANT, output, true, error) ? RECORD_GOOD : RECORD_FAILED;
}

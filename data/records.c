// records.c - see records.h; the formats with a single prompt and answer or text are read here.
#include "data/records.h"
#include "data/record_formats.h"

RecordKeys record_keys(DataFormat format) {
    switch (format) {
    case FORMAT_ALPACA:
        return (RecordKeys){.prompt = "instruction",
                            .query = "input",
                            .response = "output",
                            .history = "history",
                            .system = "system",
                            .tools = "tools"};
    case FORMAT_SHAREGPT:
        return (RecordKeys){.messages = "conversations",
                            .system = "system",
                            .tools = "tools",
                            .role_tag = "from",
                            .content_tag = "value",
                            .user_tag = "human",
                            .assistant_tag = "gpt",
                            .system_tag = "system",
                            .function_tag = "function_call",
                            .observation_tag = "observation"};
    case FORMAT_OPENAI:
        return (RecordKeys){.messages = "messages",
                            .tools = "tools",
                            .role_tag = "role",
                            .content_tag = "content",
                            .user_tag = "user",
                            .assistant_tag = "assistant",
                            .system_tag = "system",
                            .function_tag = "function",
                            .observation_tag = "tool"};
    case FORMAT_PROMPT_COMPLETION:
        return (RecordKeys){.prompt = "prompt", .response = "completion"};
    case FORMAT_TEXT:
        return (RecordKeys){.text = "text"};
    case FORMAT_AUTO:
    case FORMAT_PLAIN:
        break;
    }
    return (RecordKeys){0};
}

RecordResult record_string(const json_t *object, const char *key, const char **text, Error *error) {
    *text = NULL;
    const json_t *value = key ? json_object_get(object, key) : NULL;
    if (!value || json_is_null(value)) return RECORD_GOOD;
    if (!json_is_string(value)) return record_bad(error, "\"%s\" is not a string", key);
    *text = json_string_value(value);
    return RECORD_GOOD;
}

RecordResult record_refuse_tools(const RecordKeys *keys, const json_t *value, Error *error) {
    const json_t *tools = keys->tools ? json_object_get(value, keys->tools) : NULL;
    bool none = !tools || json_is_null(tools) || (json_is_array(tools) && json_array_size(tools) == 0);
    if (json_is_string(tools)) {
        const char *text = json_string_value(tools);
        none = !*text || (text[0] == '[' && text[1] == ']' && !text[2]);
    }
    return none ? RECORD_GOOD : record_bad(error, "\"%s\": tools are not supported", keys->tools);
}

RecordResult record_read_prompt_completion(const RecordKeys *keys, const json_t *value, Record *record, Error *error) {
    record->kind = RECORD_COMPLETION;
    RecordResult result = record_string(value, keys->prompt, &record->prompt, error);
    if (result == RECORD_GOOD) result = record_string(value, keys->response, &record->completion, error);
    if (result != RECORD_GOOD) return result;
    if (!record->prompt) return record_bad(error, "\"%s\" is missing", keys->prompt ? keys->prompt : "prompt");
    if (!record->completion)
        return record_bad(error, "no answer: \"%s\" is missing", keys->response ? keys->response : "completion");
    if (!*record->completion) return record_bad(error, "empty answer: \"%s\"", keys->response);
    return RECORD_GOOD;
}

RecordResult record_read_text(const RecordKeys *keys, const json_t *value, Record *record, Error *error) {
    record->kind = RECORD_TEXT;
    RecordResult result = record_string(value, keys->text, &record->text, error);
    if (result != RECORD_GOOD) return result;
    if (!record->text) return record_bad(error, "\"%s\" is missing", keys->text ? keys->text : "text");
    return *record->text ? RECORD_GOOD : record_bad(error, "\"%s\" is empty", keys->text);
}

RecordResult record_from_json(DataFormat format, const RecordKeys *keys, const json_t *value, Record *record,
                              Error *error) {
    static RecordResult (*const readers[])(const RecordKeys *, const json_t *, Record *, Error *) = {
        [FORMAT_ALPACA] = record_read_alpaca, [FORMAT_SHAREGPT] = record_read_sharegpt,
        [FORMAT_OPENAI] = record_read_openai, [FORMAT_PROMPT_COMPLETION] = record_read_prompt_completion,
        [FORMAT_TEXT] = record_read_text,
    };
    record_clear(record);
    if (!json_is_object(value)) return record_bad(error, "the record is not a JSON object");
    RecordResult result = readers[format](keys, value, record, error);
    if (result != RECORD_GOOD || record->kind != RECORD_CHAT) return result;
    return record_check_chat(record, error);
}

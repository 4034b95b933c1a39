// template.c - messages to spans, by the rows of the template table.
#include "tokenizer/template_table.h"
#include <stdlib.h>
#include <string.h>

typedef struct Renderer {
    const ChatTemplate *chat;
    SpanList *list;
    Error *error;
    int turn;
} Renderer;

typedef struct Text {
    const char *data;
    size_t size;
} Text;

void span_list_free(SpanList *list) {
    free(list->spans);
    *list = (SpanList){0};
}

// ---- Python's str.strip() ----

// Bytes of the white space character at the start of text, 0 when there is none.
static size_t space_at(const unsigned char *text, size_t size) {
    if (size == 0) return 0;
    if (text[0] < 0x80) return text[0] == ' ' || (text[0] >= 9 && text[0] <= 13) || (text[0] >= 28 && text[0] <= 31);
    if (size >= 2 && text[0] == 0xc2) return text[1] == 0x85 || text[1] == 0xa0 ? 2 : 0; // U+0085, U+00A0
    if (size < 3) return 0;
    unsigned code = (text[0] & 15u) << 12 | (text[1] & 63u) << 6 | (text[2] & 63u);
    if ((text[0] & 0xf0) != 0xe0) return 0;
    bool space = code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 ||
                 code == 0x202f || code == 0x205f || code == 0x3000;
    return space ? 3 : 0;
}

static Text trim_start(Text text) {
    for (size_t space; (space = space_at((const unsigned char *)text.data, text.size)) > 0;) {
        text.data += space;
        text.size -= space;
    }
    return text;
}

static Text trim_end(Text text) {
    for (;;) {
        size_t start = text.size; // of the last character
        while (start > 0 && ((unsigned char)text.data[--start] & 0xc0) == 0x80) continue;
        if (start == text.size || space_at((const unsigned char *)text.data + start, text.size - start) == 0)
            return text;
        text.size = start;
    }
}

// ---- spans ----

static bool add_span(Renderer *render, Span span) {
    SpanList *list = render->list;
    if (list->count == list->capacity) {
        int capacity = list->capacity ? list->capacity * 2 : 32;
        Span *spans = realloc(list->spans, (size_t)capacity * sizeof *spans);
        if (!spans) return error_memory(render->error, "the spans of a conversation", (size_t)capacity * sizeof *spans);
        list->spans = spans;
        list->capacity = capacity;
    }
    span.turn = render->turn;
    list->spans[list->count++] = span;
    return true;
}

static bool add_text(Renderer *render, Text text, bool answer) {
    if (text.size == 0) return true;
    return add_span(render, (Span){.kind = SPAN_TEXT, .answer = answer, .text = text.data, .size = text.size});
}

bool template_token_at(const ChatTemplate *chat, const char *string, Span *span) {
    static const char *const names[] = {"<bos>", "<eos>"};
    for (int i = 0; i < 2; i++) {
        if (strncmp(string, names[i], 5) != 0) continue;
        *span = (Span){.kind = i == 0 ? SPAN_BOS : SPAN_EOS, .size = 5};
        return true;
    }
    for (int i = 0; i < 4 && chat->tokens[i]; i++) {
        size_t size = strlen(chat->tokens[i]);
        if (strncmp(string, chat->tokens[i], size) != 0) continue;
        *span = (Span){.kind = SPAN_TOKEN, .text = chat->tokens[i], .size = size};
        return true;
    }
    return false;
}

// A string of the table: its special tokens and the text between them.
static bool add_string(Renderer *render, const char *string, bool answer) {
    const char *text = string;
    for (const char *at = string;;) {
        Span token;
        bool found = *at && template_token_at(render->chat, at, &token);
        if (*at && !found) {
            at++;
            continue;
        }
        if (!add_text(render, (Text){text, (size_t)(at - text)}, answer)) return false;
        if (!found) return true;
        at += token.size;
        text = at;
        token.answer = answer;
        if (token.kind != SPAN_TOKEN) token.size = 0;
        if (!add_span(render, token)) return false;
    }
}

// ---- messages ----

typedef struct Conversation {
    const Message *messages; // without the system message
    int count;
    const char *system; // NULL: none
    int system_message; // the message that the system text goes into; -1: it has a block of its own
} Conversation;

static bool has_input(const Conversation *talk) {
    for (int i = 0; i < talk->count; i++)
        if (talk->messages[i].input && *talk->messages[i].input) return true;
    return false;
}

static Conversation open_conversation(const ChatTemplate *chat, const Message *messages, int count,
                                      const char *system) {
    Conversation talk = {messages, count, system, -1};
    if (count > 0 && messages[0].role == ROLE_SYSTEM) {
        talk.messages++;
        talk.count--;
        talk.system = messages[0].text;
    } else if (!system) {
        bool input = chat->system_default_input && has_input(&talk);
        talk.system = input ? chat->system_default_input : chat->system_default;
    } else if (!*system) {
        talk.system = NULL;
    }
    if (chat->system_place == SYSTEM_FIRST_USER) talk.system_message = 0;
    if (chat->system_place == SYSTEM_LAST_USER) talk.system_message = (talk.count - 1) / 2 * 2;
    return talk;
}

static bool check_roles(const Conversation *talk, bool generate, Error *error) {
    for (int i = 0; i < talk->count; i++) {
        Role expected = i % 2 == 0 ? ROLE_USER : ROLE_ASSISTANT;
        if (talk->messages[i].role == expected) continue;
        error_set(error, "message %d of the conversation must be the %s's", i + 1, i % 2 == 0 ? "user" : "assistant");
        return error_hint(error, "an optional system message comes first, then user and assistant in turn");
    }
    if (talk->count == 0) return error_set(error, "the conversation has no messages");
    if (generate == (talk->count % 2 == 1)) return true;
    return error_set(error, "the conversation must end with a message of the %s", generate ? "user" : "assistant");
}

static bool add_system(Renderer *render, const char *text) {
    if (!add_string(render, render->chat->system_before, false)) return false;
    Text system = {text, strlen(text)};
    if (render->chat->trim & TRIM_SYSTEM) system = trim_end(trim_start(system));
    return add_text(render, system, false) && add_string(render, render->chat->system_after, false);
}

// The text of a user message, trimmed as one string with the system text and the input that may be part of it.
static bool add_user_text(Renderer *render, const Message *message, const char *system) {
    const ChatTemplate *chat = render->chat;
    bool trim = chat->trim & TRIM_USER, input = message->input && *message->input;
    Text text = {message->text, strlen(message->text)};
    if (system && !add_system(render, system)) return false;
    if (trim && !system) text = trim_start(text);
    if (trim && !input) text = trim_end(text);
    if (!add_text(render, text, false)) return false;
    if (!input) return true;
    Text more = {message->input, strlen(message->input)};
    return add_string(render, chat->input_before, false) && add_text(render, trim ? trim_end(more) : more, false);
}

static bool add_user(Renderer *render, const Conversation *talk, int index) {
    const ChatTemplate *chat = render->chat;
    bool next = index > 0;
    if (chat->bos_each_turn && next && !add_string(render, "<bos>", false)) return false;
    if (!add_string(render, next && chat->user_next_before ? chat->user_next_before : chat->user_before, false))
        return false;
    return add_user_text(render, &talk->messages[index], index == talk->system_message ? talk->system : NULL) &&
           add_string(render, chat->user_after, false) && add_string(render, chat->answer_prompt, false);
}

static bool add_answer(Renderer *render, const Message *message) {
    const ChatTemplate *chat = render->chat;
    Text text = {message->text, strlen(message->text)};
    if (chat->trim & TRIM_ANSWER) text = trim_end(trim_start(text));
    if (!add_string(render, chat->answer_before, true) || !add_text(render, text, true) ||
        !add_string(render, chat->answer_after, true) || !add_string(render, chat->end, true))
        return false;
    render->turn++;
    return add_string(render, chat->end_after, false);
}

bool template_render(const ChatTemplate *chat, bool adds_bos, const Message *messages, int count, const char *system,
                     bool generate, SpanList *list, Error *error) {
    Renderer render = {chat, list, error, 0};
    Conversation talk = open_conversation(chat, messages, count, system);
    if (!check_roles(&talk, generate, error)) return false;
    bool bos = chat->bos == BOS_FIRST || (chat->bos == BOS_IF_ADDED && adds_bos);
    if (bos && !add_string(&render, "<bos>", false)) return false;
    if (chat->system_place == SYSTEM_BLOCK) {
        const char *text = talk.system ? talk.system : chat->system_always ? "" : NULL;
        if (text && !add_system(&render, text)) return false;
    }
    for (int i = 0; i < talk.count; i++) {
        bool ok = i % 2 == 0 ? add_user(&render, &talk, i) : add_answer(&render, &talk.messages[i]);
        if (!ok) return false;
    }
    return true;
}

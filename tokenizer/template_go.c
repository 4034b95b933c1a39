// template_go.c - a row of the template table as a Go template, as Ollama's Modelfile wants it.
//
// Ollama gives .System (the system text) and .Messages (with .Role and .Content). Every literal is a quoted Go string,
// as `{{-` would eat white space of plain text. A BOS at the start is left out: the model file says that one is put
// there. Ollama has no function that trims, so texts are taken as they are.
#include "tokenizer/template_table.h"
#include <string.h>

typedef struct Writer {
    const ChatTemplate *chat;
    const Tokenizer *tokenizer;
    Buffer *out;
    Error *error;
    bool ok;
} Writer;

static void put(Writer *w, const char *text) {
    w->ok = w->ok && buffer_text(w->out, text, w->error);
}

static void put_quoted(Writer *w, const char *text, size_t size) {
    for (size_t i = 0; i < size && w->ok; i++) {
        if (text[i] == '\n')
            put(w, "\\n");
        else {
            if (text[i] == '"' || text[i] == '\\') put(w, "\\");
            w->ok = w->ok && buffer_byte(w->out, text[i], w->error);
        }
    }
}

// A BOS or EOS by its text.
static void put_special(Writer *w, SpanKind kind) {
    Buffer text = BUFFER_EMPTY;
    int32_t id = kind == SPAN_BOS ? tokenizer_bos(w->tokenizer) : tokenizer_eos(w->tokenizer);
    w->ok = w->ok && (id < 0 || tokenizer_decode(w->tokenizer, id, true, &text, w->error));
    put_quoted(w, buffer_string(&text), text.size);
    buffer_free(&text);
}

// A string of the table inside a quoted literal.
static void put_part(Writer *w, const char *string) {
    for (const char *at = string; *at;) {
        Span token;
        bool found = template_token_at(w->chat, at, &token);
        if (found && token.kind != SPAN_TOKEN)
            put_special(w, token.kind);
        else
            put_quoted(w, at, found ? token.size : 1);
        at += found ? token.size : 1;
    }
}

// Strings of the table, up to three, as one quoted literal; nothing when all are empty.
static void put_strings(Writer *w, const char *first, const char *second, const char *third) {
    if (!*first && !*second && !*third) return;
    put(w, "{{ \"");
    put_part(w, first);
    put_part(w, second);
    put_part(w, third);
    put(w, "\" }}");
}

static void put_string(Writer *w, const char *string) {
    put_strings(w, string, "", "");
}

static void put_system(Writer *w) {
    put_string(w, w->chat->system_before);
    put(w, "{{ $.System }}");
    put_string(w, w->chat->system_after);
}

static void put_user(Writer *w) {
    const ChatTemplate *chat = w->chat;
    if (chat->user_next_before || chat->bos_each_turn) {
        put(w, "{{ if $next }}");
        put_strings(w, chat->bos_each_turn ? "<bos>" : "",
                    chat->user_next_before ? chat->user_next_before : chat->user_before, "");
        put(w, "{{ else }}");
        put_string(w, chat->user_before);
        put(w, "{{ end }}");
    } else {
        put_string(w, chat->user_before);
    }
    if (chat->system_place != SYSTEM_BLOCK) {
        bool first = chat->system_place == SYSTEM_FIRST_USER;
        put(w,
            first ? "{{ if and $.System (not $next) }}" : "{{ if and $.System (eq (len (slice $.Messages $i)) 1) }}");
        put_system(w);
        put(w, "{{ end }}");
    }
    put(w, "{{ .Content }}");
    put_strings(w, chat->user_after, chat->answer_prompt, "");
    put(w, "{{ $next = true }}");
}

static void put_answer(Writer *w) {
    const ChatTemplate *chat = w->chat;
    put_string(w, chat->answer_before);
    put(w, "{{ .Content }}");
    put_strings(w, chat->answer_after, chat->end, chat->end_after);
}

bool template_go(const ChatTemplate *chat, const Tokenizer *tokenizer, Buffer *go, Error *error) {
    Writer w = {chat, tokenizer, go, error, true};
    if (chat->system_place == SYSTEM_BLOCK) {
        if (!chat->system_always) put(&w, "{{ if .System }}");
        put_system(&w);
        if (!chat->system_always) put(&w, "{{ end }}");
        put(&w, "\n");
    }
    put(&w, "{{- $next := false }}\n{{- range $i, $_ := .Messages }}\n{{- if eq .Role \"user\" }}");
    put_user(&w);
    put(&w, "\n{{- else if eq .Role \"assistant\" }}");
    put_answer(&w);
    put(&w, "\n{{- end }}\n{{- end }}");
    return w.ok;
}

// template_jinja.c - a row of the template table as Jinja text, for the output directory.
//
// Every tag eats the white space around it, so the text renders the same whatever the renderer's trim_blocks says.
#include "tokenizer/template_table.h"
#include <string.h>

typedef struct Writer {
    const ChatTemplate *chat;
    Buffer *out;
    Error *error;
    bool ok;
    bool open; // inside an expression that has a term already
} Writer;

static void put(Writer *w, const char *text) {
    w->ok = w->ok && buffer_text(w->out, text, w->error);
}

static void put_literal(Writer *w, const char *text, size_t size) {
    put(w, "'");
    for (size_t i = 0; i < size && w->ok; i++) {
        if (text[i] == '\n')
            put(w, "\\n");
        else {
            if (text[i] == '\'' || text[i] == '\\') put(w, "\\");
            w->ok = w->ok && buffer_byte(w->out, text[i], w->error);
        }
    }
    put(w, "'");
}

static void term(Writer *w, const char *expression) {
    if (w->open) put(w, " + ");
    put(w, expression);
    w->open = true;
}

// The terms of a string of the table: its texts, bos_token, eos_token; adjacent text and named tokens are one literal.
static void string_terms(Writer *w, const char *string) {
    for (const char *text = string;;) {
        const char *at = text;
        Span token = {0};
        bool stop = false; // at a BOS or EOS
        while (*at && !stop) {
            bool found = template_token_at(w->chat, at, &token);
            stop = found && token.kind != SPAN_TOKEN;
            if (!stop) at += found ? token.size : 1;
        }
        if (at > text) {
            if (w->open) put(w, " + ");
            put_literal(w, text, (size_t)(at - text));
            w->open = true;
        }
        if (!stop) return;
        term(w, token.kind == SPAN_BOS ? "bos_token" : "eos_token");
        text = at + token.size;
    }
}

static void begin(Writer *w, const char *head) {
    put(w, head);
    w->open = false;
}

static void put_default(Writer *w, const char *system) {
    const ChatTemplate *chat = w->chat;
    put(w, JINJA_DEFAULT);
    if (system ? !*system : !chat->system_default)
        put(w, "none");
    else if (system)
        put_literal(w, system, strlen(system));
    else {
        put_literal(w, chat->system_default, strlen(chat->system_default));
        if (chat->system_default_input) {
            put(w, " if not messages | selectattr('input') | list else ");
            put_literal(w, chat->system_default_input, strlen(chat->system_default_input));
        }
    }
    put(w, " -%}\n");
}

static void put_system_block(Writer *w) {
    const ChatTemplate *chat = w->chat;
    put(w, chat->system_always ? "{%- set system = system if system is not none else '' -%}\n"
                               : "{%- if system is not none -%}\n    ");
    begin(w, "{{- ");
    string_terms(w, chat->system_before);
    term(w, chat->trim & TRIM_SYSTEM ? "system | trim" : "system");
    string_terms(w, chat->system_after);
    put(w, " -}}\n");
    if (!chat->system_always) put(w, "{%- endif -%}\n");
}

static void put_user_output(Writer *w, const char *before) {
    const ChatTemplate *chat = w->chat;
    begin(w, "{{- ");
    string_terms(w, before);
    term(w, chat->trim & TRIM_USER ? "text | trim" : "text");
    string_terms(w, chat->user_after);
    put(w, " -}}\n");
}

static void put_user(Writer *w) {
    const ChatTemplate *chat = w->chat;
    put(w, "    {%- if message['role'] == 'user' -%}\n        {%- set text = message['content'] -%}\n");
    if (chat->system_default_input) {
        begin(w, "        {%- if message['input'] -%}{%- set text = text + ");
        string_terms(w, chat->input_before);
        term(w, "message['input'] -%}{%- endif -%}\n");
    }
    if (chat->system_place != SYSTEM_BLOCK) {
        put(w, chat->system_place == SYSTEM_FIRST_USER
                   ? "        {%- if system is not none and loop.first -%}\n"
                   : "        {%- if system is not none and loop.index0 + 2 >= turns | length -%}\n");
        begin(w, "            {%- set text = ");
        string_terms(w, chat->system_before);
        term(w, "system");
        string_terms(w, chat->system_after);
        term(w, "text -%}\n        {%- endif -%}\n");
    }
    if (chat->bos_each_turn) put(w, "        {%- if not loop.first -%}{{- bos_token -}}{%- endif -%}\n");
    if (!chat->user_next_before) {
        put(w, "        ");
        put_user_output(w, chat->user_before);
        return;
    }
    put(w, "        {%- if loop.first -%}\n            ");
    put_user_output(w, chat->user_before);
    put(w, "        {%- else -%}\n            ");
    put_user_output(w, chat->user_next_before);
    put(w, "        {%- endif -%}\n");
}

static void put_answer(Writer *w) {
    const ChatTemplate *chat = w->chat;
    put(w, "    {%- elif message['role'] == 'assistant' -%}\n        ");
    begin(w, "{{- ");
    string_terms(w, chat->answer_prompt);
    string_terms(w, chat->answer_before);
    term(w, chat->trim & TRIM_ANSWER ? "message['content'] | trim" : "message['content']");
    string_terms(w, chat->answer_after);
    string_terms(w, chat->end);
    string_terms(w, chat->end_after);
    put(w, " -}}\n    {%- else -%}\n        {{- raise_exception('roles must be an optional system, then user and "
           "assistant in turn') -}}\n    {%- endif -%}\n");
}

bool template_write_jinja(const ChatTemplate *chat, bool adds_bos, const char *system, Buffer *jinja, Error *error) {
    Writer w = {chat, jinja, error, true, false};
    put(&w, JINJA_HEAD);
    put(&w, chat->name);
    put(&w, " -#}\n");
    put_default(&w, system);
    put(&w, "{%- if messages[0]['role'] == 'system' -%}\n    {%- set system = messages[0]['content'] -%}\n"
            "    {%- set turns = messages[1:] -%}\n{%- else -%}\n    {%- set system = default_system -%}\n"
            "    {%- set turns = messages -%}\n{%- endif -%}\n");
    if (chat->bos == BOS_FIRST || (chat->bos == BOS_IF_ADDED && adds_bos)) put(&w, "{{- bos_token -}}\n");
    if (chat->system_place == SYSTEM_BLOCK) put_system_block(&w);
    put(&w, "{%- for message in turns -%}\n");
    put_user(&w);
    put_answer(&w);
    put(&w, "{%- endfor -%}\n");
    if (*chat->answer_prompt) {
        begin(&w, "{%- if add_generation_prompt -%}{{- ");
        string_terms(&w, chat->answer_prompt);
        put(&w, " -}}{%- endif -%}\n");
    }
    return w.ok;
}

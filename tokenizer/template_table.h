// template_table.h - what a chat template is, as data. Inside tokenizer/ only.
#pragma once
#include "tokenizer/template.h"

typedef enum {
    BOS_NEVER,   // the family's Jinja has none
    BOS_FIRST,   // the Jinja starts with it
    BOS_IF_ADDED // a plain text format: where the tokenizer starts texts with it
} BosPlace;

typedef enum {
    SYSTEM_BLOCK,      // before the first user message
    SYSTEM_FIRST_USER, // inside the first user message, before its text
    SYSTEM_LAST_USER   // inside the last user message, before its text
} SystemPlace;

enum { TRIM_SYSTEM = 1, TRIM_USER = 2, TRIM_ANSWER = 4 };

// In the strings "<bos>" and "<eos>" stand for those tokens, and a text of `tokens` for the token of that name; all the
// rest is plain text. Never NULL except where it says so.
struct ChatTemplate {
    const char *name;
    const char *tokens[4]; // special tokens that occur in the strings; NULL ends them
    BosPlace bos;
    SystemPlace system_place;
    unsigned trim;                    // of the texts, as Python's str.strip()
    bool bos_each_turn;               // BOS before every user message (llama2)
    bool system_always;               // the system block stands even without system text (llama31)
    const char *system_default;       // NULL: none
    const char *system_default_input; // instead, when a message has an input; NULL: the same
    const char *system_before, *system_after;
    const char *user_before, *user_after;
    const char *user_next_before; // of the turns after the first; NULL: user_before
    const char *input_before;     // between a user message's text and its input
    const char *answer_prompt;    // what asks for an answer: not trained
    const char *answer_before;    // put before the answer's text, and trained with it
    const char *answer_after;     // and after
    const char *end;              // the end-of-turn token
    const char *end_after;        // what follows it even at the end of a conversation: not trained
    const char *stops[2];         // further tokens that end a turn; NULL ends them
};

extern const ChatTemplate chat_templates[];
extern const int chat_template_count;

// The special token that a string of the table starts with, as a span; its size is that of the name in the string.
// false when the string starts with plain text.
bool template_token_at(const ChatTemplate *chat, const char *string, Span *span);

// template_jinja with tokenizer_adds_bos' answer in the tokenizer's place.
bool template_write_jinja(const ChatTemplate *chat, bool adds_bos, const char *system, Buffer *jinja, Error *error);

// The first line of what template_write_jinja writes, up to the template's name, and what precedes the literal of the
// default system text.
#define JINJA_HEAD    "{#- Written by lisa for the template "
#define JINJA_DEFAULT "{%- set default_system = "

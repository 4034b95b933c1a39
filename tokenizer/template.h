// template.h - chat templates: how messages become the text and special tokens that a model was trained on.
//
// A template renders messages to spans that know what they are (special token, prompt text, answer text), so labels
// come from the spans and never from searching marker tokens in ids. The templates are rows of a table
// (tokenizer/template_table.c); rendering, encoding and the Jinja text that we write are made from the same row.
#pragma once
#include "tokenizer/tokenizer.h"

typedef enum { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT } Role;

typedef struct Message {
    Role role;
    const char *text;  // UTF-8, NUL-terminated
    const char *input; // Alpaca's "input" of a user message, NULL when there is none: the template alpaca has a form
                       // of its own for it, elsewhere it follows the text after a newline
} Message;

typedef struct ChatTemplate ChatTemplate; // constant data; never freed

// By the name of the `template` option; NULL when there is none of that name.
//
//   alpaca      Stanford's strings, with and without input; BOS where the tokenizer adds it
//   llama2      [INST] and <<SYS>>; no default system text, as its Jinja has none
//   llama3      Llama 3.0: header tokens, no default system text
//   llama31     Llama 3.1, 3.2, 3.3: always a system block with the dates, today's fixed at 26 Jul 2024
//   chatml      <|im_start|>, <|im_end|>; no default system text
//   smollm, qwen, qwen2   ChatML with the default system text of SmolLM2, Qwen2.5, Qwen2
//   zephyr      zephyr and TinyLlama-Chat
//   mistral_v1  Mistral-7B-Instruct v0.1, v0.2 (the Jinja of late 2024, which is the v1 tokenizer's format)
//   mistral_old the Jinja that v0.2 came with before that: no space before [INST] and before the answer
//   mistral_v3  v0.3: [INST] and [/INST] are tokens
//   vicuna      v1.1 and later; BOS where the tokenizer adds it
const ChatTemplate *template_by_name(const char *name);
const char *template_name(const ChatTemplate *chat);
// The names for `template`, ", "-separated, for messages.
const char *template_names(void);

// Finds the template whose Jinja text a model carries. *chat is NULL when it is none of ours with certainty: every
// statement of the text that puts something out must be one that the template is known to have (statements about tools
// aside). *system is the default system text of that Jinja where it is not the template's own, in memory of the
// caller's ("" when it has none), else NULL: what template_encode takes. Nothing of the text is executed.
// false only when memory runs out.
bool template_recognise(const char *jinja, const ChatTemplate **chat, char **system, Error *error);

// Appends the Jinja text for the output directory, such that transformers renders exactly what template_encode encodes
// with the same tokenizer and system. Messages may carry "input" under alpaca.
bool template_jinja(const ChatTemplate *chat, const Tokenizer *tokenizer, const char *system, Buffer *jinja,
                    Error *error);

// Appends the Go template of Ollama's Modelfile, which renders what template_encode encodes, up to a BOS at the start
// (Ollama puts it there) and the trimming of texts. The system text is Ollama's SYSTEM.
bool template_go(const ChatTemplate *chat, const Tokenizer *tokenizer, Buffer *go, Error *error);
// The system text that a conversation without one gets: system, or the template's own; NULL: none.
const char *template_system(const ChatTemplate *chat, const char *system);

// Chooses the template of a model: that of the name where there is one (the option `template`), else the one recognised
// from the model's own Jinja text. A model without any gets alpaca when alpaca_data is true, which is said in a line.
// *system as template_recognise gives it. Errors: no such name; none recognised, the hint then lists the names.
bool template_choose(const Tokenizer *tokenizer, const char *name, bool alpaca_data, const ChatTemplate **chat,
                     char **system, Error *error);

// ---- rendering ----

typedef enum { SPAN_TEXT, SPAN_TOKEN, SPAN_BOS, SPAN_EOS } SpanKind;

typedef struct Span {
    SpanKind kind;
    bool answer;      // part of an answer or its end-of-turn token: what is trained
    int turn;         // of which turn, from 0; what follows the last end-of-turn token has the number of turns
    const char *text; // [size] borrowed from the template or the messages; of a token, its name; NULL for BOS, EOS
    size_t size;      // bytes
} Span;

typedef struct SpanList {
    Span *spans;
    int count;
    int capacity;
} SpanList;

void span_list_free(SpanList *list);

// Appends the spans of a conversation: an optional system message, then user and assistant in turn, user first; it ends
// with an assistant's message, or with a user's when generate is true, and the prompt for the next answer is added.
// system: the system text where the messages bring none; NULL takes the template's own, "" none at all.
// adds_bos: what tokenizer_adds_bos says. Text is trimmed where the template trims.
bool template_render(const ChatTemplate *chat, bool adds_bos, const Message *messages, int count, const char *system,
                     bool generate, SpanList *list, Error *error);

// ---- encoding ----

// A user's message and the answer to it, as token indices.
typedef struct EncodedTurn {
    int64_t start;  // first token of the prompt: what separates it from the turn before, BOS and system text included
    int64_t answer; // first token of the answer
    int64_t end;    // one past the end-of-turn token
} EncodedTurn;

// One conversation as tokens. trained[i] is 1 for the tokens of an assistant's message and the end-of-turn token, which
// is the last that is trained: a newline after it (ChatML) is not, as no model is asked to write it.
typedef struct EncodedChat {
    TokenList tokens;
    uint8_t *trained;   // [tokens.count]
    EncodedTurn *turns; // [turn_count] the answered ones; tokens from the last one's end on belong to none
    int turn_count;
} EncodedChat;

void encoded_chat_free(EncodedChat *encoded);

// Encodes messages as rendered above into a zeroed EncodedChat. Runs of text are encoded jointly up to where an answer
// starts or ends: the model sees prompt ids and then generates ids. Ids equal transformers' apply_chat_template.
// Errors: the vocabulary lacks a token that the template needs (named).
bool template_encode(const ChatTemplate *chat, const Tokenizer *tokenizer, const Message *messages, int count,
                     const char *system, bool generate, EncodedChat *encoded, Error *error);

// The ids that end a turn under this template, the trained one first: generation stops at them and the output's
// eos_token_id lists them. At most TEMPLATE_STOPS; returns how many.
#define TEMPLATE_STOPS 4
int template_stop_ids(const ChatTemplate *chat, const Tokenizer *tokenizer, int32_t ids[TEMPLATE_STOPS]);

// template.h - chat templates: how messages become the text and special tokens that a model was trained on.
//
// A template renders messages to spans that know what they are (special token, prompt text, answer text), so labels
// come from the spans and never from searching marker tokens in ids.
#pragma once
#include "tokenizer/tokenizer.h"

typedef enum { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT } Role;

typedef struct Message {
    Role role;
    const char *text; // UTF-8, NUL-terminated
} Message;

typedef struct ChatTemplate ChatTemplate; // constant data; never freed

// By the name of the `template` option (alpaca, llama2, llama3, chatml, smollm, qwen, zephyr, mistral_v1, mistral_v3,
// vicuna, ...); NULL when there is none of that name.
const ChatTemplate *template_by_name(const char *name);
// The template whose Jinja text the model carries, recognised from it; NULL when it is none of ours.
const ChatTemplate *template_recognise(const char *jinja);
const char *template_name(const ChatTemplate *chat);
// The names for `template`, ", "-separated, for messages.
const char *template_names(void);
// The Jinja text written to the output directory, such that transformers renders what we trained on.
const char *template_jinja(const ChatTemplate *chat);

// One conversation as tokens. trained[i] is 1 for the tokens of an assistant message and the end-of-turn token that
// follows a complete one.
typedef struct EncodedChat {
    TokenList tokens;
    uint8_t *trained; // [tokens.count], caller's memory
} EncodedChat;

void encoded_chat_free(EncodedChat *encoded);

// Encodes messages (an optional system message, then user and assistant in turn). system: the text to use when the
// messages bring none; NULL takes the template's own default; "" none at all. With generate the prompt for the next
// assistant message is added, and the last message must be the user's. Ids equal transformers' apply_chat_template.
// Errors: the vocabulary lacks a token the template needs (named).
bool template_encode(const ChatTemplate *chat, const Tokenizer *tokenizer, const Message *messages, int count,
                     const char *system, bool generate, EncodedChat *encoded, Error *error);

// The ids that end a turn under this template: generation stops at them and the output's eos_token_id lists them.
int template_stop_ids(const ChatTemplate *chat, const Tokenizer *tokenizer, int32_t *ids, int capacity);

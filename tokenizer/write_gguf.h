// write_gguf.h - a tokenizer as GGUF metadata.
#pragma once
#include "base/gguf_write.h"
#include "tokenizer/template.h"

// What a model adds to its tokenizer.
typedef struct TokenizerFacts {
    const ChatTemplate *chat;  // NULL: none, or none that is known
    const char *chat_template; // its Jinja text; NULL: none
    const int32_t *ends;       // end tokens, first the one that ends a turn
    int end_count;
} TokenizerFacts;

// Appends all keys tokenizer.*: vocabulary (one token for each row of the embedding), special tokens, flags and chat
// template. Errors: a kind that llama.cpp has no place for, two tokens of one text.
bool tokenizer_put_metadata(const Tokenizer *tokenizer, const TokenizerFacts *facts, int64_t vocabulary,
                            GgufMetadata *metadata, Error *error);

// The parts of it that training may change, for a file that keeps the rest of its metadata.
// eos_token_id (eos, or the first end token when that is -1), eot_token_id and eom_token_id.
bool tokenizer_put_ends(const TokenizerFacts *facts, int32_t eos, GgufMetadata *metadata, Error *error);
// add_bos_token: llama.cpp and Ollama put a BOS before each chat when it is set, so it says whether the chats that were
// trained start with one (llama.cpp takes it for one with the template's). Without a known template: the tokenizer's.
bool tokenizer_chat_adds_bos(const Tokenizer *tokenizer, const ChatTemplate *chat);

// examples.h - how one record becomes the tokens and labels of an example.
//
// Labels come from the spans of the template: an answer and its end-of-turn token are trained, a prompt only with
// train_on_prompt. An example that is longer than cutoff_len is cut turn by turn as LLaMA-Factory does it: the prompt
// and the answer of a turn share the room that is left, in proportion when both are long; turns for which there is no
// room are left out, the last ones first, with mask_history the first ones. A cut answer has lost its end, and with it
// the end-of-turn token.
#pragma once
#include "data/record.h"

typedef struct ExampleMaker {
    const Tokenizer *tokenizer;
    const ChatTemplate *chat; // NULL: conversations are refused
    const char *system;       // of records that bring none; NULL: the template's own, "": none
    int64_t cutoff_len;       // tokens of an example at most; >= 2
    bool train_on_prompt;     // prompts are targets too
    bool mask_history;        // only the last answer of a conversation is a target
} ExampleMaker;

// Makes the tokens of a conversation or of a prompt with completion, into a zeroed EncodedChat. A completion follows
// its prompt without anything between the two and ends with EOS; BOS comes first where the tokenizer adds it.
// RECORD_BAD when no target is left within cutoff_len. context: an ExampleMaker, shared by any number of threads.
RecordResult example_encode(const void *context, const Record *record, EncodedChat *encoded, Error *error);

// Appends the ids of a part of a text, which is no example yet. context: an ExampleMaker.
bool example_encode_text(const void *context, const char *text, size_t size, TextPlace place, TokenList *ids,
                         Error *error);

// How many tokens of a prompt and the answer to it stay when the two get `room` tokens: the shorter one stays whole
// when it takes less than half of them, else both are cut in proportion (LLaMA-Factory's infer_seqlen).
void example_share_room(int64_t room, int64_t *prompt, int64_t *answer);

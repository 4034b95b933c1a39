// speaker.h - a model that speaks: weights, cache and sampling behind one call per answer.
#pragma once
#include "cli/setup.h"
#include "cli/speaker_plan.h"
#include "model/sample.h"

typedef struct Speaker {
    Setup setup;
    Backend *backend;
    SpeakerMemory memory; // weights, cache, and what feeds tokens to them
    Sampler sampler;
    float *logits;          // [V]
    TokenList fed;          // the tokens in the cache
    int64_t max_new_tokens; // of an answer
    bool raw;               // plain text is continued, without a template
    int32_t stops[TEMPLATE_STOPS + MODEL_EOS_MAX];
    int stop_count;
} Speaker;

typedef enum { ANSWER_ENDED, ANSWER_CUT } AnswerEnd; // by an end token; by max_new_tokens or the room there is

typedef struct Answer {
    Buffer text; // without the end token; UTF-8 whatever the model said
    int64_t prompt_tokens;
    int64_t new_tokens;
    double seconds; // of both
    AnswerEnd end;
} Answer;

// Called with each piece of text as it appears; pieces are cut between characters.
typedef void AnswerPiece(const char *bytes, size_t size);

// Loads the model and takes all memory: room for options' cutoff_len tokens, fewer when the model has fewer positions.
// Weights that do not fit are streamed (cli/speaker_plan.h).
// End with speaker_close, also after a failure.
bool speaker_open(Speaker *speaker, const Options *options, Error *error);
void speaker_close(Speaker *speaker);

// Encodes a conversation that ends with a user's message, ready for the next answer, and appends it to prompt. With raw
// it is one plain text, in which each further message of the user begins a line. Errors: nothing to encode.
bool speaker_encode(const Speaker *speaker, const Message *messages, int count, TokenList *prompt, Error *error);
// Answers: feeds what of the prompt is not in the cache yet, then draws token after token. piece may be NULL.
bool speaker_answer(Speaker *speaker, const TokenList *prompt, AnswerPiece *piece, Answer *answer, Error *error);
void answer_free(Answer *answer);

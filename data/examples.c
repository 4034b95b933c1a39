// examples.c - see examples.h.
#include "data/examples.h"
#include <stdlib.h>
#include <string.h>

void example_share_room(int64_t room, int64_t *prompt, int64_t *answer) {
    int64_t most = room; // for the answer
    if (*answer * 2 >= room) {
        if (*prompt * 2 < room)
            most = room - *prompt;
        else
            most = room * *answer / (*prompt + *answer);
    }
    if (*answer > most) *answer = most;
    if (*prompt > room - *answer) *prompt = room - *answer;
}

// What stays of each turn, as token ranges that begin where the turn's parts begin.
typedef struct Cut {
    int64_t *prompts; // [turns] tokens kept of the prompt
    int64_t *answers; // [turns] tokens kept of the answer; 0: the turn is left out
    bool tail;        // what follows the last turn stays too
} Cut;

static void cut_turns(const EncodedChat *encoded, int64_t room, bool last_first, Cut *cut) {
    int turns = encoded->turn_count;
    for (int i = 0; i < turns && room > 0; i++) {
        int turn = last_first ? turns - 1 - i : i;
        const EncodedTurn *at = &encoded->turns[turn];
        int64_t prompt = at->answer - at->start, answer = at->end - at->answer;
        example_share_room(room, &prompt, &answer);
        if (answer == 0) break; // nothing of it could be learnt, and no turn beyond it would have room
        cut->prompts[turn] = prompt;
        cut->answers[turn] = answer;
        room -= prompt + answer;
    }
    const EncodedTurn *last = &encoded->turns[turns - 1];
    int64_t tail = encoded->tokens.count - last->end;
    cut->tail = cut->answers[turns - 1] == last->end - last->answer && tail <= room;
}

// Moves the kept tokens to the front, in place.
typedef struct Mover {
    EncodedChat *encoded;
    int64_t count; // tokens kept so far
} Mover;

static void move(Mover *mover, int64_t start, int64_t count, bool trained) {
    EncodedChat *encoded = mover->encoded;
    if (count == 0) return;
    memmove(encoded->tokens.ids + mover->count, encoded->tokens.ids + start,
            (size_t)count * sizeof *encoded->tokens.ids);
    memset(encoded->trained + mover->count, trained, (size_t)count);
    mover->count += count;
}

// Keeps what `cut` says and marks the targets. weights: [turns] whether the answer of a turn is one.
static void keep_turns(EncodedChat *encoded, const Cut *cut, const bool *weights, bool train_on_prompt) {
    Mover mover = {encoded, 0};
    int64_t tail_start = encoded->turns[encoded->turn_count - 1].end;
    int64_t tail = encoded->tokens.count - tail_start;
    int kept = 0;
    for (int i = 0; i < encoded->turn_count; i++) {
        EncodedTurn old = encoded->turns[i], *now = &encoded->turns[kept];
        if (cut->answers[i] == 0) continue;
        now->start = mover.count;
        move(&mover, old.start, cut->prompts[i], train_on_prompt);
        now->answer = mover.count;
        move(&mover, old.answer, cut->answers[i], weights[i]);
        now->end = mover.count;
        kept++;
    }
    if (cut->tail) move(&mover, tail_start, tail, false);
    encoded->turn_count = kept;
    encoded->tokens.count = mover.count;
}

static bool has_target(const EncodedChat *encoded) {
    return encoded->tokens.count > 1 && memchr(encoded->trained + 1, 1, (size_t)encoded->tokens.count - 1) != NULL;
}

// Cuts an encoded conversation to cutoff_len and marks its targets.
static RecordResult finish(const ExampleMaker *maker, const bool *weights, EncodedChat *encoded, Error *error) {
    int turns = encoded->turn_count;
    Cut cut = {calloc((size_t)turns, sizeof(int64_t)), calloc((size_t)turns, sizeof(int64_t)), false};
    RecordResult result = RECORD_FAILED;
    if (!cut.prompts || !cut.answers) {
        error_memory(error, "the turns of a conversation", 2 * (size_t)turns * sizeof(int64_t));
        goto done;
    }
    int64_t length = encoded->tokens.count;
    cut_turns(encoded, maker->cutoff_len, maker->mask_history, &cut);
    keep_turns(encoded, &cut, weights, maker->train_on_prompt);
    result = RECORD_GOOD;
    if (!has_target(encoded))
        result = record_bad(error, "no target is left: the record has %lld tokens, cutoff_len is %lld",
                            (long long)length, (long long)maker->cutoff_len);
done:
    free(cut.prompts);
    free(cut.answers);
    return result;
}

static RecordResult encode_chat(const ExampleMaker *maker, const Record *record, EncodedChat *encoded, Error *error) {
    if (!maker->chat) {
        error_set(error, "conversations need a chat template");
        error_hint(error, "give one: template=..., of %s", template_names());
        return RECORD_FAILED;
    }
    const Message *messages = record->messages;
    int skip = messages[0].role == ROLE_SYSTEM && !*messages[0].text; // an empty system text is none
    if (!template_encode(maker->chat, maker->tokenizer, messages + skip, record->count - skip, maker->system, false,
                         encoded, error))
        return RECORD_FAILED;
    bool *weights = calloc((size_t)encoded->turn_count, sizeof *weights);
    if (!weights) {
        error_memory(error, "the turns of a conversation", (size_t)encoded->turn_count * sizeof *weights);
        return RECORD_FAILED;
    }
    for (int i = 0, turn = 0; i < record->count; i++) {
        if (messages[i].role != ROLE_ASSISTANT) continue;
        weights[turn] = record->weights[i] && (!maker->mask_history || turn == encoded->turn_count - 1);
        turn++;
    }
    RecordResult result = finish(maker, weights, encoded, error);
    free(weights);
    return result;
}

static RecordResult encode_completion(const ExampleMaker *maker, const Record *record, EncodedChat *encoded,
                                      Error *error) {
    const Tokenizer *tokenizer = maker->tokenizer;
    TokenList *ids = &encoded->tokens;
    int32_t bos = tokenizer_adds_bos(tokenizer) ? tokenizer_bos(tokenizer) : -1, eos = tokenizer_eos(tokenizer);
    TextPlace place = *record->prompt ? TEXT_CONTINUES : TEXT_FIRST;
    encoded->turns = calloc(1, sizeof *encoded->turns);
    if (!encoded->turns) {
        error_memory(error, "an example", sizeof *encoded->turns);
        return RECORD_FAILED;
    }
    if (bos >= 0 && !token_list_append(ids, bos, error)) return RECORD_FAILED;
    if (*record->prompt && !tokenizer_encode(tokenizer, record->prompt, strlen(record->prompt), TEXT_FIRST, ids, error))
        return RECORD_FAILED;
    encoded->turns[0].answer = ids->count;
    if (!tokenizer_encode(tokenizer, record->completion, strlen(record->completion), place, ids, error))
        return RECORD_FAILED;
    if (eos >= 0 && !token_list_append(ids, eos, error)) return RECORD_FAILED;
    encoded->turns[0].end = ids->count;
    encoded->turn_count = 1;
    encoded->trained = calloc((size_t)ids->count + 1, 1);
    if (!encoded->trained) {
        error_memory(error, "an example", (size_t)ids->count + 1);
        return RECORD_FAILED;
    }
    return finish(maker, &(bool){true}, encoded, error);
}

RecordResult example_encode(const void *context, const Record *record, EncodedChat *encoded, Error *error) {
    RecordResult result = record->kind == RECORD_CHAT ? encode_chat(context, record, encoded, error)
                                                      : encode_completion(context, record, encoded, error);
    if (result != RECORD_GOOD) encoded_chat_free(encoded);
    return result;
}

bool example_encode_text(const void *context, const char *text, size_t size, TextPlace place, TokenList *ids,
                         Error *error) {
    const ExampleMaker *maker = context;
    return tokenizer_encode(maker->tokenizer, text, size, place, ids, error);
}

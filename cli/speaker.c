// speaker.c - see speaker.h.
#include "cli/speaker.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "kernels/backends.h"
#include <stdlib.h>
#include <string.h>

#define REFEED_SHARE 4 // a cache is filled anew when more than 1 / this of the prompt is not in it yet

// ---- opening

// Chooses where everything lies, and takes the memory.
static bool take_memory(Speaker *speaker, const Options *options, Error *error) {
    const ModelConfig *config = speaker->setup.config;
    SpeakerPlan plan;
    SpeakerRequest request = {.config = config,
                              .backend = speaker->backend,
                              .capacity = options->data.cutoff_len,
                              .memory_limit = options->vram.bytes[0],
                              .scratch_dir = setup_scratch_dir(options)};
    if (request.capacity > config->max_positions) request.capacity = config->max_positions;
    if (!speaker_memory_create(&speaker->memory, &plan, &request, error)) return false;
    speaker_plan_tell(&plan, &request);
    return true;
}

static void add_stop(Speaker *speaker, int32_t id) {
    for (int i = 0; i < speaker->stop_count; i++)
        if (speaker->stops[i] == id) return;
    if (id >= 0) speaker->stops[speaker->stop_count++] = id;
}

// The template's end tokens and those of the configuration.
static void collect_stops(Speaker *speaker) {
    const Setup *setup = &speaker->setup;
    int32_t ids[TEMPLATE_STOPS];
    int count = setup->chat ? template_stop_ids(setup->chat, setup->tokenizer, ids) : 0;
    for (int i = 0; i < count; i++) add_stop(speaker, ids[i]);
    for (int i = 0; i < setup->config->eos_count; i++) add_stop(speaker, setup->config->eos[i]);
}

bool speaker_open(Speaker *speaker, const Options *options, Error *error) {
    *speaker = (Speaker){.max_new_tokens = options->max_new_tokens, .raw = options->raw};
    if (!setup_open(&speaker->setup, options, error)) return false;
    if (!options->raw && !setup_choose_template(&speaker->setup, options, error)) return false;
    const ModelConfig *config = speaker->setup.config;
    size_t bytes = (size_t)config->vocabulary * sizeof *speaker->logits;
    speaker->backend = backend_open(options->device, (int)options->threads, error);
    if (!speaker->backend || !model_config_fits(config, speaker->backend, error)) return false;
    if (!take_memory(speaker, options, error)) return false;
    speaker->logits = malloc(bytes);
    if (!speaker->logits) return error_memory(error, "the logits", bytes);
    collect_stops(speaker);
    return setup_load(speaker->setup.source, &speaker->memory.store, speaker->backend, error) &&
           sampler_create(&speaker->sampler, config->vocabulary, options->temperature, options->top_p,
                          options->train.seed, error);
}

void speaker_close(Speaker *speaker) {
    sampler_free(&speaker->sampler);
    speaker_memory_free(&speaker->memory);
    token_list_free(&speaker->fed);
    free(speaker->logits);
    if (speaker->backend) speaker->backend->destroy(speaker->backend);
    setup_close(&speaker->setup);
    *speaker = (Speaker){0};
}

// ---- answering

static bool encode_raw(const Tokenizer *tokenizer, const Message *messages, int count, TokenList *prompt,
                       Error *error) {
    int32_t bos = tokenizer_adds_bos(tokenizer) ? tokenizer_bos(tokenizer) : -1;
    Buffer text = BUFFER_EMPTY;
    bool good = bos < 0 || token_list_append(prompt, bos, error);
    for (int i = 0; i < count && good; i++)
        good = buffer_text(&text, i > 0 && messages[i].role == ROLE_USER ? "\n" : "", error) &&
               buffer_text(&text, messages[i].text, error);
    good = good && tokenizer_encode(tokenizer, buffer_string(&text), text.size, TEXT_FIRST, prompt, error);
    buffer_free(&text);
    if (!good || prompt->count > 0) return good;
    error_usage(error, "prompt: empty");
    return error_hint(error, "add -p \"the beginning of a text\", or leave out --raw");
}

bool speaker_encode(const Speaker *speaker, const Message *messages, int count, TokenList *prompt, Error *error) {
    const Setup *setup = &speaker->setup;
    if (speaker->raw) return encode_raw(setup->tokenizer, messages, count, prompt, error);
    EncodedChat encoded = {0};
    bool good = template_encode(setup->chat, setup->tokenizer, messages, count, setup->system, true, &encoded, error);
    for (int64_t i = 0; good && i < encoded.tokens.count; i++)
        good = token_list_append(prompt, encoded.tokens.ids[i], error);
    encoded_chat_free(&encoded);
    return good;
}

static bool feed(Speaker *speaker, const int32_t *ids, int64_t count, Error *error) {
    if (!decoder_feed(&speaker->memory.decoder, ids, count, speaker->logits, error)) return false;
    for (int64_t i = 0; i < count; i++)
        if (!token_list_append(&speaker->fed, ids[i], error)) return false;
    return true;
}

static void forget(Speaker *speaker) {
    decoder_reset(&speaker->memory.decoder);
    speaker->fed.count = 0;
}

// Whole prompts go through each layer at once, further tokens one by one, so a long rest is fed with all before it.
static bool feed_prompt(Speaker *speaker, const TokenList *prompt, Error *error) {
    int64_t known = speaker->fed.count;
    bool continues = known > 0 && known < prompt->count &&
                     !memcmp(speaker->fed.ids, prompt->ids, (size_t)known * sizeof *prompt->ids);
    if (!continues || (prompt->count - known) * REFEED_SHARE > prompt->count) {
        forget(speaker);
        known = 0;
    }
    bool good = feed(speaker, prompt->ids + known, prompt->count - known, error);
    if (!good) forget(speaker);
    return good;
}

static bool is_stop(const Speaker *speaker, int32_t id) {
    for (int i = 0; i < speaker->stop_count; i++)
        if (speaker->stops[i] == id) return true;
    return false;
}

// How many bytes at the end belong to a character that is not complete yet.
static size_t incomplete_tail(const char *text, size_t size) {
    for (size_t back = 1; back <= 3 && back <= size; back++) {
        unsigned char c = (unsigned char)text[size - back];
        if ((c & 0xc0) == 0x80) continue;
        size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
        return length > back ? back : 0;
    }
    return 0;
}

// Moves what is complete of the pending bytes to the answer, and shows it; last: all of them, whatever they are.
static bool hand_over(Buffer *pending, bool last, AnswerPiece *piece, Answer *answer, Error *error) {
    size_t before = answer->text.size;
    size_t size = pending->size - (last ? 0 : incomplete_tail(pending->data, pending->size));
    if (size == 0) return true;
    if (!utf8_append(&answer->text, pending->data, size, error)) return false;
    pending->size -= size;
    memmove(pending->data, pending->data + size, pending->size + 1); // the final NUL with it
    if (piece) piece(answer->text.data + before, answer->text.size - before);
    return true;
}

static void drop_space(Buffer *text) {
    if (text->size == 0 || text->data[0] != ' ') return;
    memmove(text->data, text->data + 1, text->size); // the final NUL with it
    text->size--;
}

static bool no_numbers(Error *error) {
    error_set(error, "the model gives no numbers as logits: its weights are damaged");
    return error_hint(error, "get the model again, or train it again with a lower learning_rate");
}

static bool draw_tokens(Speaker *speaker, Buffer *pending, AnswerPiece *piece, Answer *answer, Error *error) {
    answer->end = ANSWER_CUT;
    while (answer->new_tokens < speaker->max_new_tokens && speaker->fed.count < speaker->memory.decoder.capacity) {
        int32_t id = sampler_next(&speaker->sampler, speaker->logits, speaker->fed.count);
        if (id < 0) return no_numbers(error);
        if (is_stop(speaker, id)) {
            answer->end = ANSWER_ENDED;
            break;
        }
        answer->new_tokens++;
        if (!tokenizer_decode(speaker->setup.tokenizer, id, false, pending, error)) return false;
        // The first token of an answer brings the space that SentencePiece puts before a word.
        if (answer->new_tokens == 1 && !speaker->raw) drop_space(pending);
        if (!hand_over(pending, false, piece, answer, error) || !feed(speaker, &id, 1, error)) return false;
    }
    return hand_over(pending, true, piece, answer, error);
}

bool speaker_answer(Speaker *speaker, const TokenList *prompt, AnswerPiece *piece, Answer *answer, Error *error) {
    double started = clock_seconds();
    Buffer pending = BUFFER_EMPTY; // bytes of tokens that are not a whole character yet
    *answer = (Answer){.prompt_tokens = prompt->count};
    bool good = feed_prompt(speaker, prompt, error) && draw_tokens(speaker, &pending, piece, answer, error);
    buffer_free(&pending);
    answer->seconds = clock_seconds() - started;
    if (!good) answer_free(answer);
    return good;
}

void answer_free(Answer *answer) {
    buffer_free(&answer->text);
}

// template_encode.c - the spans of a conversation to token ids.
#include "tokenizer/template_table.h"
#include <stdlib.h>
#include <string.h>

void encoded_chat_free(EncodedChat *encoded) {
    token_list_free(&encoded->tokens);
    free(encoded->trained);
    free(encoded->turns);
    *encoded = (EncodedChat){0};
}

static bool append_token(const ChatTemplate *chat, const Tokenizer *tokenizer, const Span *span, TokenList *ids,
                         Error *error) {
    int32_t id = span->kind == SPAN_BOS   ? tokenizer_bos(tokenizer)
                 : span->kind == SPAN_EOS ? tokenizer_eos(tokenizer)
                                          : tokenizer_special(tokenizer, span->text);
    if (id >= 0) return token_list_append(ids, id, error);
    if (span->kind == SPAN_BOS) return true; // transformers too renders the BOS of a vocabulary without one as nothing
    error_set(error, "template %s needs the token %s, which the model's vocabulary does not have", chat->name,
              span->kind == SPAN_EOS ? "EOS" : span->text);
    return error_hint(error, "choose the template of the model's family; alpaca, zephyr and vicuna need EOS only");
}

// Appends the texts of spans [first, last) as one.
static bool append_text(const Tokenizer *tokenizer, const Span *spans, int first, int last, Buffer *text,
                        TokenList *ids, Error *error) {
    // a BOS that the template writes counts: transformers finds it in the text that it encodes
    TextPlace place = ids->count == 0 ? TEXT_FIRST : TEXT_AFTER_SPECIAL;
    if (first > 0 && spans[first - 1].kind == SPAN_TEXT) place = TEXT_CONTINUES;
    if (last == first + 1) return tokenizer_encode(tokenizer, spans[first].text, spans[first].size, place, ids, error);
    buffer_clear(text);
    for (int i = first; i < last; i++)
        if (!buffer_append(text, spans[i].text, spans[i].size, error)) return false;
    return tokenizer_encode(tokenizer, text->data, text->size, place, ids, error);
}

static bool encode_spans(const ChatTemplate *chat, const Tokenizer *tokenizer, const SpanList *list,
                         EncodedChat *encoded, Buffer *text, Error *error) {
    const Span *spans = list->spans;
    TokenList *ids = &encoded->tokens;
    for (int i = 0, next; i < list->count; i = next) {
        const Span *span = &spans[i];
        EncodedTurn *turn = &encoded->turns[span->turn];
        bool enters = i == 0 || spans[i - 1].turn != span->turn;
        if (enters) *turn = (EncodedTurn){ids->count, -1, -1};
        if (span->answer && turn->answer < 0) turn->answer = ids->count;
        for (next = i + 1; span->kind == SPAN_TEXT && next < list->count && spans[next].kind == SPAN_TEXT &&
                           spans[next].answer == span->answer;)
            next++;
        bool ok = span->kind == SPAN_TEXT ? append_text(tokenizer, spans, i, next, text, ids, error)
                                          : append_token(chat, tokenizer, span, ids, error);
        if (!ok) return false;
        if (span->answer) turn->end = ids->count;
    }
    return true;
}

bool template_encode(const ChatTemplate *chat, const Tokenizer *tokenizer, const Message *messages, int count,
                     const char *system, bool generate, EncodedChat *encoded, Error *error) {
    SpanList list = {0};
    Buffer text = BUFFER_EMPTY;
    bool ok = template_render(chat, tokenizer_adds_bos(tokenizer), messages, count, system, generate, &list, error);
    if (!ok) goto done;
    // one entry more than turns: what follows the last answer
    int turns = list.spans[list.count - 1].turn + 1;
    encoded->turns = calloc((size_t)turns + 1, sizeof *encoded->turns);
    if (!encoded->turns) {
        ok = error_memory(error, "the turns of a conversation", (size_t)turns * sizeof *encoded->turns);
        goto done;
    }
    encoded->turn_count = (count - (messages[0].role == ROLE_SYSTEM)) / 2;
    ok = encode_spans(chat, tokenizer, &list, encoded, &text, error);
    if (!ok) goto done;
    encoded->trained = calloc((size_t)encoded->tokens.count + 1, 1);
    if (!encoded->trained) {
        ok = error_memory(error, "the labels of a conversation", (size_t)encoded->tokens.count + 1);
        goto done;
    }
    for (int i = 0; i < encoded->turn_count; i++)
        memset(encoded->trained + encoded->turns[i].answer, 1,
               (size_t)(encoded->turns[i].end - encoded->turns[i].answer));
done:
    buffer_free(&text);
    span_list_free(&list);
    if (!ok) encoded_chat_free(encoded);
    return ok;
}

int template_stop_ids(const ChatTemplate *chat, const Tokenizer *tokenizer, int32_t ids[TEMPLATE_STOPS]) {
    int32_t eos = tokenizer_eos(tokenizer);
    int32_t candidates[TEMPLATE_STOPS] = {
        strcmp(chat->end, "<eos>") != 0 ? tokenizer_special(tokenizer, chat->end) : eos, eos, -1, -1};
    for (int i = 0; i < 2 && chat->stops[i]; i++) candidates[2 + i] = tokenizer_special(tokenizer, chat->stops[i]);
    int count = 0;
    for (int i = 0; i < TEMPLATE_STOPS; i++) {
        bool known = candidates[i] < 0;
        for (int j = 0; j < count; j++) known = known || ids[j] == candidates[i];
        if (!known) ids[count++] = candidates[i];
    }
    return count;
}

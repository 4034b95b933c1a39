// generate.c - `lisa generate`: one prompt, one answer.
#include "base/utf8.h"
#include "cli/command.h"
#include "cli/report.h"
#include "cli/speaker.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_piece(const char *bytes, size_t size) {
    fwrite(bytes, 1, size, stdout);
    fflush(stdout);
}

// The prompt of the options, or all of stdin without its last line end.
static bool read_prompt(const Options *options, Buffer *prompt, Error *error) {
    if (options->prompt) return buffer_text(prompt, options->prompt, error);
    if (isatty(STDIN_FILENO)) {
        error_usage(error, "prompt is not given");
        return error_hint(error, "add -p \"a question\", or pipe the prompt in");
    }
    char part[4096];
    for (size_t got; (got = fread(part, 1, sizeof part, stdin)) > 0;)
        if (!buffer_append(prompt, part, got, error)) return false;
    if (ferror(stdin)) return error_system(error, "cannot read", "stdin");
    if (prompt->size && prompt->data[prompt->size - 1] == '\n') prompt->data[--prompt->size] = 0;
    return true;
}

static bool not_text(Error *error) {
    error_usage(error, "prompt: not UTF-8 text");
    return error_hint(error, "convert it first, as in: iconv -f LATIN1 -t UTF-8 prompt.txt | lisa generate ...");
}

static bool encode_prompt(const Speaker *speaker, const Buffer *prompt, TokenList *ids, Error *error) {
    if (!utf8_valid(buffer_string(prompt), prompt->size) || strlen(buffer_string(prompt)) != prompt->size)
        return not_text(error);
    Message message = {.role = ROLE_USER, .text = buffer_string(prompt)};
    return speaker_encode(speaker, &message, 1, ids, error);
}

static json_t *id_list(const TokenList *ids, int64_t first, int64_t end) {
    json_t *list = json_array();
    for (int64_t i = first; i < end; i++) json_array_append_new(list, json_integer(ids->ids[i]));
    return list;
}

// The ids that were fed are the prompt's and then the answer's, its end token not among them.
static bool print_json(const Answer *answer, const TokenList *fed, Error *error) {
    Report report;
    report_start(&report);
    report_value(&report, "text", json_stringn(buffer_string(&answer->text), answer->text.size));
    report_integer(&report, "prompt_tokens", answer->prompt_tokens);
    report_integer(&report, "new_tokens", answer->new_tokens);
    report_text(&report, "finish_reason", answer->end == ANSWER_ENDED ? "stop" : "length");
    report_number(&report, "seconds", answer->seconds);
    report_value(&report, "prompt_ids", id_list(fed, 0, answer->prompt_tokens));
    report_value(&report, "ids", id_list(fed, answer->prompt_tokens, fed->count));
    return report_print(&report, true, error);
}

int command_generate(const Options *options, Error *error) {
    Speaker speaker = {0};
    Answer answer = {0};
    Buffer prompt = BUFFER_EMPTY;
    TokenList ids = {0};
    bool good = read_prompt(options, &prompt, error) && speaker_open(&speaker, options, error) &&
                encode_prompt(&speaker, &prompt, &ids, error) &&
                speaker_answer(&speaker, &ids, options->json ? NULL : print_piece, &answer, error);
    if (good && options->json)
        good = print_json(&answer, &speaker.fed, error);
    else if (good)
        putchar('\n');
    answer_free(&answer);
    token_list_free(&ids);
    buffer_free(&prompt);
    speaker_close(&speaker);
    return good ? 0 : ERROR_EXIT_FAILED;
}

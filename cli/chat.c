// chat.c - `lisa chat`: a conversation on the terminal.
#include "base/utf8.h"
#include "cli/command.h"
#include "cli/report.h"
#include "cli/speaker.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The conversation so far.
typedef struct Conversation {
    Message *messages; // [count]
    char **texts;      // [count] their texts, which are owned
    int count;
    int capacity;
} Conversation;

static bool conversation_add(Conversation *talk, Role role, const char *text, Error *error) {
    if (talk->count == talk->capacity) {
        int capacity = talk->capacity ? 2 * talk->capacity : 16;
        Message *messages = realloc(talk->messages, (size_t)capacity * sizeof *messages);
        if (messages) talk->messages = messages;
        char **texts = realloc(talk->texts, (size_t)capacity * sizeof *texts);
        if (texts) talk->texts = texts;
        if (!messages || !texts) return error_memory(error, "the conversation", (size_t)capacity * sizeof *messages);
        talk->capacity = capacity;
    }
    char *copy = strdup(text);
    if (!copy) return error_memory(error, "the conversation", strlen(text) + 1);
    talk->texts[talk->count] = copy;
    talk->messages[talk->count++] = (Message){.role = role, .text = copy};
    return true;
}

static void conversation_cut(Conversation *talk, int count) {
    while (talk->count > count) free(talk->texts[--talk->count]);
}

static void print_piece(const char *bytes, size_t size) {
    fwrite(bytes, 1, size, stdout);
    fflush(stdout);
}

// Says something to the person, which is not part of any answer.
static void say(const char *text) {
    fprintf(stderr, "%s\n", text);
}

// One question and its answer. What goes wrong here ends the question, not the conversation. piece may be NULL.
static void answer_line(Speaker *speaker, Conversation *talk, AnswerPiece *piece, const char *line) {
    Error error = {0};
    TokenList prompt = {0};
    Answer answer = {0};
    int before = talk->count;
    bool good = utf8_valid(line, strlen(line)) || error_set(&error, "that is not UTF-8 text");
    good = good && conversation_add(talk, ROLE_USER, line, &error) &&
           speaker_encode(speaker, talk->messages, talk->count, &prompt, &error) &&
           speaker_answer(speaker, &prompt, piece, &answer, &error);
    if (good) {
        if (piece) piece("\n", 1);
        if (answer.end == ANSWER_CUT) say("(cut: max_new_tokens or cutoff_len is reached)");
        good = conversation_add(talk, ROLE_ASSISTANT, buffer_string(&answer.text), &error);
    }
    if (!good) {
        conversation_cut(talk, before);
        fprintf(stderr, "%s\n%s%s/reset starts anew\n", error.text, error.hint, *error.hint ? "; " : "");
    }
    answer_free(&answer);
    token_list_free(&prompt);
}

static bool set_system(Speaker *speaker, Conversation *talk, const char *text, Error *error) {
    if (speaker->raw) {
        say("(plain text has no system text)");
        return true;
    }
    char *copy = strdup(text);
    if (!copy) return error_memory(error, "the system text", strlen(text) + 1);
    free(speaker->setup.system);
    speaker->setup.system = copy;
    conversation_cut(talk, 0);
    say("(system text set, new conversation)");
    return true;
}

// Carries out a line that starts with a slash; *leave: /exit.
static bool run_slash(Speaker *speaker, Conversation *talk, const char *line, bool *leave, Error *error) {
    if (!strcmp(line, "/exit") || !strcmp(line, "/quit")) {
        *leave = true;
    } else if (!strcmp(line, "/reset")) {
        conversation_cut(talk, 0);
        say("(new conversation)");
    } else if (!strncmp(line, "/system", 7) && (line[7] == ' ' || !line[7])) {
        return set_system(speaker, talk, line[7] ? line + 8 : "", error);
    } else {
        say("/reset starts anew, /system TEXT sets the system text, /exit leaves");
    }
    return true;
}

// {"messages": [{"role": "user", "content": "..."}, ...]}, as a data set has it
static bool print_json(const Conversation *talk, Error *error) {
    Report report;
    report_start(&report);
    json_t *messages = json_array();
    for (int i = 0; i < talk->count; i++) {
        const char *role = talk->messages[i].role == ROLE_USER ? "user" : "assistant";
        json_array_append_new(messages, json_pack("{s:s, s:s}", "role", role, "content", talk->texts[i]));
    }
    report_value(&report, "messages", messages);
    return report_print(&report, true, error);
}

static bool converse(Speaker *speaker, bool json, Error *error) {
    Conversation talk = {0};
    char *line = NULL;
    size_t capacity = 0;
    bool good = true, leave = false, asks = isatty(STDIN_FILENO);
    if (asks) say("/reset starts anew, /system TEXT sets the system text, /exit leaves");
    while (good && !leave) {
        if (asks) fputs("> ", stderr);
        ssize_t length = getline(&line, &capacity, stdin);
        if (length < 0) break;
        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r')) line[--length] = 0;
        if (line[0] == '/')
            good = run_slash(speaker, &talk, line, &leave, error);
        else if (length > 0)
            answer_line(speaker, &talk, json ? NULL : print_piece, line);
    }
    if (good && json) good = print_json(&talk, error);
    free(line);
    conversation_cut(&talk, 0);
    free(talk.messages);
    free(talk.texts);
    return good;
}

int command_chat(const Options *options, Error *error) {
    Speaker speaker = {0};
    bool good = speaker_open(&speaker, options, error) && converse(&speaker, options->json, error);
    speaker_close(&speaker);
    return good ? 0 : ERROR_EXIT_FAILED;
}

// test_template.c - chat templates as text: rendering, recognition, the Jinja that we write.
//
// tests/golden/templates.json holds what transformers renders (tests/golden/make_template_golden.py, which takes our
// Jinja texts from `test_template --jinja`).
#include "tests/support.h"

#include "base/json.h"
#include "tokenizer/template_table.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIRATE "You are a pirate.\nYou say \"Arr\"."

static json_t *golden(const char *key) {
    Error error = {0};
    json_t *all = json_read_file("tests/golden/templates.json", 4 << 20, &error);
    if (!all) fail_msg("%s", error.text);
    json_t *part = json_incref(json_object_get(all, key));
    assert_true(json_array_size(part) > 0);
    json_decref(all);
    return part;
}

static const char *string_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

// The spans as text. answers: only those that are trained.
static char *spans_text(const SpanList *list, const char *bos, const char *eos, bool answers) {
    Buffer text = BUFFER_EMPTY;
    Error error = {0};
    for (int i = 0; i < list->count; i++) {
        const Span *span = &list->spans[i];
        if (answers && !span->answer) continue;
        if (span->kind == SPAN_BOS)
            check(buffer_text(&text, bos, &error), &error);
        else if (span->kind == SPAN_EOS)
            check(buffer_text(&text, eos, &error), &error);
        else
            check(buffer_append(&text, span->text, span->size, &error), &error);
    }
    check(buffer_text(&text, "", &error), &error);
    return text.data;
}

static int read_messages(const json_t *array, Message messages[16]) {
    size_t index;
    json_t *item;
    json_array_foreach(array, index, item) {
        const char *role = string_of(item, "role");
        Role known = !strcmp(role, "system") ? ROLE_SYSTEM : !strcmp(role, "user") ? ROLE_USER : ROLE_ASSISTANT;
        assert_true(index < 16);
        messages[index] = (Message){known, string_of(item, "content"), string_of(item, "input")};
    }
    return (int)json_array_size(array);
}

static char *render(const ChatTemplate *chat, const Message *messages, int count, const char *system, bool generate,
                    bool answers, const json_t *names) {
    Error error = {0};
    SpanList list = {0};
    check(template_render(chat, true, messages, count, system, generate, &list, &error), &error);
    char *text =
        spans_text(&list, names ? string_of(names, "bos") : "<s>", names ? string_of(names, "eos") : "</s>", answers);
    span_list_free(&list);
    return text;
}

static void text_is_what_transformers_renders(void **state) {
    (void)state;
    json_t *cases = golden("cases"), *item;
    size_t index;
    json_array_foreach(cases, index, item) {
        Message messages[16];
        int count = read_messages(json_object_get(item, "messages"), messages);
        const ChatTemplate *chat = template_by_name(string_of(item, "template"));
        assert_non_null(chat);
        bool generate = json_is_true(json_object_get(item, "generate"));
        char *text = render(chat, messages, count, NULL, generate, false, item);
        assert_string_equal(text, string_of(item, "text"));
        free(text);
        if (messages[0].role != ROLE_SYSTEM) continue;
        // the option `system` is as good as a message
        text = render(chat, messages + 1, count - 1, messages[0].text, generate, false, item);
        assert_string_equal(text, string_of(item, "text"));
        free(text);
    }
    json_decref(cases);
}

// What is trained: every answer as the template writes it, with the end-of-turn token, and nothing else.
static void answers_and_their_ends_are_trained(void **state) {
    (void)state;
    const Message talk[] = {{ROLE_SYSTEM, "S", NULL}, {ROLE_USER, "U", NULL},      {ROLE_ASSISTANT, " A ", NULL},
                            {ROLE_USER, "V", NULL},   {ROLE_ASSISTANT, "B", NULL}, {ROLE_USER, "W", NULL}};
    const struct {
        const char *name, *trained;
    } expected[] = {{"alpaca", " A </s>B</s>"},
                    {"llama2", " A </s> B </s>"},
                    {"llama3", "A<|eot_id|>B<|eot_id|>"},
                    {"llama31", "A<|eot_id|>B<|eot_id|>"},
                    {"chatml", " A <|im_end|>B<|im_end|>"},
                    {"smollm", " A <|im_end|>B<|im_end|>"},
                    {"qwen", " A <|im_end|>B<|im_end|>"},
                    {"qwen2", " A <|im_end|>B<|im_end|>"},
                    {"zephyr", " A </s>B</s>"},
                    {"mistral_v1", "  A </s> B</s>"},
                    {"mistral_old", " A </s>B</s>"},
                    {"mistral_v3", " A</s> B</s>"},
                    {"vicuna", "  A </s> B</s>"}};
    assert_int_equal(chat_template_count, sizeof expected / sizeof *expected);
    for (int i = 0; i < chat_template_count; i++) {
        const ChatTemplate *chat = template_by_name(expected[i].name);
        assert_non_null(chat);
        for (int count = 5; count <= 6; count++) { // an unanswered message trains nothing more
            char *text = render(chat, talk, count, NULL, count == 6, true, NULL);
            assert_string_equal(text, expected[i].trained);
            free(text);
        }
    }
}

static void an_empty_system_text_is_none(void **state) {
    (void)state;
    const Message talk[] = {{ROLE_USER, "U", NULL}, {ROLE_ASSISTANT, "A", NULL}};
    char *text = render(template_by_name("smollm"), talk, 2, "", false, false, NULL);
    assert_string_equal(text, "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n");
    free(text);
    text = render(template_by_name("llama31"), talk, 2, "", false, false, NULL);
    assert_non_null(strstr(text, "Today Date: 26 Jul 2024\n\n<|eot_id|>"));
    free(text);
    text = render(template_by_name("alpaca"), talk, 2, "", false, false, NULL);
    assert_string_equal(text, "<s>### Instruction:\nU\n\n### Response:A</s>");
    free(text);
}

static void input_follows_the_text_where_there_is_no_form_for_it(void **state) {
    (void)state;
    const Message talk[] = {{ROLE_USER, "Add.", "1, 2 \n"}, {ROLE_ASSISTANT, "3", NULL}};
    char *text = render(template_by_name("chatml"), talk, 2, NULL, false, false, NULL);
    assert_non_null(strstr(text, "user\nAdd.\n1, 2 \n<|im_end|>"));
    free(text);
    text = render(template_by_name("llama2"), talk, 2, NULL, false, false, NULL);
    assert_string_equal(text, "<s>[INST] Add.\n1, 2 [/INST] 3 </s>");
    free(text);
}

static void white_space_is_python_s(void **state) {
    (void)state;
    // every kind of it around, and characters that share their first bytes within
    const Message talk[] = {
        {ROLE_USER,
         " \t\n\v\f\r\x1c\x1d\x1e\x1f\xc2\x85\xc2\xa0\xe1\x9a\x80\xe2\x80\x80\xe2\x80\x8a\xe2\x80\xa8"
         "\xe2\x80\xa9\xe2\x80\xaf\xe2\x81\x9f\xe3\x80\x80x\xe2\x80\x8b\xe3\x80\x80\xc2\xa0 ",
         NULL},
        {ROLE_ASSISTANT, "\xe2\x80\x8b", NULL}};
    char *text = render(template_by_name("llama3"), talk, 2, NULL, false, false, NULL);
    assert_non_null(strstr(text, "user<|end_header_id|>\n\nx\xe2\x80\x8b<|eot_id|>"));
    assert_non_null(strstr(text, "assistant<|end_header_id|>\n\n\xe2\x80\x8b<|eot_id|>"));
    free(text);
}

static void wrong_turns_are_refused(void **state) {
    (void)state;
    const Message talk[] = {{ROLE_USER, "U", NULL}, {ROLE_ASSISTANT, "A", NULL}, {ROLE_ASSISTANT, "B", NULL}};
    const struct {
        int first, count;
        bool generate;
        const char *text;
    } wrong[] = {{0, 3, false, "message 3 of the conversation must be the user's"},
                 {1, 1, false, "message 1 of the conversation must be the user's"},
                 {0, 0, false, "the conversation has no messages"},
                 {0, 1, false, "the conversation must end with a message of the assistant"},
                 {0, 2, true, "the conversation must end with a message of the user"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        Error error = {0};
        SpanList list = {0};
        assert_false(template_render(template_by_name("llama2"), true, talk + wrong[i].first, wrong[i].count, NULL,
                                     wrong[i].generate, &list, &error));
        assert_string_equal(error.text, wrong[i].text);
        span_list_free(&list);
    }
}

static void names_are_listed(void **state) {
    (void)state;
    Buffer names = BUFFER_EMPTY;
    Error error = {0};
    for (int i = 0; i < chat_template_count; i++) {
        check(buffer_format(&names, &error, "%s%s", i ? ", " : "", chat_templates[i].name), &error);
        assert_ptr_equal(template_by_name(template_name(&chat_templates[i])), &chat_templates[i]);
    }
    assert_string_equal(template_names(), names.data);
    assert_null(template_by_name("Alpaca"));
    buffer_free(&names);
}

static void check_recognised(const char *jinja, const char *name, const char *system) {
    Error error = {0};
    const ChatTemplate *chat;
    char *found;
    check(template_recognise(jinja, &chat, &found, &error), &error);
    if (name ? !chat || strcmp(name, template_name(chat)) : chat != NULL)
        fail_msg("expected %s, recognised %s in: %s", name ? name : "none", chat ? template_name(chat) : "none", jinja);
    if (system) assert_non_null(found);
    if (system)
        assert_string_equal(found, system);
    else
        assert_null(found);
    free(found);
}

static void published_texts_are_recognised_and_near_ones_are_not(void **state) {
    (void)state;
    json_t *texts = golden("published"), *item;
    size_t index;
    json_array_foreach(texts, index, item)
        check_recognised(string_of(item, "jinja"), string_of(item, "template"), string_of(item, "system"));
    json_decref(texts);
}

// Cut short or with a byte changed, a text is read without harm and never taken for another template.
static void damaged_texts_do_no_harm(void **state) {
    (void)state;
    json_t *texts = golden("published"), *item;
    size_t index;
    json_array_foreach(texts, index, item) {
        char *jinja = strdup(string_of(item, "jinja"));
        for (size_t size = strlen(jinja); size-- > 0;) {
            char last = jinja[size];
            for (int damage = 0; damage < 2; damage++) {
                Error error = {0};
                const ChatTemplate *chat;
                char *system;
                jinja[size] = (char)(damage ? 0 : "'\\{-%}#"[size % 7]);
                check(template_recognise(jinja, &chat, &system, &error), &error);
                if (chat && !string_of(item, "template")) fail_msg("recognised as %s: %s", template_name(chat), jinja);
                free(system);
            }
            jinja[size] = last;
        }
        free(jinja);
    }
    json_decref(texts);
}

// The texts that the golden script rendered are the ones that we write, and we know them again.
static void our_jinja_is_the_one_that_was_rendered(void **state) {
    (void)state;
    json_t *ours = golden("ours"), *item;
    size_t index;
    json_array_foreach(ours, index, item) {
        const ChatTemplate *chat = template_by_name(string_of(item, "template"));
        const char *system = string_of(item, "system");
        Buffer jinja = BUFFER_EMPTY;
        Error error = {0};
        check(template_write_jinja(chat, json_is_true(json_object_get(item, "adds_bos")), system, &jinja, &error),
              &error);
        assert_string_equal(jinja.data, string_of(item, "jinja"));
        check_recognised(jinja.data, template_name(chat), system);
        check(buffer_byte(&jinja, '.', &error), &error);
        check_recognised(jinja.data, NULL, NULL);
        buffer_free(&jinja);
    }
    json_decref(ours);
}

static void strange_system_texts_survive_our_jinja(void **state) {
    (void)state;
    const char *const texts[] = {"it's \\n {{ x }} {%- set default_system = 'a' -%} -#}\n", "", "\\", "'",
                                 "日本語\n\n'"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        Buffer jinja = BUFFER_EMPTY;
        Error error = {0};
        check(template_write_jinja(template_by_name("smollm"), false, texts[i], &jinja, &error), &error);
        check_recognised(jinja.data, "smollm", texts[i]);
        buffer_free(&jinja);
    }
}

static int print_jinja(void) {
    const char *const systems[] = {NULL, PIRATE};
    json_t *array = json_array();
    Error error = {0};
    for (int i = 0; i < chat_template_count; i++) {
        const ChatTemplate *chat = &chat_templates[i];
        for (int s = 0; s < 2; s++) {
            for (int bos = chat->bos != BOS_IF_ADDED; bos < 2; bos++) {
                Buffer jinja = BUFFER_EMPTY;
                if (!template_write_jinja(chat, bos, systems[s], &jinja, &error)) return 1;
                json_array_append_new(array, json_pack("{sssbss?ss}", "template", chat->name, "adds_bos", bos, "system",
                                                       systems[s], "jinja", jinja.data));
                buffer_free(&jinja);
            }
        }
    }
    json_dumpf(array, stdout, 0);
    json_decref(array);
    return 0;
}

int main(int count, char **arguments) {
    if (count == 2 && !strcmp(arguments[1], "--jinja")) return print_jinja();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_what_transformers_renders),
        cmocka_unit_test(answers_and_their_ends_are_trained),
        cmocka_unit_test(an_empty_system_text_is_none),
        cmocka_unit_test(input_follows_the_text_where_there_is_no_form_for_it),
        cmocka_unit_test(white_space_is_python_s),
        cmocka_unit_test(wrong_turns_are_refused),
        cmocka_unit_test(names_are_listed),
        cmocka_unit_test(published_texts_are_recognised_and_near_ones_are_not),
        cmocka_unit_test(damaged_texts_do_no_harm),
        cmocka_unit_test(our_jinja_is_the_one_that_was_rendered),
        cmocka_unit_test(strange_system_texts_survive_our_jinja),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

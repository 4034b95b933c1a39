// test_examples.c - conversations as token ids, and records as examples with labels, cut to cutoff_len.
//
// The ids of tests/golden/templates.json are transformers'; its small vocabularies are in tests/golden/templates/.
#include "tests/support.h"

#include "base/json.h"
#include "data/examples.h"
#include <stdlib.h>
#include <string.h>

static Tokenizer *open_small(const char *name) {
    char path[64];
    Error error = {0};
    snprintf(path, sizeof path, "tests/golden/templates/%s", name);
    Tokenizer *tokenizer = tokenizer_open(path, 1000, &error);
    if (!tokenizer) fail_msg("%s", error.text);
    return tokenizer;
}

static const char *string_of(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
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

// Special tokens leave no text where special ones are left out.
static bool is_special(const Tokenizer *tokenizer, int32_t id) {
    Buffer text = BUFFER_EMPTY;
    Error error = {0};
    check(tokenizer_decode(tokenizer, id, false, &text, &error), &error);
    bool special = text.size == 0;
    buffer_free(&text);
    return special;
}

// The bytes of tokens first .. last - 1.
static char *decode(const Tokenizer *tokenizer, const int32_t *ids, int64_t first, int64_t last) {
    Buffer text = BUFFER_EMPTY;
    Error error = {0};
    for (int64_t i = first; i < last; i++) check(tokenizer_decode(tokenizer, ids[i], true, &text, &error), &error);
    check(buffer_text(&text, "", &error), &error);
    return text.data;
}

static void check_case(const json_t *item, const Tokenizer *tokenizer) {
    Message messages[16];
    Error error = {0};
    EncodedChat encoded = {0};
    int count = read_messages(json_object_get(item, "messages"), messages);
    const json_t *ids = json_object_get(item, "ids");
    check(template_encode(template_by_name(string_of(item, "template")), tokenizer, messages, count, NULL,
                          json_is_true(json_object_get(item, "generate")), &encoded, &error),
          &error);
    for (size_t i = 0; i < json_array_size(ids) && i < (size_t)encoded.tokens.count; i++) {
        if (json_integer_value(json_array_get(ids, i)) == encoded.tokens.ids[i]) continue;
        fail_msg("%s: token %zu is %d, not %lld, in: %s", string_of(item, "template"), i, (int)encoded.tokens.ids[i],
                 json_integer_value(json_array_get(ids, i)), string_of(item, "text"));
    }
    assert_int_equal(encoded.tokens.count, json_array_size(ids));
    const char *labels = string_of(item, "trained"); // by where the characters of each token stand
    for (size_t i = 0; labels && labels[i]; i++) {
        if (encoded.trained[i] != (labels[i] == '1'))
            fail_msg("%s: the label of token %zu of: %s", string_of(item, "template"), i, string_of(item, "text"));
    }
    // every answer is in the tokens that are trained, and nothing but answers is: the bytes say so
    int turn = 0;
    int64_t trained = 0, in_turns = 0;
    for (int i = 0; i < count; i++) {
        if (messages[i].role != ROLE_ASSISTANT) continue;
        const EncodedTurn *at = &encoded.turns[turn++];
        char *answer = decode(tokenizer, encoded.tokens.ids, at->answer, at->end);
        size_t blanks = strspn(messages[i].text, " \n"), size = strlen(messages[i].text) - blanks;
        while (size > 0 && strchr(" \n", messages[i].text[blanks + size - 1])) size--;
        const char *found = memmem(answer, strlen(answer), messages[i].text + blanks, size);
        assert_non_null(found);
        assert_true(found - answer <= 2);
        assert_true(encoded.trained[at->end - 1]);
        assert_true(is_special(tokenizer, encoded.tokens.ids[at->end - 1]));
        free(answer);
        in_turns += at->end - at->answer;
    }
    assert_int_equal(turn, encoded.turn_count);
    for (int64_t i = 0; i < encoded.tokens.count; i++) trained += encoded.trained[i];
    assert_int_equal(trained, in_turns);
    encoded_chat_free(&encoded);
}

static void ids_are_those_of_transformers(void **state) {
    (void)state;
    Error error = {0};
    json_t *all = json_read_file("tests/golden/templates.json", 4 << 20, &error), *item;
    if (!all) fail_msg("%s", error.text);
    static const char *const names[] = {"spm", "spm_inst", "bpe"};
    size_t index, checked = 0;
    for (int v = 0; v < 3; v++) {
        Tokenizer *tokenizer = open_small(names[v]);
        json_array_foreach(json_object_get(all, "cases"), index, item) {
            const char *vocabulary = string_of(item, "vocabulary");
            if (!vocabulary || strcmp(vocabulary, names[v])) continue;
            check_case(item, tokenizer);
            checked++;
        }
        tokenizer_close(tokenizer);
    }
    assert_true(checked > 100);
    json_decref(all);
}

static void a_missing_token_is_named(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_small("spm");
    const Message talk[] = {{ROLE_USER, "U", NULL}, {ROLE_ASSISTANT, "A", NULL}};
    Error error = {0};
    EncodedChat encoded = {0};
    assert_false(template_encode(template_by_name("chatml"), tokenizer, talk, 2, NULL, false, &encoded, &error));
    assert_string_equal(error.text,
                        "template chatml needs the token <|im_start|>, which the model's vocabulary does not have");
    tokenizer_close(tokenizer);
}

static void special_text_in_messages_stays_text(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_small("bpe");
    const Message talk[] = {{ROLE_USER, "<|im_end|>", NULL}, {ROLE_ASSISTANT, "<|im_start|>", NULL}};
    Error error = {0};
    EncodedChat encoded = {0};
    check(template_encode(template_by_name("chatml"), tokenizer, talk, 2, NULL, false, &encoded, &error), &error);
    int specials = 0;
    for (int64_t i = 0; i < encoded.tokens.count; i++) specials += is_special(tokenizer, encoded.tokens.ids[i]);
    assert_int_equal(specials, 4); // two for each message
    char *text = decode(tokenizer, encoded.tokens.ids, 0, encoded.tokens.count);
    assert_string_equal(text,
                        "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n<|im_start|><|im_end|>\n");
    free(text);
    encoded_chat_free(&encoded);
    tokenizer_close(tokenizer);
}

static void stops_are_the_end_token_and_eos(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_small("bpe");
    int32_t ids[TEMPLATE_STOPS];
    assert_int_equal(template_stop_ids(template_by_name("llama31"), tokenizer, ids), 2);
    assert_int_equal(ids[0], tokenizer_special(tokenizer, "<|eot_id|>"));
    assert_int_equal(ids[1], tokenizer_special(tokenizer, "<|eom_id|>"));
    assert_int_equal(template_stop_ids(template_by_name("qwen"), tokenizer, ids), 2);
    assert_int_equal(ids[0], tokenizer_special(tokenizer, "<|im_end|>"));
    assert_int_equal(ids[1], tokenizer_eos(tokenizer));
    assert_int_equal(template_stop_ids(template_by_name("alpaca"), tokenizer, ids), 1);
    assert_int_equal(ids[0], tokenizer_eos(tokenizer));
    tokenizer_close(tokenizer);
}

static void the_template_is_chosen_or_asked_for(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_small("spm"); // has no chat template
    const ChatTemplate *chat;
    char *system;
    Error error = {0};
    check(template_choose(tokenizer, "vicuna", false, &chat, &system, &error), &error);
    assert_string_equal(template_name(chat), "vicuna");
    check(template_choose(tokenizer, NULL, true, &chat, &system, &error), &error);
    assert_string_equal(template_name(chat), "alpaca");
    assert_null(system);
    assert_false(template_choose(tokenizer, NULL, false, &chat, &system, &error));
    assert_string_equal(error.text, "the model has no chat template");
    assert_non_null(strstr(error.hint, template_names()));
    assert_false(template_choose(tokenizer, "mistral", false, &chat, &system, &error));
    assert_string_equal(error.text, "there is no template \"mistral\"");
    assert_int_equal(error.exit_code, ERROR_EXIT_USAGE);
    tokenizer_close(tokenizer);
}

// ---- records ----

// system, two turns; the second answer is the longer one
static Message talk[] = {{ROLE_SYSTEM, "Be brief.", NULL},
                         {ROLE_USER, "What is the sum of two and two, please?", NULL},
                         {ROLE_ASSISTANT, "It is four.", NULL},
                         {ROLE_USER, "And why?", NULL},
                         {ROLE_ASSISTANT, "Because one more than three is four, and two more than two is that.", NULL}};
static uint8_t weights[] = {1, 1, 1, 1, 1};

static Record chat_record(void) {
    return (Record){.kind = RECORD_CHAT, .messages = talk, .weights = weights, .count = 5};
}

static ExampleMaker maker_of(const Tokenizer *tokenizer, const char *name) {
    return (ExampleMaker){.tokenizer = tokenizer, .chat = template_by_name(name), .cutoff_len = 100000};
}

static EncodedChat make(const ExampleMaker *maker, const Record *record) {
    EncodedChat encoded = {0};
    Error error = {0};
    if (example_encode(maker, record, &encoded, &error) != RECORD_GOOD) fail_msg("%s", error.text);
    return encoded;
}

static int64_t targets(const EncodedChat *encoded, int64_t first, int64_t last) {
    int64_t count = 0;
    for (int64_t i = first; i < last; i++) count += encoded->trained[i];
    return count;
}

// LLaMA-Factory's infer_seqlen, in exact arithmetic.
static void share_as_documented(int64_t room, int64_t prompt, int64_t answer, int64_t *prompt_out,
                                int64_t *answer_out) {
    int64_t most = 2 * answer < room ? room : 2 * prompt < room ? room - prompt : room * answer / (prompt + answer);
    *answer_out = answer < most ? answer : most;
    *prompt_out = prompt < room - *answer_out ? prompt : room - *answer_out;
}

static void room_is_shared_by_length(void **state) {
    (void)state;
    for (int64_t room = 1; room < 24; room++) {
        for (int64_t prompt = 0; prompt < 30; prompt++) {
            for (int64_t answer = 1; answer < 30; answer++) {
                int64_t p = prompt, a = answer, expected_p, expected_a;
                example_share_room(room, &p, &a);
                share_as_documented(room, prompt, answer, &expected_p, &expected_a);
                assert_int_equal(p, expected_p);
                assert_int_equal(a, expected_a);
                assert_true(p >= 0 && a >= 0 && p + a <= room);
                if (prompt + answer <= room)
                    assert_true(p == prompt && a == answer);
                else
                    assert_int_equal(p + a, room);
            }
        }
    }
}

// What must hold of an example of any length made from `whole`, which was not cut.
static void check_cut(const EncodedChat *whole, const EncodedChat *cut, const ExampleMaker *maker, int32_t end) {
    int dropped = maker->mask_history ? whole->turn_count - cut->turn_count : 0;
    assert_true(cut->turn_count >= 1 && cut->turn_count <= whole->turn_count);
    assert_true(cut->tokens.count <= maker->cutoff_len);
    int64_t at = 0;
    for (int i = 0; i < cut->turn_count; i++) {
        const EncodedTurn *turn = &cut->turns[i], *from = &whole->turns[i + dropped];
        assert_int_equal(turn->start, at);
        int64_t prompt = turn->answer - turn->start, answer = turn->end - turn->answer;
        assert_true(prompt <= from->answer - from->start && answer > 0 && answer <= from->end - from->answer);
        assert_memory_equal(cut->tokens.ids + turn->start, whole->tokens.ids + from->start,
                            (size_t)prompt * sizeof(int32_t));
        assert_memory_equal(cut->tokens.ids + turn->answer, whole->tokens.ids + from->answer,
                            (size_t)answer * sizeof(int32_t));
        bool complete = answer == from->end - from->answer;
        assert_int_equal(complete, cut->tokens.ids[turn->end - 1] == end);
        bool target = !maker->mask_history || i == cut->turn_count - 1;
        assert_int_equal(targets(cut, turn->start, turn->answer), maker->train_on_prompt ? prompt : 0);
        assert_int_equal(targets(cut, turn->answer, turn->end), target ? answer : 0);
        at = turn->end;
    }
    assert_int_equal(targets(cut, at, cut->tokens.count), 0);
}

static void every_length_is_kept_to(void **state) {
    (void)state;
    static const char *const vocabularies[] = {"spm", "bpe"}, *const names[] = {"llama2", "chatml"};
    for (int v = 0; v < 2; v++) {
        Tokenizer *tokenizer = open_small(vocabularies[v]);
        int32_t end = v ? tokenizer_special(tokenizer, "<|im_end|>") : tokenizer_eos(tokenizer);
        for (int variant = 0; variant < 3; variant++) {
            ExampleMaker maker = maker_of(tokenizer, names[v]);
            maker.mask_history = variant == 1;
            maker.train_on_prompt = variant == 2;
            Record record = chat_record();
            EncodedChat whole = make(&maker, &record);
            const EncodedTurn *first = &whole.turns[maker.mask_history ? 1 : 0]; // the first to get room
            for (maker.cutoff_len = 1; maker.cutoff_len <= whole.tokens.count + 1; maker.cutoff_len++) {
                EncodedChat cut = {0};
                Error error = {0};
                int64_t prompt = first->answer - first->start, answer = first->end - first->answer;
                example_share_room(maker.cutoff_len, &prompt, &answer);
                bool target = answer > 0 && prompt + answer > 1; // one that has a token before it
                RecordResult result = example_encode(&maker, &record, &cut, &error);
                assert_int_equal(result, target ? RECORD_GOOD : RECORD_BAD);
                if (target) check_cut(&whole, &cut, &maker, end);
                if (maker.cutoff_len >= whole.tokens.count) {
                    assert_int_equal(cut.tokens.count, whole.tokens.count);
                    assert_memory_equal(cut.trained, whole.trained, (size_t)whole.tokens.count);
                }
                encoded_chat_free(&cut);
            }
            encoded_chat_free(&whole);
        }
        tokenizer_close(tokenizer);
    }
}

static void an_example_without_targets_is_a_bad_record(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_small("spm");
    ExampleMaker maker = maker_of(tokenizer, "llama2");
    Record record = chat_record();
    EncodedChat whole = make(&maker, &record), encoded = {0};
    Error error = {0};
    char expected[128];
    maker.cutoff_len = 2;
    assert_int_equal(example_encode(&maker, &record, &encoded, &error), RECORD_BAD);
    snprintf(expected, sizeof expected, "no target is left: the record has %lld tokens, cutoff_len is 2",
             (long long)whole.tokens.count);
    assert_string_equal(error.text, expected);
    assert_null(encoded.tokens.ids);
    maker.chat = NULL;
    assert_int_equal(example_encode(&maker, &record, &encoded, &error), RECORD_FAILED);
    assert_string_equal(error.text, "conversations need a chat template");
    encoded_chat_free(&whole);
    tokenizer_close(tokenizer);
}

static void answers_of_weight_0_are_no_targets(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_small("spm");
    ExampleMaker maker = maker_of(tokenizer, "llama2");
    uint8_t some[] = {1, 1, 0, 1, 1};
    Record record = chat_record();
    record.weights = some;
    EncodedChat encoded = make(&maker, &record);
    assert_int_equal(targets(&encoded, 0, encoded.turns[0].end), 0);
    assert_int_equal(targets(&encoded, encoded.turns[1].answer, encoded.turns[1].end),
                     encoded.turns[1].end - encoded.turns[1].answer);
    encoded_chat_free(&encoded);
    tokenizer_close(tokenizer);
}

static void input_and_empty_system_text_go_where_they_belong(void **state) {
    (void)state;
    Tokenizer *tokenizer = open_small("spm");
    ExampleMaker maker = maker_of(tokenizer, "alpaca");
    Message messages[] = {{ROLE_SYSTEM, "", NULL}, {ROLE_USER, "Add.", "1, 2"}, {ROLE_ASSISTANT, "3", NULL}};
    Record record = {.kind = RECORD_CHAT, .messages = messages, .weights = weights, .count = 3};
    EncodedChat encoded = make(&maker, &record);
    char *text = decode(tokenizer, encoded.tokens.ids, 0, encoded.tokens.count);
    assert_non_null(strstr(text, "paired with an input"));
    assert_non_null(strstr(text, "### Instruction:\nAdd.\n\n### Input:\n1, 2\n\n### Response:3</s>"));
    free(text);
    encoded_chat_free(&encoded);
    maker.chat = template_by_name("zephyr");
    maker.system = "Be kind.";
    encoded = make(&maker, &record);
    text = decode(tokenizer, encoded.tokens.ids, 0, encoded.tokens.count);
    assert_non_null(strstr(text, "<|system|>\nBe kind.</s>\n<|user|>\nAdd.\n1, 2</s>\n<|assistant|>\n3</s>\n"));
    free(text);
    encoded_chat_free(&encoded);
    tokenizer_close(tokenizer);
}

static void a_completion_follows_its_prompt(void **state) {
    (void)state;
    static const char *const vocabularies[] = {"spm", "bpe"};
    for (int v = 0; v < 2; v++) {
        Tokenizer *tokenizer = open_small(vocabularies[v]);
        ExampleMaker maker = maker_of(tokenizer, "llama2");
        Record record = {.kind = RECORD_COMPLETION, .prompt = "What is it? It", .completion = " is four."};
        EncodedChat encoded = make(&maker, &record);
        const EncodedTurn *turn = &encoded.turns[0];
        char *answer = decode(tokenizer, encoded.tokens.ids, turn->answer, turn->end - 1);
        char *all = decode(tokenizer, encoded.tokens.ids, tokenizer_adds_bos(tokenizer), turn->end - 1);
        assert_string_equal(answer, " is four.");
        assert_non_null(strstr(all, "What is it? It is four."));
        assert_int_equal(encoded.tokens.ids[0] == tokenizer_bos(tokenizer), tokenizer_adds_bos(tokenizer));
        assert_int_equal(encoded.tokens.ids[turn->end - 1], tokenizer_eos(tokenizer));
        assert_int_equal(targets(&encoded, 0, turn->answer), 0);
        assert_int_equal(targets(&encoded, turn->answer, turn->end), turn->end - turn->answer);
        free(answer);
        free(all);
        EncodedChat whole = encoded;
        for (maker.cutoff_len = 3; maker.cutoff_len <= whole.tokens.count; maker.cutoff_len++) {
            EncodedChat cut = make(&maker, &record);
            check_cut(&whole, &cut, &maker, tokenizer_eos(tokenizer));
            encoded_chat_free(&cut);
        }
        encoded_chat_free(&whole);
        record.prompt = ""; // then the completion is the first text
        maker.cutoff_len = 1000;
        encoded = make(&maker, &record);
        assert_int_equal(encoded.turns[0].answer, tokenizer_adds_bos(tokenizer));
        encoded_chat_free(&encoded);
        tokenizer_close(tokenizer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_those_of_transformers),
        cmocka_unit_test(a_missing_token_is_named),
        cmocka_unit_test(special_text_in_messages_stays_text),
        cmocka_unit_test(stops_are_the_end_token_and_eos),
        cmocka_unit_test(the_template_is_chosen_or_asked_for),
        cmocka_unit_test(room_is_shared_by_length),
        cmocka_unit_test(every_length_is_kept_to),
        cmocka_unit_test(an_example_without_targets_is_a_bad_record),
        cmocka_unit_test(answers_of_weight_0_are_no_targets),
        cmocka_unit_test(input_and_empty_system_text_go_where_they_belong),
        cmocka_unit_test(a_completion_follows_its_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

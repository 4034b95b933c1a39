// test_speaker.c - a model speaks with as little memory as its plan says, and says the same.
#include "tests/support.h"

#include "base/log.h"
#include "cli/speaker.h"
#include "tests/emulator/emulator.h"
#include "tests/tiny_folder.h"
#include "tests/tiny_model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIB ((uint64_t)1 << 30)

// ---- plans of a 7B model, on a card that is only described

static uint64_t card_free, host_free; // what the tests' backends say

static uint64_t said_memory(Backend *b, MemoryKind kind) {
    return kind == MEMORY_DEVICE && !b->unified ? card_free : host_free;
}

static ModelConfig large_config(void) {
    ModelConfig config = tiny_config();
    config.layers = config.heads = config.kv_heads = 32;
    config.head_dim = 128;
    config.hidden = 4096;
    config.intermediate = 11008;
    config.vocabulary = 32000;
    config.max_positions = 4096;
    return config;
}

typedef struct Machine {
    Backend *backend;
    ModelConfig config;
    SpeakerRequest request;
} Machine;

static void open_machine(Machine *m, bool card) {
    Error error = {0};
    m->backend = card ? backend_cuda_describe(&error) : backend_cpu_create(1, false, &error);
    check(m->backend != NULL, &error);
    m->backend->memory_available = said_memory;
    m->config = large_config();
    m->request =
        (SpeakerRequest){.config = &m->config, .backend = m->backend, .capacity = 2048, .scratch_dir = "/scratch"};
}

static SpeakerPlan plan_with(const Machine *m, double card, double host) {
    Error error = {0};
    SpeakerPlan plan;
    card_free = (uint64_t)(card * (double)GIB);
    host_free = (uint64_t)(host * (double)GIB);
    check(speaker_plan_make(&plan, &m->request, &error), &error);
    return plan;
}

static void a_7b_model_speaks_on_any_card(void **state) {
    (void)state;
    Machine m;
    open_machine(&m, true);
    SpeakerPlan all = plan_with(&m, 24, 32);
    assert_int_equal(all.places.streamed, 0);
    assert_false(all.places.embedding_on_host);
    assert_int_equal(all.host_bytes, 0);
    assert_int_equal(all.streamed_bytes, 0);
    SpeakerPlan rows = plan_with(&m, (double)all.device_bytes / (double)GIB + 0.1, 32); // 0.25 are kept free
    assert_int_equal(rows.places.streamed, 0);
    assert_true(rows.places.embedding_on_host);
    assert_int_equal(all.device_bytes - rows.device_bytes, 32000 * 4096 * 2);
    assert_int_equal(rows.host_bytes, 32000 * 4096 * 2);
    SpeakerPlan memory = plan_with(&m, 8, 32), file = plan_with(&m, 8, 6);
    assert_in_range(memory.places.streamed, 15, 25);
    assert_true(memory.places.embedding_on_host);
    assert_false(memory.places.in_file);
    assert_int_equal(memory.disk_bytes, 0);
    assert_true(memory.device_bytes <= 7.75 * GIB);
    assert_int_equal(file.places.streamed, memory.places.streamed);
    assert_true(file.places.in_file);
    // in the file's case the buffers begin where the disk writes to memory by itself
    assert_in_range(file.device_bytes, memory.device_bytes, memory.device_bytes + 2 * SCRATCH_ALIGN);
    assert_in_range(file.disk_bytes, memory.streamed_bytes, memory.streamed_bytes + 32 * SCRATCH_ALIGN);
    assert_true(file.pinned_bytes + file.host_bytes < 2 * GIB);
    SpeakerPlan small = plan_with(&m, 4, 32);
    assert_true(small.places.streamed > memory.places.streamed);
    m.config.tied = true;
    assert_false(plan_with(&m, 8, 32).places.embedding_on_host);
    m.backend->destroy(m.backend);
}

// A byte less, and a layer more is streamed. The last one that is tried is a file, whose buffers are aligned.
static void as_many_layers_stay_as_fit(void **state) {
    (void)state;
    Machine m;
    open_machine(&m, true);
    SpeakerPlan before = plan_with(&m, 8, 32), plan;
    Error error = {0};
    int streamed = before.places.streamed;
    for (m.request.memory_limit = before.device_bytes + m.backend->workspace_bytes;; m.request.memory_limit--) {
        if (!speaker_plan_make(&plan, &m.request, &error)) break;
        assert_int_equal(plan.places.streamed, streamed++);
        assert_true(plan.device_bytes <= before.device_bytes);
        before = plan;
        m.request.memory_limit = plan.device_bytes + m.backend->workspace_bytes;
    }
    assert_int_equal(before.places.streamed, 32);
    assert_non_null(strstr(error.text, " of the card's memory to speak, "));
    assert_non_null(strstr(error.text, ": 8.0 KiB are missing"));
    assert_string_equal(error.hint, "shorter conversations would fit: cutoff_len=1024 (-c); or raise vram");
    m.request.capacity = 1024;
    check(speaker_plan_make(&plan, &m.request, &error), &error);
    m.backend->destroy(m.backend);
}

static void too_little_memory_is_refused(void **state) {
    (void)state;
    Machine m;
    Error error = {0};
    SpeakerPlan plan;
    open_machine(&m, true);
    card_free = GIB, host_free = 32 * GIB;
    assert_false(speaker_plan_make(&plan, &m.request, &error));
    assert_non_null(strstr(error.text, "of the card's memory"));
    assert_string_equal(error.hint, "close other programs, or take a smaller model: no smaller cutoff_len (-c, now "
                                    "2048) is enough");
    card_free = 8 * GIB, host_free = GIB / 2;
    assert_false(speaker_plan_make(&plan, &m.request, &error));
    assert_non_null(strstr(error.text, "of host memory"));
    m.backend->destroy(m.backend);
}

// Where the device is the host only a file takes weights out of it.
static void the_cpu_streams_from_a_file(void **state) {
    (void)state;
    Machine m;
    open_machine(&m, false);
    assert_int_equal(plan_with(&m, 0, 32).places.streamed, 0);
    SpeakerPlan plan = plan_with(&m, 0, 8);
    assert_true(plan.places.streamed > 10);
    assert_true(plan.places.in_file);
    assert_false(plan.places.embedding_on_host);
    assert_true(plan.device_bytes + plan.pinned_bytes + plan.host_bytes <= 0.9 * 8 * GIB);
    m.backend->destroy(m.backend);
}

// ---- answers

static char *folder, *model;

static Answer ask(Speaker *speaker, Message *messages, int count) {
    Error error = {0};
    TokenList prompt = {0};
    Answer answer;
    check(speaker_encode(speaker, messages, count, &prompt, &error), &error);
    check(speaker_answer(speaker, &prompt, NULL, &answer, &error), &error);
    token_list_free(&prompt);
    return answer;
}

// Two questions, the second after the first one's answer, and then a new conversation; all text and tokens.
static Buffer converse(Speaker *speaker) {
    Error error = {0};
    Buffer said = BUFFER_EMPTY;
    Message messages[3] = {{.role = ROLE_USER, .text = "count to ten, and then from ten to one again"}};
    for (int i = 0; i < 3; i++) {
        Answer answer = ask(speaker, messages, i == 1 ? 3 : 1);
        check(buffer_format(&said, &error, "[%s]", buffer_string(&answer.text)), &error);
        for (int64_t t = 0; t < speaker->fed.count; t++)
            check(buffer_format(&said, &error, " %d", speaker->fed.ids[t]), &error);
        messages[1] = (Message){.role = ROLE_ASSISTANT, .text = "one"};
        messages[2] = (Message){.role = ROLE_USER, .text = "on"};
        if (i == 1) messages[0].text = "something else";
        answer_free(&answer);
    }
    return said;
}

static Options options_on(const char *device) {
    Error error = {0};
    Options options;
    check(options_defaults(&options, &error), &error);
    const char *const given[][2] = {{"model", model}, {"device", device},   {"threads", "1"},
                                    {"raw", "true"},  {"cutoff_len", "64"}, {"max_new_tokens", "8"},
                                    {"temp", "0.9"},  {"scratch_dir", "."}};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        check(options_set(&options, COMMAND_CHAT, given[i][0], given[i][1], NULL, &error), &error);
    return options;
}

// The next plan is one that takes less than what this speaker has.
static void lower_limit(Options *options, const Speaker *speaker) {
    const SpeakerMemory *memory = &speaker->memory;
    Backend *b = speaker->backend;
    uint64_t beside = b->unified ? memory->pinned.capacity + memory->host.capacity : (uint64_t)b->workspace_bytes;
    options->vram = (SizeList){{memory->device.capacity - 1 + beside}, 1};
}

// From all resident down to what takes least: the same answers. Returns how many plans there were.
static int walk_down(const char *device, int *most_streamed) {
    Error error = {0};
    Options options = options_on(device);
    Buffer expected = BUFFER_EMPTY;
    int plans = 0;
    Speaker speaker;
    for (; speaker_open(&speaker, &options, &error); plans++) {
        Buffer said = converse(&speaker);
        if (plans > 0) assert_string_equal(buffer_string(&said), buffer_string(&expected));
        buffer_free(&expected);
        expected = said;
        *most_streamed = speaker.memory.store.places.streamed;
        lower_limit(&options, &speaker);
        speaker_close(&speaker);
    }
    speaker_close(&speaker);
    assert_non_null(strstr(error.text, "to speak"));
    buffer_free(&expected);
    options_free(&options);
    return plans;
}

static void answers_do_not_depend_on_memory(void **state) {
    (void)state;
    int streamed = 0;
    assert_int_equal(walk_down("cpu", &streamed), 3); // none, three, and all four layers
    assert_int_equal(streamed, 4);
    if (!emulator_present()) return;
    assert_int_equal(walk_down("cuda", &streamed), 3);
    assert_int_equal(streamed, 4);
    assert_int_equal(emulator_errors(), 0);
}

// ---- pinned memory that cannot be had

// What the card's driver refuses: all but so many bytes; then the answers, from where the layers lie.
typedef struct Refusal {
    Options options;
    size_t limit;
} Refusal;

static int speak_without_pinned_memory(void *context) {
    const Refusal *refusal = context;
    Speaker speaker;
    Error error = {0};
    emulator_pinned_limit(refusal->limit);
    log_set_level(LOG_WARNING);
    if (!speaker_open(&speaker, &refusal->options, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    Buffer said = converse(&speaker);
    printf("%d%s", speaker.memory.store.places.in_file, buffer_string(&said));
    buffer_free(&said);
    speaker_close(&speaker);
    return 0;
}

static void the_file_stands_in_for_pinned_memory(void **state) {
    (void)state;
    if (!emulator_present()) skip();
    Error error = {0};
    Refusal refusal = {.options = options_on("cuda")};
    Speaker speaker;
    check(speaker_open(&speaker, &refusal.options, &error), &error);
    while (speaker.memory.store.places.streamed < 4) {
        lower_limit(&refusal.options, &speaker);
        speaker_close(&speaker);
        check(speaker_open(&speaker, &refusal.options, &error), &error);
    }
    assert_false(speaker.memory.store.places.in_file);
    refusal.limit = speaker.memory.pinned.capacity - 1;
    Buffer expected = converse(&speaker);
    speaker_close(&speaker);
    Run run = run_function(speak_without_pinned_memory, &refusal);
    if (run.exit_code) fail_msg("%s", run.err);
    assert_int_equal(run.out[0], '1');
    assert_string_equal(run.out + 1, buffer_string(&expected));
    assert_non_null(
        strstr(run.err, "of pinned memory cannot be had, layers are read from a scratch file in . instead"));
    run_free(&run);
    refusal.limit = 64; // less than anything needs: the first refusal is told
    run = run_function(speak_without_pinned_memory, &refusal);
    assert_int_equal(run.exit_code, 1);
    assert_non_null(strstr(run.err, "tokens, logits, streamed layers and staging of weights"));
    run_free(&run);
    buffer_free(&expected);
    options_free(&refusal.options);
}

static int set_up(void **state) {
    (void)state;
    log_set_level(LOG_QUIET);
    folder = make_folder();
    model = tiny_model_folder(folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    free(model);
    remove_folder(folder);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_7b_model_speaks_on_any_card),   cmocka_unit_test(as_many_layers_stay_as_fit),
        cmocka_unit_test(too_little_memory_is_refused),    cmocka_unit_test(the_cpu_streams_from_a_file),
        cmocka_unit_test(answers_do_not_depend_on_memory), cmocka_unit_test(the_file_stands_in_for_pinned_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

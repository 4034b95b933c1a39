// test_plan.c - the planner: what it promises fits, more memory is never slower, what is given is kept to, and what it
// says when nothing fits. Whole models by their shapes alone, on a card that is only described.
#include "tests/support.h"

#include "base/random.h"
#include "tests/tiny_model.h"
#include "train/plan.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIB     ((uint64_t)1 << 30)
#define PART(x) ((uint64_t)((x) * (double)GIB))
#define SCRATCH "."
#define PLENTY  (1000 * GIB)

static ModelConfig model(int layers, int64_t hidden, int64_t f, int heads, int kv_heads, int64_t vocabulary) {
    return (ModelConfig){.layers = layers,
                         .heads = heads,
                         .kv_heads = kv_heads,
                         .head_dim = (int)hidden / heads,
                         .hidden = hidden,
                         .intermediate = f,
                         .vocabulary = vocabulary,
                         .max_positions = 8192,
                         .norm_epsilon = 1e-5f,
                         .rope_theta = 1e4,
                         .bos = -1,
                         .pad = -1};
}

static ModelConfig llama_7b(void) {
    return model(32, 4096, 11008, 32, 32, 32000);
}
static ModelConfig llama_8b(void) {
    return model(32, 4096, 14336, 32, 8, 128256);
}
static ModelConfig tinyllama(void) {
    return model(22, 2048, 5632, 32, 4, 32000);
}
static ModelConfig qwen_7b(void) {
    ModelConfig config = model(28, 3584, 18944, 28, 4, 152064);
    config.family = FAMILY_QWEN2;
    config.qkv_bias = true;
    return config;
}

static TrainSettings settings_of(int64_t sequences) {
    TrainSettings settings = tiny_settings();
    settings.gradient_accumulation_steps = sequences;
    return settings;
}

static Backend *card; // that is only described

static PlanRequest request_of(const ModelConfig *config, const TrainSettings *settings, int64_t length, uint64_t vram,
                              uint64_t ram) {
    return (PlanRequest){.config = config,
                         .settings = settings,
                         .backend = card,
                         .cutoff_len = length,
                         .memory_limit = vram,
                         .host_limit = ram,
                         .scratch_dir = SCRATCH};
}

static Plan planned(const ModelConfig *config, const TrainSettings *settings, int64_t length, uint64_t vram,
                    uint64_t ram) {
    Plan plan;
    Error error = {0};
    PlanRequest request = request_of(config, settings, length, vram, ram);
    check(plan_make(&plan, &request, &error), &error);
    return plan;
}

static uint64_t on_card(const Plan *plan) {
    return plan_limited_bytes(plan, card);
}

// ---- what is asked of it by name ----

// Everything resident and in fp32, clipped: what a 24 GB card has to hold.
static void a_7b_model_on_24_gb(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    TrainSettings s = settings_of(1);
    s.layers_resident = 32;
    s.head_state = s.layer_state = s.gradients = s.layer_inputs = s.embedding_state = PLACE_DEVICE;
    Plan all = planned(&config, &s, 1024, PLENTY, PLENTY);
    assert_int_equal(all.sizes.keep_all, 32); // there is room
    s.gradient_checkpointing = CHECKPOINT_TRUE;
    all = planned(&config, &s, 1024, PLENTY, PLENTY);
    assert_true(on_card(&all) <= 22 * GIB);
    s.embedding_state = PLACE_HOST;
    Plan without = planned(&config, &s, 1024, PLENTY, PLENTY), longer = planned(&config, &s, 4096, PLENTY, PLENTY);
    assert_true(on_card(&without) <= PART(20.6));
    assert_true(on_card(&longer) <= 22 * GIB);
}

static void the_cards_that_people_have(void **state) {
    (void)state;
    static const double cards[] = {22.3, 14.6, 10.8, 7.0};
    ModelConfig config = llama_7b();
    TrainSettings s = settings_of(8);
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        Plan plan = planned(&config, &s, 2048, PART(cards[i]), 24 * GIB);
        assert_true(on_card(&plan) <= PART(cards[i]));
        assert_true(plan.pinned_bytes + plan.host_bytes <= 24 * GIB);
        assert_true(plan.estimate.tokens_per_second > 0);
    }
    ModelConfig large[] = {llama_8b(), qwen_7b()};
    for (int i = 0; i < 2; i++) {
        Plan plan = planned(&large[i], &s, 1024, 7 * GIB, 24 * GIB);
        assert_true(on_card(&plan) <= 7 * GIB && plan.pinned_bytes + plan.host_bytes <= 24 * GIB);
    }
    config = tinyllama();
    s.gradient_accumulation_steps = 1;
    Plan small = planned(&config, &s, 8192, 6 * GIB, 24 * GIB);
    assert_true(on_card(&small) <= 6 * GIB);
    assert_true(small.sizes.tokens >= 8192);
}

// ---- properties ----

// Random machines, models and batches: within the limits or refused, the sum of its parts, and the same again.
static void nothing_is_over_its_limit(void **state) {
    (void)state;
    ModelConfig models[] = {tinyllama(), llama_7b(), qwen_7b()};
    int fitted = 0;
    for (uint64_t i = 0; i < 60; i++) {
        const ModelConfig *config = &models[random_below(7, 6 * i, 3)];
        TrainSettings s = settings_of(1 + (int64_t)random_below(7, 6 * i + 1, 16));
        s.max_grad_norm = random_below(7, 6 * i + 2, 3) > 0;
        uint64_t vram = PART(1 + 0.1 * (double)random_below(7, 6 * i + 3, 240));
        uint64_t ram = PART(2 + 0.25 * (double)random_below(7, 6 * i + 4, 240));
        int64_t length = 128 + (int64_t)random_below(7, 6 * i + 5, 3000);
        PlanRequest request = request_of(config, &s, length, vram, ram);
        Plan plan;
        Error error = {0};
        if (!plan_make(&plan, &request, &error)) {
            assert_non_null(strstr(error.text, "the run "));
            assert_true(*error.hint);
            continue;
        }
        fitted++;
        assert_true(on_card(&plan) <= vram && plan.pinned_bytes + plan.host_bytes <= ram);
        assert_true(plan.sizes.tokens >= length && plan.sizes.tokens % 128 == 0);
        assert_true(!plan.state.shared_gradient || plan.sizes.sweep == plan.batches);
        PlanUse all = {0};
        for (int use = 0; use < USE_COUNT; use++) {
            all.device_bytes += plan.uses[use].device_bytes;
            all.pinned_bytes += plan.uses[use].pinned_bytes;
            all.host_bytes += plan.uses[use].host_bytes;
        }
        assert_int_equal(all.device_bytes, plan.device_bytes);
        assert_int_equal(all.pinned_bytes, plan.pinned_bytes);
        assert_int_equal(all.host_bytes, plan.host_bytes);
    }
    assert_true(fitted >= 20 && fitted < 60);
}

// One figure at a time: more memory on the card, then on the host.
static void more_memory_is_never_slower(void **state) {
    (void)state;
    ModelConfig models[] = {tinyllama(), llama_7b(), llama_8b()};
    Rates rates = rates_assumed(8 * GIB);
    for (int m = 0; m < 3; m++) {
        for (int way = 0; way < 2; way++) {
            TrainSettings s = settings_of(8);
            double before = 0;
            int steps = 0;
            for (double size = way ? 10 : 3; size < (way ? 60 : 26); size *= 1.12) {
                PlanRequest request =
                    request_of(&models[m], &s, 1024, way ? PART(7.5) : PART(size), way ? PART(size) : PART(30));
                Plan plan;
                Error error = {0};
                request.rates = &rates;
                if (!plan_make(&plan, &request, &error)) {
                    assert_true(before == 0); // what fitted fits with more
                    continue;
                }
                if (before > 0 && plan.estimate.seconds > before)
                    fail_msg("model %d: %.2f GiB take %.6f s, less took %.6f s", m, size, plan.estimate.seconds,
                             before);
                before = plan.estimate.seconds;
                steps++;
            }
            assert_true(steps > 5);
        }
    }
}

// The chosen plan is as fast as any plan beside it that fits.
static void no_neighbour_is_better(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    for (int i = 0; i < 6; i++) {
        TrainSettings s = settings_of(i % 2 ? 8 : 3);
        PlanNeighbour list[PLAN_NEIGHBOURS_MAX];
        PlanRequest request = request_of(&config, &s, 1024, PART(6 + 3 * i), 26 * GIB);
        Plan plan;
        Error error = {0};
        check(plan_make(&plan, &request, &error), &error);
        int count = plan_neighbours(&plan, &request, list);
        assert_true(count >= 6);
        for (int n = 0; n < count; n++) {
            bool fits = on_card(&list[n].plan) <= request.memory_limit &&
                        list[n].plan.pinned_bytes + list[n].plan.host_bytes <= request.host_limit;
            assert_int_equal(list[n].fits, fits);
            if (fits && list[n].plan.estimate.seconds < plan.estimate.seconds)
                fail_msg("%s would be faster: %g s, not %g s", list[n].change, list[n].plan.estimate.seconds,
                         plan.estimate.seconds);
        }
    }
}

static void what_is_given_is_kept_to(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    for (int bits = 0; bits < 64; bits++) {
        TrainSettings s = settings_of(4);
        s.embedding_state = bits & 1 ? PLACE_HOST : PLACE_DEVICE;
        s.head_state = bits & 2 ? PLACE_HOST : PLACE_DEVICE;
        s.layer_state = bits & 4 ? PLACE_HOST : PLACE_DEVICE;
        s.layer_inputs = bits & 8 ? PLACE_HOST : PLACE_DEVICE;
        s.gradients = bits & 16 ? PLACE_HOST : PLACE_DEVICE;
        s.stream_from = bits & 32 ? STREAM_FILE : STREAM_MEMORY;
        s.layers_resident = bits % 30;
        s.sweep_micro_batches = bits & 16 ? 0 : 1 + bits % 3;
        s.micro_batch_tokens = 1024;
        s.gradient_checkpointing = CHECKPOINT_MLP;
        Plan plan = planned(&config, &s, 1000, PLENTY, PLENTY);
        assert_int_equal(plan.store.embedding_on_host, s.embedding_state == PLACE_HOST);
        assert_int_equal(plan.state.head_on_host, s.head_state == PLACE_HOST);
        assert_int_equal(plan.state.layers_on_host, s.layer_state == PLACE_HOST);
        assert_int_equal(plan.sizes.inputs == INPUTS_ON_HOST, s.layer_inputs == PLACE_HOST);
        assert_int_equal(plan.state.shared_gradient, s.gradients == PLACE_HOST);
        assert_int_equal(plan.store.in_file, s.stream_from == STREAM_FILE);
        assert_int_equal(plan.store.streamed, 32 - s.layers_resident);
        assert_int_equal(plan.sizes.sweep, bits & 16 ? 4 : s.sweep_micro_batches);
        assert_int_equal(plan.sizes.tokens, 1024);
        assert_int_equal(plan.sizes.keep_attention, 32);
    }
}

// Moments in bf16 count for the time as for the memory: of the same plan, less by the device, more by the CPU.
static void narrow_moments_count_for_the_time(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    for (int on_host = 0; on_host < 2; on_host++) {
        TrainSettings s = settings_of(1);
        s.layers_resident = 32;
        s.gradients = s.layer_inputs = PLACE_DEVICE;
        s.embedding_state = s.head_state = s.layer_state = on_host ? PLACE_HOST : PLACE_DEVICE;
        Plan wide = planned(&config, &s, 1024, PLENTY, PLENTY);
        s.optim_bits = OPTIM_BITS_16;
        Plan narrow = planned(&config, &s, 1024, PLENTY, PLENTY);
        if (on_host) {
            assert_true(narrow.host_bytes < wide.host_bytes && narrow.estimate.host > 2 * wide.estimate.host);
        } else {
            assert_true(narrow.device_bytes < wide.device_bytes);
            assert_true(narrow.estimate.seconds < wide.estimate.seconds);
        }
    }
}

// Short examples leave the link no time: they are planned otherwise than long ones, for the same memory.
static void usual_lengths_count_for_the_time(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    TrainSettings s = settings_of(8);
    Plan plan;
    Error error = {0};
    PlanRequest request = request_of(&config, &s, 2048, PART(22.3), 40 * GIB);
    check(plan_make(&plan, &request, &error), &error);
    int streamed = plan.store.streamed;
    request.usual_len = 100;
    check(plan_make(&plan, &request, &error), &error);
    assert_true(plan.store.streamed < streamed);
    assert_true(on_card(&plan) <= request.memory_limit);
}

// ---- refusals ----

static Error refused(const PlanRequest *request) {
    Plan plan;
    Error error = {0};
    assert_false(plan_make(&plan, request, &error));
    return error;
}

// The first number of bytes "x.y MiB" or "x.y GiB" in a text.
static double bytes_in(const char *text) {
    double number;
    const char *at = strpbrk(text, "0123456789");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "%lf", &number), 1);
    const char *unit = strstr(at, "iB");
    assert_non_null(unit);
    return number * (unit[-1] == 'G' ? 1024 : unit[-1] == 'M' ? 1 : 1.0 / 1024);
}

// What it says is needed is enough, and a little less is not.
static void a_refusal_names_the_minimum(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    TrainSettings s = settings_of(8);
    PlanRequest request = request_of(&config, &s, 1024, 2 * GIB, 40 * GIB);
    Error error = refused(&request);
    assert_non_null(strstr(error.text, "of the card's memory, 2.0 GiB can be used"));
    double need = bytes_in(error.text); // to a tenth of a GiB
    request.memory_limit = (uint64_t)((need + 52) * 1024 * 1024);
    Plan plan;
    check(plan_make(&plan, &request, &error), &error);
    request.memory_limit = (uint64_t)((need - 52) * 1024 * 1024);
    refused(&request);
    request.memory_limit = 7 * GIB;
    request.host_limit = GIB;
    error = refused(&request); // more on the card would do as well
    assert_non_null(strstr(error.text, "of the card's memory, 7.0 GiB can be used: "));
    assert_non_null(strstr(error.text, " are missing, or "));
    assert_non_null(strstr(error.text, "of host memory, 1.0 GiB can be used: "));
    request.scratch_dir = NULL; // no file may be made: more host memory is needed
    request.host_limit = 12 * GIB;
    error = refused(&request);
    assert_non_null(strstr(error.text, "of host memory, 12.0 GiB can be used"));
}

// The longest sequence that fits is named; it fits, and 64 tokens more do not.
static void a_refusal_names_the_longest_sequence(void **state) {
    (void)state;
    ModelConfig config = llama_8b();
    TrainSettings s = settings_of(1);
    PlanRequest request = request_of(&config, &s, 8192, 5 * GIB, 40 * GIB);
    Error error = refused(&request);
    const char *named = strstr(error.hint, "cutoff_len=");
    assert_non_null(named);
    request.cutoff_len = atoll(named + strlen("cutoff_len="));
    assert_true(request.cutoff_len >= 64 && request.cutoff_len < 8192);
    Plan plan;
    check(plan_make(&plan, &request, &error), &error);
    request.cutoff_len += 64;
    refused(&request);
}

// Narrow moments are advised where they alone would do, and only to who has wide ones.
static void a_refusal_names_narrow_moments(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    TrainSettings s = settings_of(1);
    s.layers_resident = 32;
    s.head_state = s.layer_state = s.gradients = s.layer_inputs = s.embedding_state = PLACE_DEVICE;
    s.gradient_checkpointing = CHECKPOINT_TRUE;
    PlanRequest request = request_of(&config, &s, 1024, PART(20.5), 40 * GIB);
    Plan plan;
    Error error = refused(&request);
    assert_non_null(strstr(error.hint, "optim_bits=16"));
    s.optim_bits = OPTIM_BITS_16;
    check(plan_make(&plan, &request, &error), &error);
    request.memory_limit = 12 * GIB; // too little for these as well
    assert_null(strstr(refused(&request).hint, "optim_bits"));
    s.optim_bits = OPTIM_BITS_32;
    assert_null(strstr(refused(&request).hint, "optim_bits"));
    s = settings_of(1); // with state on the host its memory is what is short
    s.head_state = s.layer_state = s.embedding_state = PLACE_HOST;
    s.lisa_activated_layers = 8;
    request.memory_limit = 24 * GIB, request.scratch_dir = NULL;
    request.host_limit = 24 * GIB;
    assert_non_null(strstr(refused(&request).hint, "optim_bits=16"));
    s.optim_bits = OPTIM_BITS_16;
    check(plan_make(&plan, &request, &error), &error);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    TrainSettings s = settings_of(8);
    PlanRequest request = request_of(&config, &s, 9000, 24 * GIB, 40 * GIB);
    assert_string_equal(refused(&request).text,
                        "cutoff_len: 9000 is more than the 8192 positions that the model was made for");
    request.cutoff_len = 1024;
    s.layers_resident = 33;
    assert_string_equal(refused(&request).text, "layers_resident: 33 is more than the model's 32 layers");
    s.layers_resident = -1;
    config.tied = true;
    s.embedding_state = PLACE_HOST;
    assert_non_null(strstr(refused(&request).text, "embedding_state: the model's embedding and head are one matrix"));
    config.tied = false;
    s.head_state = s.layer_state = s.embedding_state = s.layer_inputs = PLACE_DEVICE; // more than is there
    s.layers_resident = 32;
    request.memory_limit = 12 * GIB;
    Error error = refused(&request);
    assert_non_null(strstr(error.hint, "leaving the placement of weights, state, inputs and gradients to the plan"));
}

// On a live machine a limit above what is free is refused; a card is not asked for its memory by a description.
static void a_limit_above_what_is_free(void **state) {
    (void)state;
    Error error = {0};
    Backend *cpu = backend_cpu_create(1, false, &error);
    check(cpu, &error);
    ModelConfig config = tiny_config();
    TrainSettings s = tiny_settings();
    PlanRequest request = request_of(&config, &s, 64, 1 << 30, 0);
    request.backend = cpu;
    Plan plan;
    check(plan_make(&plan, &request, &error), &error);
    request.memory_limit = (uint64_t)1 << 60;
    error = refused(&request);
    assert_non_null(strstr(error.text, "vram: "));
    assert_non_null(strstr(error.text, " is more than the "));
    assert_int_equal(error.exit_code, ERROR_EXIT_USAGE);
    cpu->destroy(cpu);
}

// The independent model of shared/, where it is at hand: every component within 3 %.
static void an_independent_model_agrees(void **state) {
    (void)state;
    if (access("../shared/reference/memory_model.py", R_OK)) skip();
    Run run = run_shell("command -v python3 >/dev/null || exit 77; "
                        "python3 tests/compare_memory_model.py \"$LISA\" ../shared/reference");
    if (run.exit_code != 0 && run.exit_code != 77) fail_msg("%s%s", run.out, run.err);
    if (run.exit_code == 0) assert_non_null(strstr(run.out, "160 plans, 0 components off"));
    run_free(&run);
}

static int open_card(void **state) {
    (void)state;
    Error error = {0};
    card = backend_cuda_describe(&error);
    return card == NULL;
}

static int close_card(void **state) {
    (void)state;
    card->destroy(card);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_7b_model_on_24_gb),
        cmocka_unit_test(the_cards_that_people_have),
        cmocka_unit_test(nothing_is_over_its_limit),
        cmocka_unit_test(more_memory_is_never_slower),
        cmocka_unit_test(no_neighbour_is_better),
        cmocka_unit_test(what_is_given_is_kept_to),
        cmocka_unit_test(narrow_moments_count_for_the_time),
        cmocka_unit_test(usual_lengths_count_for_the_time),
        cmocka_unit_test(a_refusal_names_the_minimum),
        cmocka_unit_test(a_refusal_names_the_longest_sequence),
        cmocka_unit_test(a_refusal_names_narrow_moments),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(a_limit_above_what_is_free),
        cmocka_unit_test(an_independent_model_agrees),
    };
    return cmocka_run_group_tests(tests, open_card, close_card);
}

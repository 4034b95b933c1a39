// test_estimate.c - the predicted seconds of a step: its FLOPs are the program's, its loads those of two buffers, and
// what is known of streaming comes out. train/estimate.h.
#include "base/clock.h"
#include "base/random.h"
#include "tests/support.h"
#include "train/estimate.h"
#include "train/flops.h"
#include <math.h>

#define NEVER 1e40 // bytes/s or FLOP/s: takes no time
#define PLANS 5000 // random ones

static ModelConfig model(int layers, int heads, int kv_heads, int head_dim, int64_t f, int64_t vocabulary) {
    ModelConfig config = {.layers = layers, .heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
    config.hidden = (int64_t)heads * head_dim, config.intermediate = f, config.vocabulary = vocabulary;
    return config;
}

static ModelConfig llama_7b(void) {
    return model(32, 32, 32, 128, 11008, 32000);
}

static StepPlan plan_of(const ModelConfig *config, int64_t tokens, int64_t batches) {
    StepPlan plan = {.config = config, .activated = 2, .training = true};
    plan.sequence_tokens = plan.tokens = tokens, plan.sweep = plan.batches = batches;
    return plan;
}

static Estimate estimate(const StepPlan *plan, const Rates *rates) {
    Estimate e;
    estimate_step(plan, rates, &e);
    return e;
}

static void near(double a, double b, double tolerance) {
    if (!(fabs(a - b) <= tolerance * fabs(b))) fail_msg("%.17g is not within %g of %.17g", a, tolerance, b);
}

// ---- computing -----------------------------------------------------------------------------------------------------

// By train/flops.h, for the plan's micro-batch.
static double counted(const StepPlan *plan, LayerKeep keep, const Backend *b) {
    int32_t starts[100] = {0};
    MicroBatch batch = {.tokens = plan->tokens, .used = plan->tokens, .targets = plan->tokens, .starts = starts};
    GemmWork works[GEMM_WORKS_MAX];
    while (starts[batch.sequences] < plan->tokens) {
        batch.sequences++;
        starts[batch.sequences] = starts[batch.sequences - 1] + (int32_t)plan->sequence_tokens;
    }
    PassSizes sizes = {.tokens = plan->tokens};
    pass_keep_everywhere(&sizes, plan->config->layers, keep);
    double flops = attention_flops_executed(plan->config, &batch, &sizes, b);
    int count = gemm_works(plan->config, plan->activated, &batch, 100, works);
    for (int i = 0; i < count; i++) flops += gemm_flops(&works[i]);
    count = gemm_works_again(plan->config, &batch, &sizes, works);
    for (int i = 0; i < count; i++) flops += gemm_flops(&works[i]);
    return flops;
}

static void the_flops_are_those_that_are_counted(void **state) {
    (void)state;
    Error error = {0};
    Backend *card = backend_cuda_describe(&error);
    check(card != NULL, &error);
    const Rates rates = {.flops = 1e12, .memory = NEVER, .to_device = 1, .to_host = 1, .disk = 1, .host = 1};
    for (int windowed = 0; windowed < 3; windowed++) {
        ModelConfig config = model(7, 6, 2, 40, 333, 1001);
        config.window = windowed ? 17 : 0;
        for (int l = 0; l < config.layers; l++) config.windowed[l] = windowed == 1 || (windowed == 2 && l % 3 == 1);
        for (int keep = KEEP_INPUT; keep <= KEEP_ALL; keep++) {
            StepPlan plan = plan_of(&config, 777, 1);
            plan.sequence_tokens = 111;
            plan.activated = keep * 3;
            plan.keep_all = keep == KEEP_ALL ? 7 : 0;
            plan.keep_attention = keep == KEEP_ATTENTION ? 7 : 0;
            near(estimate(&plan, &rates).seconds * rates.flops, counted(&plan, (LayerKeep)keep, card), 1e-12);
        }
    }
    card->destroy(card);
}

// The same in bytes: elementwise work, gradients and AdamW.
static void the_bytes_are_those_of_the_model(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    StepPlan plan = plan_of(&config, 1024, 3);
    plan.sweep = 1, plan.keep_all = 32;
    const Rates rates = {.flops = NEVER, .memory = 1e12, .to_device = 1, .to_host = 1, .disk = 1, .host = 1};
    double d = 4096, f = 11008, tokens = 3 * 1024, weights = 2 * 202383360.0 + 2 * 32000 * d + d;
    double layer = 16 * d + 6 * f + 4 * 2 * d + 16 * d + 10 * f + 4 * 2 * d + 4 * d;
    double bytes = tokens * (32 * layer + 14 * d + 6 * 32000) + 32 * weights;
    near(estimate(&plan, &rates).seconds * rates.memory, bytes, 1e-12);
}

// Moments of 2 bytes: 8 bytes a weight less on the device; by the CPU, which makes random bits for them, 2.2 times as
// long.
static void half_the_moments_are_fewer_bytes(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    StepPlan plan = plan_of(&config, 1024, 1), narrow;
    Rates memory = {.flops = NEVER, .memory = 1e12, .to_device = 1, .to_host = 1, .disk = 1, .host = 1};
    Rates host = {.flops = NEVER, .memory = NEVER, .to_device = NEVER, .to_host = NEVER, .disk = 1, .host = 1e9};
    double seconds = estimate(&plan, &memory).seconds, weights = 2 * 202383360.0 + 2 * 32000 * 4096.0 + 4096;
    narrow = plan, narrow.moment_bytes = 2;
    plan.moment_bytes = 4;
    near(estimate(&plan, &memory).seconds, seconds, 1e-12); // what 0 stands for
    near((seconds - estimate(&narrow, &memory).seconds) * memory.memory, 8 * weights, 1e-9);
    plan.embedding_on_host = plan.head_on_host = plan.layers_on_host = true;
    narrow = plan, narrow.moment_bytes = 2;
    near(estimate(&plan, &host).seconds, 28 * weights / host.host, 1e-6);
    near(estimate(&narrow, &host).seconds, 2.2 * 28 * weights / host.host, 1e-6);
}

static void all_resident_is_the_sum_of_its_parts(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    Rates rates = rates_assumed((uint64_t)24 << 30), compute = rates, memory = rates;
    compute.memory = NEVER, memory.flops = NEVER;
    for (int sweep = 1; sweep <= 7; sweep++) {
        for (int fused = 0; fused < 2; fused++) {
            StepPlan plan = plan_of(&config, 1024, 7);
            plan.sweep = sweep, plan.fused_update = fused;
            Estimate e = estimate(&plan, &rates);
            near(e.seconds, estimate(&plan, &compute).seconds + estimate(&plan, &memory).seconds, 1e-9);
            near(e.compute, e.seconds, 1e-9);
            near(e.tokens_per_second, 7 * 1024 / e.seconds, 1e-9);
            assert_true(e.to_device == 0 && e.to_host == 0 && e.disk == 0 && e.host == 0);
            assert_int_equal(e.tokens_to_hide_link, 0);
        }
    }
}

// The times of memory-speed-model.md, for what both count: the layers, H and E resident, no clipping's norm of E.
static void the_models_times_come_out(void **state) {
    (void)state;
    static const struct {
        uint64_t gib;
        int64_t tokens;
        double seconds, checkpointed;
    } CASES[] = {
        {24, 1024, 0.2553, 0.3417}, {24, 4096, 1.0486, 1.4191}, {80, 2048, 0.0866, 0.1167}, {8, 512, 0.7228, 0.9593}};
    ModelConfig config = llama_7b();
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        Rates rates = rates_assumed(CASES[i].gib << 30);
        StepPlan plan = plan_of(&config, CASES[i].tokens, 1);
        plan.embedding_on_host = true; // the model takes its update for free
        plan.keep_all = 32;
        near(estimate(&plan, &rates).compute, CASES[i].seconds, 0.04);
        plan.keep_all = 0;
        near(estimate(&plan, &rates).compute, CASES[i].checkpointed, 0.04);
    }
}

static void an_evaluation_is_a_forward_pass(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    StepPlan plan = plan_of(&config, 1024, 2);
    const Rates rates = {.flops = 1e12, .memory = NEVER, .to_device = 1e9, .to_host = 1, .disk = 1, .host = 1};
    plan.training = false, plan.head_on_host = plan.layers_on_host = true;
    double matrices = 2048.0 * 2 * (32 * 202375168.0 + 4096 * 32000);
    double attention = 2 * 32 * 2 * attention_product_flops(&config, 0, 1024);
    near(estimate(&plan, &rates).seconds, (matrices + attention) / rates.flops, 1e-9);
    plan.streamed = 5;
    near(estimate(&plan, &rates).to_device, 5 * 2 * 202383360.0 / 1e9, 1e-9); // up the layers, and up again
}

// ---- streaming -----------------------------------------------------------------------------------------------------

static void two_buffers_need_so_many_loads(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    Rates rates = rates_assumed((uint64_t)8 << 30);
    double load = 2 * 202383360.0 / rates.to_device;
    for (int streamed = 0; streamed <= 32; streamed++) {
        StepPlan plan = plan_of(&config, 2048, 8);
        plan.streamed = streamed, plan.activated = 0;
        int loads = streamed < 2 ? 0 : 2 * streamed - 4;
        for (plan.sweep = 1; plan.sweep <= 8; plan.sweep++) {
            int64_t sweeps = (8 + plan.sweep - 1) / plan.sweep;
            Estimate e = estimate(&plan, &rates);
            near(e.to_device, (double)sweeps * loads * load, 1e-9);
            assert_true(e.to_host == 0 && e.disk == 0 && e.host == 0);
            plan.streamed_from_file = true;
            e = estimate(&plan, &rates);
            near(e.to_device, (double)sweeps * loads * load, 1e-9);
            near(e.disk, (double)sweeps * loads * load * rates.to_device / rates.disk, 1e-9);
            plan.streamed_from_file = false;
        }
    }
}

// memory-speed-model.md's simulation of 40 layers: the step's time by that of its computing. rho: tokens by those that
// would hide the link, R: resident layers.
static void even_spacing_as_in_the_model(void **state) {
    (void)state;
    static const struct {
        double rho;
        int resident;
        double ratio;
    } TABLE[] = {{0.2, 0, 3.50},   {0.2, 10, 2.59},  {0.2, 20, 1.73},  {0.2, 26, 1.24},  {0.2, 32, 1.00},
                 {0.2, 36, 1.00},  {0.35, 0, 2.03},  {0.35, 10, 1.52}, {0.35, 20, 1.14}, {0.35, 26, 1.00},
                 {0.35, 32, 1.00}, {0.35, 36, 1.00}, {0.5, 0, 1.44},   {0.5, 10, 1.19},  {0.5, 20, 1.00},
                 {0.5, 26, 1.00},  {0.5, 32, 1.00},  {0.5, 36, 1.00},  {1.0, 0, 1.01},   {1.0, 10, 1.00},
                 {1.0, 20, 1.00},  {1.0, 26, 1.00},  {1.0, 32, 1.00},  {1.0, 36, 1.00}};
    // backward takes 1.77 times forward's FLOPs when the down projection is 0.23 of a layer; E, H and attention nothing
    ModelConfig config = model(40, 8, 8, 128, 3040, 1);
    Rates rates = {.flops = 1e12, .memory = NEVER, .to_host = 1, .disk = 1, .host = 1};
    for (size_t i = 0; i < sizeof TABLE / sizeof *TABLE; i++) {
        StepPlan plan = plan_of(&config, 4096, 1);
        plan.sequence_tokens = 1, plan.activated = 0;
        plan.streamed = 40 - TABLE[i].resident;
        rates.to_device = TABLE[i].rho * rates.flops / 4096; // a weight's 2 bytes take as long as its 2 FLOPs a token
        Estimate e = estimate(&plan, &rates);
        near(e.seconds / e.compute, TABLE[i].ratio, 0.03);
    }
}

static void so_many_tokens_hide_the_link(void **state) {
    (void)state;
    static const struct {
        uint64_t gib;
        double tokens;
    } CARDS[] = {{8, 1863}, {12, 4333}, {16, 2540}, {24, 5284}, {32, 3352}, {80, 15192}};
    ModelConfig config = llama_7b();
    for (size_t i = 0; i < sizeof CARDS / sizeof *CARDS; i++) {
        Rates rates = rates_assumed(CARDS[i].gib << 30);
        StepPlan plan = plan_of(&config, 128, 1000), resident;
        plan.sequence_tokens = 1, plan.streamed = 32, plan.activated = 0;
        double tokens = (double)estimate(&plan, &rates).tokens_to_hide_link;
        assert_true(tokens < CARDS[i].tokens); // the table leaves elementwise work out, which hides some as well
        near(tokens, CARDS[i].tokens, 0.12);
        // with as many tokens a sweep costs what a resident model's does; with half of them it does not
        plan.sweep = plan.batches = (int64_t)ceil(tokens / 128);
        resident = plan, resident.streamed = 0;
        near(estimate(&plan, &rates).seconds, estimate(&resident, &rates).seconds, 0.01);
        plan.sweep = resident.sweep = plan.batches = resident.batches = plan.batches / 2;
        assert_true(estimate(&plan, &rates).seconds > 1.1 * estimate(&resident, &rates).seconds);
        // half the layers need half as many, a slow disk more
        plan.streamed = 16;
        near((double)estimate(&plan, &rates).tokens_to_hide_link, tokens / 2, 0.001);
        plan.streamed_from_file = true, rates.disk = rates.to_device / 4;
        near((double)estimate(&plan, &rates).tokens_to_hide_link, tokens * 2, 0.001);
    }
}

// ---- the host ------------------------------------------------------------------------------------------------------

static Estimate on_a_slow(const StepPlan *plan, double to_device, double to_host, double host) {
    return estimate(plan, &(Rates){"slow", NEVER, NEVER, to_device, to_host, NEVER, host});
}

// Where one resource alone takes time, its share of a step is the step.
static void what_the_host_holds_takes_its_time(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    StepPlan plan = plan_of(&config, 1024, 2);
    double layers = 2 * 202383360.0, ends = 32000 * 4096.0, rows = 2048 * 4096.0, norm = 4096;
    plan.embedding_on_host = plan.head_on_host = plan.layers_on_host = true;
    near(on_a_slow(&plan, NEVER, NEVER, 1e9).seconds, 28 * (layers + 2 * ends + norm) / 1e9, 1e-6);
    near(on_a_slow(&plan, 1e9, NEVER, NEVER).seconds, 2 * (rows + layers + ends + norm) / 1e9, 1e-6);
    near(on_a_slow(&plan, NEVER, 1e9, NEVER).seconds, 4 * (rows + layers + ends + norm) / 1e9, 1e-6);
    plan.inputs_on_host = true;
    near(on_a_slow(&plan, 1e9, NEVER, NEVER).seconds, 2 * (33 * rows + layers + ends + norm) / 1e9, 1e-6);
    near(on_a_slow(&plan, NEVER, 1e9, NEVER).seconds, (2 * 32 * rows + 4 * (rows + layers + ends + norm)) / 1e9, 1e-6);
    plan.embedding_on_host = plan.head_on_host = plan.layers_on_host = plan.inputs_on_host = false;
    plan.gradients_parked = true;
    near(on_a_slow(&plan, 1e9, NEVER, NEVER).seconds, 4 * (layers + ends + norm) / 1e9, 1e-6);
    near(on_a_slow(&plan, NEVER, 1e9, NEVER).seconds, 4 * (layers + ends + norm) / 1e9, 1e-6);
    // a streamed active layer with its state on the device: one more load, one store
    plan.gradients_parked = false, plan.streamed = 32;
    near(on_a_slow(&plan, 1e9, NEVER, NEVER).to_device, (60 + 2) * layers / 1e9, 1e-6);
    near(on_a_slow(&plan, NEVER, 1e9, NEVER).to_host, 2 * layers / 1e9, 1e-6);
    // of those on the host, two of 32 would have stayed in a buffer
    plan.layers_on_host = true;
    near(on_a_slow(&plan, 1e9, NEVER, NEVER).to_device, (60 + 2 * 2 / 32.0) * layers / 1e9, 1e-6);
}

// A CPU that is fast enough hides behind the device: E's rest behind the next forward.
static void the_host_works_meanwhile(void **state) {
    (void)state;
    ModelConfig config = llama_7b();
    Rates rates = rates_assumed((uint64_t)24 << 30);
    StepPlan plan = plan_of(&config, 1024, 2);
    plan.embedding_on_host = true;
    Estimate e = estimate(&plan, &rates);
    double rows = 2048 * 4096.0, wait = 4 * rows / rates.to_host + 28 * rows / rates.host + 2 * rows / rates.to_device;
    near(e.host, 28 * 32000 * 4096.0 / rates.host, 1e-6);
    near(e.seconds, e.compute, 1e-9); // the rows are there before the device has updated the others
    assert_true(e.host > 5 * wait);
    plan.fused_update = true; // which it has now done before
    near(estimate(&plan, &rates).seconds, e.compute + wait, 1e-9);
    plan.fused_update = false;
    // all of it on the host waits for it at the step's end, but not for H's and the rest of E's share
    plan.head_on_host = plan.layers_on_host = true;
    Estimate all = estimate(&plan, &rates);
    assert_true(all.seconds > all.compute + 0.01 && all.seconds < all.compute + all.host);
}

// ---- any plan ------------------------------------------------------------------------------------------------------

static bool coin(uint64_t key, uint64_t *i) {
    return random_bits(key, (*i)++) & 1;
}

static int64_t from(uint64_t key, uint64_t *i, int64_t low, int64_t high) {
    return low + (int64_t)random_below(key, (*i)++, (uint64_t)(high - low + 1));
}

static StepPlan random_plan(uint64_t key, ModelConfig *config, Rates *rates) {
    uint64_t i = 0;
    static const int LAYERS[] = {1, 2, 3, 16, 32, 40, 80};
    int layers = LAYERS[from(key, &i, 0, 6)], heads = (int)from(key, &i, 8, 64);
    *config = model(layers, heads, heads, 128, 128 * from(key, &i, 8, 200), 32000 * from(key, &i, 1, 4));
    config->tied = coin(key, &i);
    *rates = rates_assumed((uint64_t)from(key, &i, 1, 100) << 30);
    rates->host *= exp2((double)from(key, &i, -2, 4));
    rates->to_device *= exp2((double)from(key, &i, -2, 2));
    int64_t batches = from(key, &i, 1, 40);
    StepPlan plan = plan_of(config, 128 * from(key, &i, 1, 32), batches);
    plan.sequence_tokens = from(key, &i, 1, plan.tokens);
    plan.sweep = from(key, &i, 1, batches);
    plan.activated = (int)from(key, &i, 0, layers < 4 ? layers : 4);
    plan.keep_all = (int)from(key, &i, 0, layers);
    plan.keep_attention = (int)from(key, &i, 0, layers - plan.keep_all);
    plan.streamed = coin(key, &i) ? (int)from(key, &i, 0, layers) : 0;
    plan.training = from(key, &i, 0, 9) > 0;
    plan.inputs_on_host = coin(key, &i), plan.streamed_from_file = coin(key, &i);
    plan.embedding_on_host = coin(key, &i), plan.head_on_host = coin(key, &i), plan.layers_on_host = coin(key, &i);
    plan.gradients_parked = coin(key, &i);
    plan.moment_bytes = coin(key, &i) ? 2 : 4;
    plan.fused_update = plan.sweep == batches && coin(key, &i);
    return plan;
}

static void not_slower(const StepPlan *plan, const Rates *rates, double seconds, double tolerance, const char *what) {
    double now = estimate(plan, rates).seconds;
    if (now > seconds * (1 + tolerance)) fail_msg("%s: %.9g seconds instead of %.9g", what, now, seconds);
}

static void more_is_never_slower(void **state) {
    (void)state;
    for (uint64_t key = 0; key < PLANS; key++) {
        ModelConfig config;
        Rates rates, faster;
        StepPlan plan = random_plan(key, &config, &rates), other;
        double seconds = estimate(&plan, &rates).seconds;
        assert_true(isfinite(seconds) && seconds > 0);
        faster = rates, faster.flops *= 1.3, not_slower(&plan, &faster, seconds, 1e-9, "FLOP/s");
        faster = rates, faster.memory *= 1.3, not_slower(&plan, &faster, seconds, 1e-9, "memory");
        faster = rates, faster.to_device *= 1.3, not_slower(&plan, &faster, seconds, 1e-9, "link up");
        faster = rates, faster.to_host *= 1.3, not_slower(&plan, &faster, seconds, 1e-9, "link down");
        faster = rates, faster.disk *= 1.3, not_slower(&plan, &faster, seconds, 1e-9, "disk");
        faster = rates, faster.host *= 1.3, not_slower(&plan, &faster, seconds, 1e-9, "host");
        other = plan, other.keep_all += plan.keep_all < config.layers;
        if (other.keep_all + other.keep_attention > config.layers) other.keep_attention--;
        not_slower(&other, &rates, seconds, 1e-9, "one more layer that keeps everything");
        other = plan, other.keep_attention += plan.keep_all + plan.keep_attention < config.layers;
        not_slower(&other, &rates, seconds, 1e-9, "one more layer that keeps its attention");
        other = plan, other.streamed -= plan.streamed > 0;
        not_slower(&other, &rates, seconds, 2e-3, "one more resident layer"); // the streamed ones lie elsewhere
        other = plan, other.streamed = 0;
        not_slower(&other, &rates, seconds, 1e-9, "all layers resident");
    }
}

// No resource is busy for longer than the step, and a step is no longer than if nothing went on at the same time.
static void a_step_has_room_for_its_work(void **state) {
    (void)state;
    for (uint64_t key = 0; key < PLANS; key++) {
        ModelConfig config;
        Rates rates;
        StepPlan plan = random_plan(key, &config, &rates);
        Estimate e = estimate(&plan, &rates);
        double most = fmax(fmax(fmax(e.compute, e.to_device), fmax(e.to_host, e.disk)), e.host);
        double sum = e.compute + e.to_device + e.to_host + e.disk + e.host;
        if (most > e.seconds * (1 + 1e-9) || e.seconds > sum * (1 + 1e-9))
            fail_msg("plan %d: %.9g seconds, not %.9g to %.9g", (int)key, e.seconds, most, sum);
        near(e.tokens_per_second, (double)(plan.tokens * plan.batches) / e.seconds, 1e-9);
    }
}

// Cheap enough for thousands of plans.
static void an_estimate_takes_microseconds(void **state) {
    (void)state;
    ModelConfig config = model(80, 64, 8, 128, 28672, 32000);
    StepPlan plan = plan_of(&config, 2048, 1000);
    Rates rates = rates_assumed((uint64_t)24 << 30);
    plan.sweep = 9, plan.streamed = 73, plan.keep_all = 7, plan.activated = 4;
    plan.inputs_on_host = plan.embedding_on_host = plan.head_on_host = plan.layers_on_host = true;
    double times[101], sum = 0;
    for (int i = 0; i < 101; i++) {
        double start = clock_seconds();
        sum += estimate(&plan, &rates).seconds;
        times[i] = clock_seconds() - start;
    }
    double median = clock_median(times, 101);
    assert_true(sum > 0);
    print_message("an estimate of 80 layers in many sweeps takes %.1f microseconds\n", 1e6 * median);
    assert_true(median < 500e-6); // of any machine, whatever else it does
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_flops_are_those_that_are_counted),
        cmocka_unit_test(the_bytes_are_those_of_the_model),
        cmocka_unit_test(half_the_moments_are_fewer_bytes),
        cmocka_unit_test(all_resident_is_the_sum_of_its_parts),
        cmocka_unit_test(the_models_times_come_out),
        cmocka_unit_test(an_evaluation_is_a_forward_pass),
        cmocka_unit_test(two_buffers_need_so_many_loads),
        cmocka_unit_test(even_spacing_as_in_the_model),
        cmocka_unit_test(so_many_tokens_hide_the_link),
        cmocka_unit_test(what_the_host_holds_takes_its_time),
        cmocka_unit_test(the_host_works_meanwhile),
        cmocka_unit_test(more_is_never_slower),
        cmocka_unit_test(a_step_has_room_for_its_work),
        cmocka_unit_test(an_estimate_takes_microseconds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Whole optimizer steps against PyTorch: AdamW with clipping, schedule and weight decay on fp32 masters whose bf16
// rounding the forward sees. What is stored comes from tests/golden/make_training_golden.py.
#include "kernels/adamw.h"
#include "tests/golden.h"
#include "tests/support.h"
#include "train/schedule.h"
#include "train/trainer.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define LOSS_TOLERANCE 1e-5 // relative
#define CLOSE          1e-2 // of lr x steps: how far a master may be from PyTorch's ...
#define CLOSE_SHARE    1e-3 // ... but for this share of the elements,
#define FAR            2.0  // which may be this far: there AdamW divides noise by noise

// How an optimizer batch goes through the model; none of it may matter.
typedef struct Cut {
    const char *name;
    bool packed; // sequences of several examples
    int64_t micro_batches;
    int64_t sweep;
    LayerKeep keep;
} Cut;

static const Cut cuts[] = {
    {"accumulation 1", false, 1, 1, KEEP_ALL},
    {"accumulation 4", false, 4, 1, KEEP_ATTENTION},
    {"packed, accumulation 1", true, 1, 1, KEEP_INPUT},
    {"packed, accumulation 4, one sweep", true, 4, 4, KEEP_ALL},
};

// A stored run with its data, as PyTorch took it and packed.
typedef struct Golden {
    json_t *run;
    SafetensorsFile masters;
    Dataset examples;     // one example per sequence
    Dataset packed;       // the steps' examples one after the other, `row` of them per sequence
    const json_t *orders; // the examples of every step
    int64_t steps, batch, row;
} Golden;

static int64_t example_of(const Golden *g, int64_t step, int64_t index) {
    return json_integer_value(json_array_get(json_array_get(g->orders, (size_t)step), (size_t)index));
}

static void pack(Golden *g) {
    const Dataset *from = &g->examples;
    int64_t count = g->steps * g->batch, tokens = 0;
    Dataset *to = &g->packed;
    for (int64_t i = 0; i < count; i++)
        tokens += dataset_sequence_tokens(from, example_of(g, i / g->batch, i % g->batch));
    *to = (Dataset){.count = count, .sequences = count / g->row};
    to->starts = calloc((size_t)count + 1, sizeof *to->starts);
    to->sequence_starts = calloc((size_t)to->sequences + 1, sizeof *to->sequence_starts);
    to->ids = calloc((size_t)tokens, sizeof *to->ids);
    to->trained = calloc((size_t)tokens, sizeof *to->trained);
    assert_true(to->starts && to->sequence_starts && to->ids && to->trained);
    for (int64_t i = 0; i < count; i++) {
        int64_t example = example_of(g, i / g->batch, i % g->batch);
        int64_t start = from->starts[example], length = from->starts[example + 1] - start;
        memcpy(to->ids + to->starts[i], from->ids + start, (size_t)length * sizeof *to->ids);
        memcpy(to->trained + to->starts[i], from->trained + start, (size_t)length);
        to->starts[i + 1] = to->starts[i] + length;
        to->sequence_starts[i / g->row + 1] = i + 1;
    }
}

static void open_golden(Golden *g, const char *name) {
    Error error = {0};
    char file[64];
    snprintf(file, sizeof file, "%s.json", name);
    char *run_path = golden_path("training", file);
    snprintf(file, sizeof file, "%s.safetensors", name);
    char *masters_path = golden_path("training", file);
    *g = (Golden){.run = golden_json(run_path)};
    check(safetensors_open(&g->masters, masters_path, &error), &error);
    golden_dataset(&g->examples, g->run);
    g->orders = golden_array(g->run, "steps");
    g->steps = (int64_t)json_array_size(g->orders);
    g->batch = (int64_t)json_array_size(json_array_get(g->orders, 0));
    g->row = g->batch / (int64_t)golden_number(g->run, "micro_batches");
    pack(g);
    free(run_path);
    free(masters_path);
}

static void close_golden(Golden *g) {
    dataset_free(&g->examples);
    dataset_free(&g->packed);
    safetensors_close(&g->masters);
    json_decref(g->run);
}

// A seed for which LISA draws the layers of the stored run.
static uint64_t seed_for(const TrainSettings *settings, const json_t *draws, int layers) {
    for (uint64_t seed = 0; seed < 100000; seed++) {
        TrainSettings candidate = *settings;
        candidate.seed = seed;
        Method method = method_of(&candidate, layers);
        bool equal = true;
        for (size_t draw = 0; equal && draw < json_array_size(draws); draw++) {
            int drawn[MODEL_LAYERS_MAX];
            method_draw(&method, (int64_t)draw, drawn);
            for (int i = 0; i < method.activated; i++)
                equal &= drawn[i] == json_integer_value(json_array_get(json_array_get(draws, draw), (size_t)i));
        }
        if (equal) return seed;
    }
    fail_msg("no seed draws the layers of the stored run");
    return 0;
}

static TrainSettings settings_of(const Golden *g, int layers) {
    TrainSettings settings = {
        .finetuning_type = METHOD_FULL,
        .max_steps = g->steps,
        .learning_rate = golden_number(g->run, "learning_rate"),
        .lr_scheduler_type = SCHEDULE_COSINE,
        .warmup_steps = (int64_t)golden_number(g->run, "warmup_steps"),
        .weight_decay = golden_number(g->run, "weight_decay"),
        .adam_beta1 = golden_number(g->run, "beta1"),
        .adam_beta2 = golden_number(g->run, "beta2"),
        .adam_epsilon = golden_number(g->run, "epsilon"),
        .max_grad_norm = golden_number(g->run, "max_grad_norm"),
    };
    const json_t *draws = json_object_get(g->run, "draws");
    if (!json_is_array(draws)) return settings;
    settings.finetuning_type = METHOD_LISA;
    settings.lisa_activated_layers = (int64_t)json_array_size(json_array_get(draws, 0));
    settings.lisa_interval_steps = (int64_t)golden_number(g->run, "interval");
    settings.lisa_keep_low_bits = true; // PyTorch's masters outlast a draw
    settings.seed = seed_for(&settings, draws, layers);
    return settings;
}

// The micro-batches of one step; every one holds as many sequences as the next.
static void fill_batches(MicroBatch *batches, const Golden *g, const Cut *cut, int64_t step) {
    int64_t examples = g->batch / cut->micro_batches;
    for (int64_t m = 0; m < cut->micro_batches; m++) {
        micro_batch_clear(&batches[m]);
        for (int64_t i = m * examples; i < (m + 1) * examples; i += cut->packed ? g->row : 1) {
            int64_t sequence = cut->packed ? (step * g->batch + i) / g->row : example_of(g, step, i);
            assert_true(micro_batch_add(&batches[m], cut->packed ? &g->packed : &g->examples, sequence));
        }
        micro_batch_finish(&batches[m]);
    }
}

static void check_number(const char *what, const char *name, int64_t step, double value, double reference,
                         double tolerance) {
    if (!(fabs(value - reference) <= tolerance * fabs(reference)))
        fail_msg("%s, step %lld: %s %.9g, PyTorch %.9g", what, (long long)step, name, value, reference);
}

static double stored_at(const Golden *g, const char *key, int64_t step) {
    return json_number_value(json_array_get(golden_array(g->run, key), (size_t)step));
}

static void train(const char *what, Trainer *trainer, const Golden *g, const Cut *cut, int64_t capacity) {
    Error error = {0};
    MicroBatch batches[4];
    for (int64_t m = 0; m < cut->micro_batches; m++) check(micro_batch_create(&batches[m], capacity, &error), &error);
    for (int64_t step = 0; step < g->steps; step++) {
        StepReport report;
        double rate = schedule_learning_rate(trainer->settings, step, g->steps);
        fill_batches(batches, g, cut, step);
        check(trainer_step(trainer, step, rate, batches, cut->micro_batches, &error), &error);
        check(trainer_report(trainer, &report, &error), &error);
        assert_false(report.skipped);
        check_number(what, "learning rate", step, rate, stored_at(g, "learning_rates", step), 1e-12);
        check_number(what, "loss", step, report.loss, stored_at(g, "losses", step), LOSS_TOLERANCE);
        check_number(what, "norm", step, report.grad_norm, stored_at(g, "grad_norms", step), 1e-4);
    }
    for (int64_t m = 0; m < cut->micro_batches; m++) micro_batch_free(&batches[m]);
}

// The low bits of a block's masters: its slot's, or parked when the layer is frozen.
static const int16_t *low_bits_of(const Trainer *trainer, int block) {
    const Slot *slot = trainer->active.of_block[block];
    return slot ? slot->low_bits : trainer->active.parked[block];
}

// The fp32 master weights against PyTorch's.
static void check_masters(const char *what, Trainer *trainer, const Golden *g) {
    const BlockLayout *layout = &trainer->store.layout;
    double limit = trainer->settings->learning_rate * (double)g->steps, worst = 0;
    int64_t total = 0, off = 0;
    for (int block = 0; block < block_count(layout); block++) {
        BlockTensor tensors[BLOCK_TENSORS_MAX];
        int count = block_tensors(layout, trainer->config, block, tensors);
        const bf16 *weights = store_get(&trainer->store, block);
        const int16_t *low_bits = low_bits_of(trainer, block);
        for (int i = 0; i < count; i++) {
            int64_t elements = tensors[i].rows * tensors[i].columns;
            float *reference = golden_tensor(&g->masters, tensors[i].name, elements);
            for (int64_t e = 0; e < elements; e++) {
                int64_t place = tensors[i].offset + e;
                float master = master_join(weights[place], low_bits[place]);
                double difference = fabs((double)master - (double)reference[e]);
                if (!(difference <= worst)) worst = isnan(difference) ? INFINITY : difference;
                total++, off += !(difference <= CLOSE * limit);
            }
            free(reference);
        }
    }
    if (!(worst <= FAR * limit)) fail_msg("%s: a master is off by %.3g, allowed %.3g", what, worst, FAR * limit);
    if ((double)off > CLOSE_SHARE * (double)total)
        fail_msg("%s: %lld of %lld masters are off by more than %.3g", what, (long long)off, (long long)total,
                 CLOSE * limit);
}

static void follow_run(const char *name, const Cut *cut) {
    Error error = {0};
    Golden g;
    char what[128];
    snprintf(what, sizeof what, "%s, %s", name, cut->name);
    open_golden(&g, name);
    Backend *backend = backend_cpu_create(2, false, &error);
    check(backend != NULL, &error);
    char *model = golden_path("models", golden_string(g.run, "model"));
    ModelSource *source = model_source_open(model, false, &error);
    check(source != NULL, &error);
    const ModelConfig *config = model_source_config(source);
    TrainSettings settings = settings_of(&g, config->layers);

    int64_t capacity = round_up(g.batch / cut->micro_batches * g.examples.longest, 128);
    Plan plan = {
        .sizes = {
            .tokens = capacity, .sweep = cut->sweep, .positions = capacity, .chunk = 13, .rows = config->vocabulary}};
    pass_keep_everywhere(&plan.sizes, config->layers, cut->keep);
    Trainer trainer;
    check(trainer_measure(&plan, backend, config, &settings, &error), &error);
    check(trainer_create(&trainer, backend, config, &settings, &plan, &error), &error);
    check(model_source_load(source, &trainer.store, backend->threads, NULL, NULL, &error), &error);
    train(what, &trainer, &g, cut, capacity);
    check_masters(what, &trainer, &g);

    trainer_free(&trainer);
    model_source_close(source);
    backend->destroy(backend);
    free(model);
    close_golden(&g);
}

static void follow_cuts(const char *name) {
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) follow_run(name, &cuts[i]);
}

static void test_full_fine_tuning(void **state) {
    (void)state;
    follow_cuts("full");
}

static void test_full_fine_tuning_of_tied_embeddings(void **state) {
    (void)state;
    follow_cuts("full_tied");
}

static void test_lisa(void **state) {
    (void)state;
    follow_cuts("lisa_tied");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_fine_tuning),
        cmocka_unit_test(test_full_fine_tuning_of_tied_embeddings),
        cmocka_unit_test(test_lisa),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

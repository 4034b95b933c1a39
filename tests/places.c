// places.c - see places.h.
#include "tests/places.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>

#define CAPACITY    16 // tokens of a micro-batch: a step's sequences need several
#define ALL_BATCHES 3  // micro-batches of a step at most

static const int options[PLACES] = {4, 2, 3, 5, 2, 2, 2, 2, 2, 4};

static bool is_tied(const Places *row) {
    return row->value[PLACE_MODEL] >= 2;
}

static bool is_clipped(const Places *row) {
    return row->value[PLACE_MODEL] % 2 == 0;
}

// ---- a cover of all pairs ----

bool places_legal(const Places *row) {
    const int *v = row->value;
    if (is_tied(row) && (v[PLACE_EMBEDDING] || v[PLACE_HEAD])) return false;
    return !v[PLACE_SHARED] || v[PLACE_SWEEP] == 2; // one buffer needs that a sweep holds the whole step
}

static int combinations(void) {
    int all = 1;
    for (int c = 0; c < PLACES; c++) all *= options[c];
    return all;
}

static Places combination(int n) {
    Places row;
    for (int c = 0; c < PLACES; c++) row.value[c] = n % options[c], n /= options[c];
    return row;
}

// Marks the pairs of the row; returns how many were not marked. mark false: only counts.
static int mark_pairs(bool pairs[PLACES][PLACES][8][8], const Places *row, bool mark) {
    int fresh = 0;
    for (int a = 0; a < PLACES; a++)
        for (int b = a + 1; b < PLACES; b++) {
            bool *seen = &pairs[a][b][row->value[a]][row->value[b]];
            fresh += !*seen;
            if (mark) *seen = true;
        }
    return fresh;
}

PlacesCover places_cover(void) {
    PlacesCover cover = {0};
    for (int n = 0; n < combinations(); n++) {
        Places row = combination(n);
        if (places_legal(&row)) mark_pairs(cover.possible, &row, true);
    }
    return cover;
}

bool places_next(PlacesCover *cover, Places *best) {
    int most = 0;
    for (int n = 0; n < combinations(); n++) {
        Places row = combination(n);
        int fresh = places_legal(&row) ? mark_pairs(cover->covered, &row, false) : 0;
        if (fresh <= most) continue;
        most = fresh;
        *best = row;
    }
    if (most > 0) mark_pairs(cover->covered, best, true);
    return most > 0;
}

void places_assert_covered(const PlacesCover *cover) {
    for (int a = 0; a < PLACES; a++)
        for (int b = a + 1; b < PLACES; b++)
            for (int x = 0; x < options[a]; x++)
                for (int y = 0; y < options[b]; y++)
                    assert_int_equal(cover->covered[a][b][x][y], cover->possible[a][b][x][y]);
}

int places_training(const Places *row) {
    return row->value[PLACE_MODEL] + options[PLACE_MODEL] * row->value[PLACE_BITS];
}

Places places_on_device(int training) {
    int models = options[PLACE_MODEL];
    return (Places){.value = {[PLACE_MODEL] = training % models, [PLACE_BITS] = training / models}};
}

Places places_on_host(int streamed, bool shared, int model) {
    Places row = {.value = {[PLACE_INPUTS] = 1,
                            [PLACE_SWEEP] = 2,
                            [PLACE_STREAMED] = streamed,
                            [PLACE_EMBEDDING] = model < 2,
                            [PLACE_HEAD] = model < 2,
                            [PLACE_LAYERS] = 1,
                            [PLACE_SHARED] = shared,
                            [PLACE_MODEL] = model}};
    return row;
}

void places_in_words(const Places *row, char text[160]) {
    static const char *const names[PLACES] = {"keeps", "inputs", "sweep",  "streamed", "embedding",
                                              "head",  "layers", "shared", "bits",     "model"};
    int used = 0;
    for (int c = 0; c < PLACES; c++)
        used += snprintf(text + used, 160 - (size_t)used, "%s %d ", names[c], row->value[c]);
}

// ---- a training ----

ModelConfig places_config(const Places *row) {
    ModelConfig config = tiny_config();
    config.layers = 4;
    config.heads = 1;
    config.kv_heads = 1;
    config.tied = is_tied(row);
    return config;
}

TrainSettings places_settings(const Places *row) {
    TrainSettings settings = tiny_settings();
    settings.weight_decay = 0.1;
    settings.optim_bits = row->value[PLACE_BITS] ? OPTIM_BITS_16 : OPTIM_BITS_32;
    settings.max_grad_norm = is_clipped(row) ? 1 : 0;
    return settings;
}

Dataset places_data(void) {
    return tiny_dataset(60, PLACES_LONGEST, tiny_config().vocabulary, 3);
}

Plan places_plan(const Places *row) {
    static const int sweeps[] = {1, 2, ALL_BATCHES}, streamed[] = {0, 1, 3, 4, 4};
    const int *v = row->value;
    ModelConfig config = places_config(row);
    Plan plan = {
        .sizes = {.tokens = CAPACITY,
                  .sweep = sweeps[v[PLACE_SWEEP]],
                  .positions = CAPACITY,
                  .chunk = 16,
                  .rows = config.vocabulary,
                  .inputs = v[PLACE_INPUTS] ? INPUTS_ON_HOST : INPUTS_ON_DEVICE},
        .store = {.streamed = streamed[v[PLACE_STREAMED]],
                  .in_file = v[PLACE_STREAMED] == 4,
                  .embedding_on_host = v[PLACE_EMBEDDING],
                  .scratch_dir = "."},
        .state = {.head_on_host = v[PLACE_HEAD], .layers_on_host = v[PLACE_LAYERS], .shared_gradient = v[PLACE_SHARED]},
        .fused_update = v[PLACE_SHARED] && !is_clipped(row)};
    if (v[PLACE_KEEPS] < 3)
        pass_keep_everywhere(&plan.sizes, config.layers, (LayerKeep)v[PLACE_KEEPS]);
    else
        plan.sizes.keep_all = 1, plan.sizes.keep_attention = 2;
    return plan;
}

double places_evaluate(Trainer *trainer, const Dataset *data, int64_t sequences) {
    Error error = {0};
    MicroBatch batch;
    double loss;
    int64_t targets;
    check(micro_batch_create(&batch, trainer->plan.sizes.tokens, &error), &error);
    trainer_evaluate_begin(trainer);
    for (int64_t s = 0; s < sequences; s++) {
        micro_batch_clear(&batch);
        assert_true(micro_batch_add(&batch, data, s));
        micro_batch_finish(&batch);
        check(trainer_evaluate(trainer, &batch, 1, &error), &error);
    }
    check(trainer_evaluate_end(trainer, &loss, &targets, &error), &error);
    micro_batch_free(&batch);
    return loss;
}

// Room for so many bytes more of the outcome.
static void *more(PlacesOutcome *outcome, size_t bytes) {
    outcome->weights = realloc(outcome->weights, outcome->size + bytes);
    assert_non_null(outcome->weights);
    outcome->size += bytes;
    return outcome->weights + outcome->size - bytes;
}

static void take_from(PlacesOutcome *outcome, Backend *b, const void *memory, size_t bytes) {
    void *to = more(outcome, bytes);
    b->copy(b, to, memory, bytes, NULL);
    b->synchronize(b, NULL);
}

// All weights, and the state of the blocks in training.
static void take_state(PlacesOutcome *outcome, Trainer *trainer) {
    const BlockLayout *layout = &trainer->store.layout;
    trainer_settle(trainer);
    for (int block = 0; block < block_count(layout); block++) {
        size_t elements = (size_t)block_elements(layout, block);
        const Slot *slot = trainer->active.of_block[block];
        memcpy(more(outcome, elements * sizeof(bf16)), store_get(&trainer->store, block), elements * sizeof(bf16));
        if (!slot) continue;
        take_from(outcome, slot->backend, slot->m, elements * slot->moment_size);
        take_from(outcome, slot->backend, slot->v, elements * slot->moment_size);
        take_from(outcome, slot->backend, slot->low_bits, elements * sizeof(int16_t));
    }
}

PlacesOutcome places_train(Backend *b, const Places *row, int64_t steps) {
    ModelConfig config = places_config(row);
    TrainSettings settings = places_settings(row);
    bool quick = steps < settings.lisa_interval_steps;
    if (quick) settings.lisa_interval_steps = 1;
    Dataset data = places_data();
    Plan plan = places_plan(row);
    PlacesOutcome outcome = {0};
    int64_t middle = steps * 5 / 12;
    Trainer *trainer = tiny_trainer_planned(b, &config, &settings, &plan, 7);
    assert_int_equal(trainer->device.peak, trainer->plan.device_bytes);
    assert_int_equal(trainer->pinned.peak, trainer->plan.pinned_bytes);
    assert_int_equal(trainer->host.peak, trainer->plan.host_bytes);
    tiny_steps(trainer, &data, PLACES_BATCH, 0, middle);
    if (!quick) outcome.evaluated[0] = places_evaluate(trainer, &data, 3);
    outcome.report = tiny_steps(trainer, &data, PLACES_BATCH, middle, steps);
    outcome.evaluated[1] = places_evaluate(trainer, &data, 3);
    take_state(&outcome, trainer);
    tiny_trainer_free(trainer);
    dataset_free(&data);
    return outcome;
}

void places_outcome_free(PlacesOutcome *outcome) {
    free(outcome->weights);
    *outcome = (PlacesOutcome){0};
}

bool places_same(const PlacesOutcome *a, const PlacesOutcome *b) {
    return a->report.loss == b->report.loss && a->report.grad_norm == b->report.grad_norm &&
           a->evaluated[0] == b->evaluated[0] && a->evaluated[1] == b->evaluated[1] && a->size == b->size &&
           memcmp(a->weights, b->weights, a->size) == 0;
}

void places_assert_same(const PlacesOutcome *outcome, const PlacesOutcome *expected, const Places *row) {
    char text[160];
    if (places_same(outcome, expected)) return;
    places_in_words(row, text);
    fail_msg("%s: loss %.17g, not %.17g; norm %.9g, not %.9g; evaluated %.17g, not %.17g, and %.17g, not %.17g; or the "
             "weights differ",
             text, outcome->report.loss, expected->report.loss, outcome->report.grad_norm, expected->report.grad_norm,
             outcome->evaluated[0], expected->evaluated[0], outcome->evaluated[1], expected->evaluated[1]);
}

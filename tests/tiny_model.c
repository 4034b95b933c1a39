// tiny_model.c - see tiny_model.h.
#include "tests/tiny_model.h"
#include "base/random.h"
#include "tests/support.h"
#include <stdlib.h>
#include <string.h>

ModelConfig tiny_config(void) {
    return (ModelConfig){
        .family = FAMILY_LLAMA,
        .layers = 5,
        .heads = 4,
        .kv_heads = 2,
        .head_dim = 8,
        .hidden = 32,
        .intermediate = 48,
        .vocabulary = 71,
        .max_positions = 256,
        .norm_epsilon = 1e-5f,
        .rope_theta = 10000,
        .bos = 1,
        .pad = -1,
        .eos = {2},
        .eos_count = 1,
    };
}

TrainSettings tiny_settings(void) {
    return (TrainSettings){
        .finetuning_type = METHOD_LISA,
        .lisa_activated_layers = 2,
        .lisa_interval_steps = 3,
        .num_train_epochs = 1,
        .max_steps = -1,
        .per_device_train_batch_size = 1,
        .gradient_accumulation_steps = 4,
        .seed = 42,
        .learning_rate = 1e-3,
        .lr_scheduler_type = SCHEDULE_CONSTANT,
        .warmup_steps = -1,
        .weight_decay = 0.01,
        .adam_beta1 = 0.9,
        .adam_beta2 = 0.999,
        .adam_epsilon = 1e-8,
        .max_grad_norm = 1,
        .gradient_checkpointing = CHECKPOINT_AUTO,
        .layers_resident = -1,
        .logging_steps = 1,
        .save_strategy = WHEN_EPOCH,
        .save_total_limit = 1,
    };
}

Dataset tiny_dataset(int64_t sequences, int64_t longest, int64_t vocabulary, uint64_t seed) {
    Dataset data = {.count = sequences, .sequences = sequences};
    uint64_t key = random_mix(seed);
    size_t entries = (size_t)sequences + 1;
    data.starts = calloc(entries, sizeof *data.starts);
    data.sequence_starts = calloc(entries, sizeof *data.sequence_starts);
    for (int64_t s = 0; s < sequences; s++) {
        int64_t tokens = 3 + (int64_t)random_below(key, (uint64_t)s, (uint64_t)longest - 2);
        data.starts[s + 1] = data.starts[s] + tokens;
        data.sequence_starts[s + 1] = s + 1;
        if (tokens > data.longest) data.longest = tokens;
    }
    size_t total = (size_t)data.starts[sequences];
    data.ids = calloc(total, sizeof *data.ids);
    data.trained = calloc(total, sizeof *data.trained);
    for (int64_t s = 0; s < sequences; s++) {
        int64_t first = data.starts[s], tokens = data.starts[s + 1] - first;
        for (int64_t i = 0; i < tokens; i++) {
            data.ids[first + i] = (int32_t)random_below(key, (uint64_t)(sequences + first + i), (uint64_t)vocabulary);
            data.trained[first + i] = i >= (tokens + 2) / 3;
        }
        data.targets += tokens - (tokens + 2) / 3;
    }
    return data;
}

Trainer *tiny_trainer(Backend *backend, const ModelConfig *config, const TrainSettings *settings, uint64_t seed) {
    Error error = {0};
    Plan plan;
    PlanRequest request = {.config = config, .settings = settings, .backend = backend, .cutoff_len = 64};
    check(plan_make(&plan, &request, &error), &error);
    Trainer *trainer = calloc(1, sizeof *trainer);
    assert_non_null(trainer);
    check(trainer_create(trainer, backend, config, settings, &plan, &error), &error);
    check(model_random_weights(config, &trainer->store, seed, &error), &error);
    return trainer;
}

Trainer *tiny_trainer_with(Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                           const PassSizes *sizes, uint64_t seed) {
    return tiny_trainer_planned(backend, config, settings, &(Plan){.sizes = *sizes}, seed);
}

Trainer *tiny_trainer_planned(Backend *backend, const ModelConfig *config, const TrainSettings *settings,
                              const Plan *choices, uint64_t seed) {
    Error error = {0};
    Plan plan = *choices;
    check(trainer_measure(&plan, backend, config, settings, &error), &error);
    Trainer *trainer = calloc(1, sizeof *trainer);
    assert_non_null(trainer);
    check(trainer_create(trainer, backend, config, settings, &plan, &error), &error);
    check(model_random_weights(config, &trainer->store, seed, &error), &error);
    return trainer;
}

void tiny_trainer_free(Trainer *trainer) {
    trainer_free(trainer);
    free(trainer);
}

StepReport tiny_steps(Trainer *trainer, const Dataset *dataset, int64_t batch, int64_t first, int64_t last) {
    Error error = {0};
    StepReport report = {0};
    MicroBatch *batches = calloc((size_t)batch, sizeof *batches);
    for (int64_t i = 0; i < batch; i++)
        check(micro_batch_create(&batches[i], trainer->plan.sizes.tokens, &error), &error);
    for (int64_t step = first; step < last; step++) {
        int64_t count = 0;
        micro_batch_clear(&batches[0]);
        for (int64_t i = 0; i < batch; i++) {
            int64_t sequence = (step * batch + i) % dataset->sequences;
            if (micro_batch_add(&batches[count], dataset, sequence)) continue;
            micro_batch_clear(&batches[++count]);
            assert_true(micro_batch_add(&batches[count], dataset, sequence));
        }
        for (int64_t i = 0; i <= count; i++) micro_batch_finish(&batches[i]);
        check(trainer_step(trainer, step, trainer->settings->learning_rate, batches, count + 1, &error), &error);
        while (trainer_owed(trainer) > (step + 1 < last)) check(trainer_report(trainer, &report, &error), &error);
    }
    for (int64_t i = 0; i < batch; i++) micro_batch_free(&batches[i]);
    free(batches);
    return report;
}

bf16 *tiny_weights(Trainer *trainer, int block) {
    size_t bytes = (size_t)block_elements(&trainer->store.layout, block) * sizeof(bf16);
    bf16 *copy = malloc(bytes);
    assert_non_null(copy);
    memcpy(copy, store_get(&trainer->store, block), bytes);
    return copy;
}

void tiny_assert_same_weights(Trainer *a, Trainer *b) {
    for (int block = 0; block < block_count(&a->store.layout); block++) {
        size_t bytes = (size_t)block_elements(&a->store.layout, block) * sizeof(bf16);
        assert_memory_equal(store_get(&a->store, block), store_get(&b->store, block), bytes);
    }
}

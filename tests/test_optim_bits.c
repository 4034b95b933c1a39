// test_optim_bits.c - AdamW's moments in 16 bits: half the memory, the same learning, and equal bits when a run is
// stopped and when all layers are drawn (wherever the state lies: test_places.c).
#include "tests/support.h"

#include "base/files.h"
#include "base/random.h"
#include "tests/emulator/emulator.h"
#include "tests/session.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 12 // with a redraw every three

static Backend *cpu(void) {
    Error error = {0};
    Backend *backend = backend_cpu_create(2, false, &error);
    check(backend, &error);
    return backend;
}

static Backend *card(void) {
    Error error = {0};
    Backend *backend = backend_cuda_create(0, 1, &error);
    check(backend, &error);
    return backend;
}

static TrainSettings settings_of(OptimBits bits) {
    TrainSettings settings = tiny_settings();
    settings.optim_bits = bits;
    return settings;
}

// ---- memory ----

static uint64_t moment_bytes(const Trainer *trainer, size_t size) {
    uint64_t bytes = 0;
    for (int i = 0; i < trainer->active.slot_count; i++) {
        uint64_t one = (uint64_t)trainer->active.slots[i].elements * size;
        bytes += 2 * ((one + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT);
    }
    return bytes;
}

// In both memories; nothing else of the plan changes.
static void moments_take_half_the_memory(void **state) {
    (void)state;
    ModelConfig config = tiny_config();
    Backend *b = cpu();
    for (int on_host = 0; on_host <= 1; on_host++) {
        Trainer *trainers[2];
        for (OptimBits bits = OPTIM_BITS_32; bits <= OPTIM_BITS_16; bits++) {
            TrainSettings settings = settings_of(bits);
            Plan plan = {.sizes = {.tokens = 64, .sweep = 1, .positions = 64, .chunk = 16, .rows = config.vocabulary},
                         .store = {.embedding_on_host = on_host},
                         .state = {.head_on_host = on_host, .layers_on_host = on_host}};
            trainers[bits] = tiny_trainer_planned(b, &config, &settings, &plan, 7);
            const Plan *p = &trainers[bits]->plan;
            uint64_t expected = moment_bytes(trainers[bits], bits == OPTIM_BITS_16 ? 2 : 4);
            assert_int_equal(p->uses[USE_MOMENTS].device_bytes, on_host ? 0 : expected);
            assert_int_equal(p->uses[USE_MOMENTS].host_bytes, on_host ? expected : 0);
        }
        const Plan *wide = &trainers[0]->plan, *narrow = &trainers[1]->plan;
        uint64_t saved = moment_bytes(trainers[0], 4) - moment_bytes(trainers[0], 2);
        assert_int_equal(wide->device_bytes - narrow->device_bytes, on_host ? 0 : saved);
        assert_int_equal(wide->host_bytes - narrow->host_bytes, on_host ? saved : 0);
        assert_int_equal(wide->pinned_bytes, narrow->pinned_bytes);
        tiny_trainer_free(trainers[0]);
        tiny_trainer_free(trainers[1]);
    }
    b->destroy(b);
}

// ---- learning ----

static void rounding_has_a_key_of_its_own_each_step(void **state) {
    (void)state;
    TrainSettings settings = settings_of(OPTIM_BITS_16);
    Arena arena;
    Slot slot;
    uint64_t keys[12];
    int count = 0;
    arena_measure(&arena, MEMORY_HOST);
    slot_take(&slot, &arena, 10, 10, OPTIM_BITS_32);
    assert_false(slot_step(&slot, &settings, 1e-3, NULL, NULL).bf16_moments);
    slot_take(&slot, &arena, 10, 10, OPTIM_BITS_16);
    for (settings.seed = 1; settings.seed <= 2; settings.seed++)
        for (slot.block = 0; slot.block < 2; slot.block++)
            for (slot.steps = 0; slot.steps < 3;) {
                AdamWStep step = slot_step(&slot, &settings, 1e-3, NULL, NULL);
                assert_true(step.bf16_moments);
                keys[count++] = step.moment_key;
            }
    for (int i = 0; i < count; i++)
        for (int j = 0; j < i; j++) assert_true(keys[i] != keys[j]);
}

// A model that can only learn by heart: as deep as with 32 bits.
static void it_learns_as_with_32_bits(void **state) {
    (void)state;
    Backend *b = cpu();
    for (int tied = 0; tied <= 1; tied++) {
        ModelConfig config = tiny_config();
        config.tied = tied;
        Dataset data = tiny_dataset(4, 30, config.vocabulary, 6);
        double first[2], last[2];
        for (OptimBits bits = OPTIM_BITS_32; bits <= OPTIM_BITS_16; bits++) {
            TrainSettings settings = settings_of(bits);
            settings.learning_rate = 1e-2;
            Trainer *trainer = tiny_trainer(b, &config, &settings, 7);
            first[bits] = tiny_steps(trainer, &data, 4, 0, 1).loss;
            last[bits] = tiny_steps(trainer, &data, 4, 1, 60).loss;
            tiny_trainer_free(trainer);
        }
        assert_true(first[0] == first[1] && first[0] > 3.5 && last[0] < 1.0);
        assert_true(last[0] != last[1]); // the option does something
        if (!(fabs(last[1] - last[0]) < 0.05 * (first[0] - last[0])))
            fail_msg("tied %d: loss %g from %g with 16 bits, %g with 32", tied, last[1], first[0], last[0]);
        dataset_free(&data);
    }
    b->destroy(b);
}

static void all_layers_equal_full_fine_tuning(void **state) {
    (void)state;
    ModelConfig config = tiny_config();
    TrainSettings lisa = settings_of(OPTIM_BITS_16), full = settings_of(OPTIM_BITS_16);
    lisa.lisa_activated_layers = config.layers;
    full.finetuning_type = METHOD_FULL;
    Dataset data = tiny_dataset(40, 30, config.vocabulary, 2);
    Backend *backend = cpu();
    Trainer *a = tiny_trainer(backend, &config, &lisa, 7), *b = tiny_trainer(backend, &config, &full, 7);
    StepReport last_a = tiny_steps(a, &data, 4, 0, STEPS), last_b = tiny_steps(b, &data, 4, 0, STEPS);
    assert_true(last_a.loss == last_b.loss && last_a.grad_norm == last_b.grad_norm);
    tiny_assert_same_weights(a, b);
    tiny_trainer_free(a);
    tiny_trainer_free(b);
    dataset_free(&data);
    backend->destroy(backend);
}

// ---- checkpoints ----

static void assert_same_memory(const char *what, const Slot *a, const void *of_a, const Slot *b, const void *of_b,
                               size_t size) {
    size_t bytes = (size_t)a->elements * size;
    void *copies[2] = {malloc(bytes), malloc(bytes)};
    assert_true(copies[0] && copies[1]);
    a->backend->copy(a->backend, copies[0], of_a, bytes, NULL);
    a->backend->synchronize(a->backend, NULL);
    b->backend->copy(b->backend, copies[1], of_b, bytes, NULL);
    b->backend->synchronize(b->backend, NULL);
    if (memcmp(copies[0], copies[1], bytes)) fail_msg("%s of block %d differ", what, a->block);
    free(copies[0]);
    free(copies[1]);
}

static void assert_same_state(Trainer *a, Trainer *b) {
    for (int block = 0; block < a->active.blocks; block++) {
        bf16 *of_a = tiny_weights(a, block), *of_b = tiny_weights(b, block);
        size_t bytes = (size_t)block_elements(&a->store.layout, block) * sizeof(bf16);
        if (memcmp(of_a, of_b, bytes)) fail_msg("the weights of block %d differ", block);
        free(of_a);
        free(of_b);
        const Slot *x = a->active.of_block[block], *y = b->active.of_block[block];
        assert_int_equal(x != NULL, y != NULL);
        if (!x) continue;
        assert_int_equal(x->steps, y->steps);
        assert_same_memory("m", x, x->m, y, y->m, x->moment_size);
        assert_same_memory("v", x, x->v, y, y->v, x->moment_size);
        assert_same_memory("low bits", x, x->low_bits, y, y->low_bits, sizeof(int16_t));
    }
}

static TrainSettings session_settings(OptimBits bits) {
    TrainSettings settings = settings_with(1, false);
    settings.optim_bits = bits;
    return settings;
}

static void resuming_changes_no_bit(void **state) {
    (void)state;
    for (int variant = 0; variant < 2 + emulator_present(); variant++) {
        bool on_card = variant == 2;
        TrainSettings settings = session_settings(OPTIM_BITS_16);
        if (variant == 1) settings.finetuning_type = METHOD_FULL;
        Session whole, first, second;
        char *folder = make_folder();
        open_session_on(&whole, on_card ? card() : cpu(), SESSION_MODEL, &settings);
        tiny_steps(&whole.trainer, &whole.data, 4, 0, 12);
        open_session_on(&first, on_card ? card() : cpu(), SESSION_MODEL, &settings);
        char *path = save_after(&first, folder, 7); // in mid-interval
        close_session(&first);
        assert_int_equal(resume_session_on(&second, on_card ? card() : cpu(), path, &settings, 12), 7);
        tiny_steps(&second.trainer, &second.data, 4, 7, 12);
        assert_same_state(&whole.trainer, &second.trainer);
        close_session(&whole);
        close_session(&second);
        free(path);
        remove_folder(folder);
    }
}

static SafetensorsType type_of(const char *path, const char *name) {
    Error error = {0};
    SafetensorsFile file;
    char *state = path_join(path, "lisa_state.safetensors");
    check(safetensors_open(&file, state, &error), &error);
    const SafetensorsTensor *tensor = safetensors_find(&file, name);
    assert_non_null(tensor);
    SafetensorsType type = tensor->type;
    safetensors_close(&file);
    free(state);
    return type;
}

static void checkpoints_hold_16_bits(void **state) {
    (void)state;
    uint64_t bytes[2], elements = 0;
    for (OptimBits bits = OPTIM_BITS_32; bits <= OPTIM_BITS_16; bits++) {
        Error error = {0};
        TrainSettings settings = session_settings(bits);
        Session s;
        char *folder = make_folder();
        open_session_on(&s, cpu(), SESSION_MODEL, &settings);
        char *path = save_after(&s, folder, 1);
        SafetensorsType type = bits == OPTIM_BITS_16 ? SAFETENSORS_BF16 : SAFETENSORS_F32;
        assert_int_equal(type_of(path, "block.0.m"), type);
        assert_int_equal(type_of(path, "block.0.v"), type);
        assert_int_equal(type_of(path, "block.0.low_bits"), SAFETENSORS_I16);
        check(checkpoint_bytes(&s.trainer, &s.facts, &bytes[bits], &error), &error);
        elements = 0;
        for (int i = 0; i < s.trainer.active.slot_count; i++) elements += (uint64_t)s.trainer.active.slots[i].elements;
        close_session(&s);
        free(path);
        remove_folder(folder);
    }
    assert_int_equal(bytes[0] - bytes[1], elements * 2 * 2);
}

// Loads a checkpoint into a fresh run; expected: the message, NULL when it must succeed.
static void load(const char *path, OptimBits bits, const char *expected) {
    Error error = {0};
    TrainSettings settings = session_settings(bits);
    Session s;
    int64_t step;
    open_session_on(&s, cpu(), SESSION_MODEL, &settings);
    bool loaded = checkpoint_load(&s.trainer, &s.facts, path, &step, &error);
    if (!expected) check(loaded, &error);
    if (expected) assert_false(loaded);
    if (expected && !strstr(error.text, expected)) fail_msg("%s, not: %s", error.text, expected);
    close_session(&s);
}

// What the manifest says of optim_bits becomes `value`, the caller's; NULL: it says nothing, as before there was one.
static void say_bits(const char *path, json_t *value) {
    Error error = {0};
    json_t *manifest = manifest_verify(path, &error);
    check(manifest, &error);
    json_t *settings = json_object_get(manifest, "settings");
    if (value)
        json_object_set_new(settings, "optim_bits", value);
    else
        assert_int_equal(json_object_del(settings, "optim_bits"), 0);
    char *text = json_to_text(manifest), *file = path_join(path, "manifest.json");
    check(file_write_atomic(file, text, strlen(text), &error), &error);
    json_decref(manifest);
    free(text);
    free(file);
}

static void other_bits_are_refused(void **state) {
    (void)state;
    for (OptimBits bits = OPTIM_BITS_32; bits <= OPTIM_BITS_16; bits++) {
        TrainSettings settings = session_settings(bits);
        Session s;
        char *folder = make_folder();
        bool narrow = bits == OPTIM_BITS_16;
        OptimBits other = narrow ? OPTIM_BITS_32 : OPTIM_BITS_16;
        open_session_on(&s, cpu(), SESSION_MODEL, &settings);
        char *path = save_after(&s, folder, 3);
        close_session(&s);
        load(path, bits, NULL);
        load(path, other,
             narrow ? "was made with optim_bits 16, this run has 32" : "was made with optim_bits 32, this run has 16");
        say_bits(path, json_integer(narrow ? 32 : 16)); // a manifest that lies
        load(path, other, "tensor \"block.0.m\" is missing or of another size or type");
        say_bits(path, json_string("x"));
        load(path, bits, "was made with optim_bits \"x\", this run has");
        say_bits(path, NULL);
        load(path, OPTIM_BITS_32, narrow ? "tensor \"block.0.m\" is missing or of another size or type" : NULL);
        load(path, OPTIM_BITS_16, "was made with optim_bits 32, this run has 16");
        free(path);
        remove_folder(folder);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moments_take_half_the_memory), cmocka_unit_test(rounding_has_a_key_of_its_own_each_step),
        cmocka_unit_test(it_learns_as_with_32_bits),    cmocka_unit_test(all_layers_equal_full_fine_tuning),
        cmocka_unit_test(resuming_changes_no_bit),      cmocka_unit_test(checkpoints_hold_16_bits),
        cmocka_unit_test(other_bits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

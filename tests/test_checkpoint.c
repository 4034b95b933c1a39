// test_checkpoint.c - saving, finding, verifying and resuming runs; a run that is stopped and goes on.
#include "tests/support.h"

#include "base/files.h"
#include "tests/loaded_model.h"
#include "tests/tiny_model.h"
#include "train/checkpoint.h"
#include "train/run.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MODEL "tests/golden/models/llama_tied"

// A trainer over a model folder, with what its checkpoints need.
typedef struct Session {
    Backend *backend;
    ModelSource *source;
    TrainSettings settings;
    Dataset data;
    Trainer trainer;
    CheckpointFacts facts;
} Session;

static void open_session(Session *s, const char *model, const TrainSettings *settings) {
    Error error = {0};
    Plan plan;
    *s = (Session){.settings = *settings, .source = model_source_open(model, false, &error)};
    check(s->source, &error);
    s->backend = backend_cpu_create(2, false, &error);
    check(s->backend, &error);
    const ModelConfig *config = model_source_config(s->source);
    s->data = tiny_dataset(30, 20, config->vocabulary, 1);
    PlanRequest request = {.config = config, .settings = &s->settings, .backend = s->backend, .cutoff_len = 32};
    check(plan_make(&plan, &request, &error), &error);
    check(trainer_create(&s->trainer, s->backend, config, &s->settings, &plan, &error), &error);
    check(model_source_load(s->source, &s->trainer.store, s->backend->threads, NULL, NULL, &error), &error);
    s->facts = (CheckpointFacts){.source = s->source, .dataset = &s->data, .shuffle = true, .steps = 12};
}

static void close_session(Session *s) {
    trainer_free(&s->trainer);
    model_source_close(s->source);
    s->backend->destroy(s->backend);
    dataset_free(&s->data);
}

// A session that goes on from a checkpoint of another, as `lisa train` does.
static int64_t resume_session(Session *s, const char *path, const TrainSettings *settings, int64_t steps) {
    Error error = {0};
    int64_t step;
    open_session(s, MODEL, settings);
    s->facts.steps = steps;
    ModelSource *saved = model_source_open(path, false, &error);
    check(saved, &error);
    check(model_source_load(saved, &s->trainer.store, s->backend->threads, NULL, NULL, &error), &error);
    check(checkpoint_load(&s->trainer, &s->facts, path, &step, &error), &error);
    model_source_close(saved);
    return step;
}

static TrainSettings settings_with(int64_t layers, bool keep_low_bits) {
    TrainSettings settings = tiny_settings();
    settings.lisa_activated_layers = layers;
    settings.lisa_interval_steps = 2;
    settings.lisa_keep_low_bits = keep_low_bits;
    return settings;
}

// Writes a checkpoint of a session that has trained for `steps` steps; the path is the caller's.
static char *save_after(Session *s, const char *folder, int64_t steps) {
    Error error = {0};
    char name[64];
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)steps);
    tiny_steps(&s->trainer, &s->data, 4, 0, steps);
    check(checkpoint_save(&s->trainer, &s->facts, folder, steps, &error), &error);
    return path_join(folder, name);
}

static void resuming_changes_no_bit(void **state) {
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        TrainSettings settings = settings_with(1, variant & 1);
        if (variant >= 2) settings.finetuning_type = METHOD_FULL;
        Session whole, first, second;
        char *folder = make_folder();
        open_session(&whole, MODEL, &settings);
        tiny_steps(&whole.trainer, &whole.data, 4, 0, 12);
        open_session(&first, MODEL, &settings);
        char *path = save_after(&first, folder, 7); // in mid-interval
        close_session(&first);
        assert_int_equal(resume_session(&second, path, &settings, 12), 7);
        tiny_steps(&second.trainer, &second.data, 4, 7, 12);
        tiny_assert_same_weights(&whole.trainer, &second.trainer);
        for (int block = 0; block < whole.trainer.active.blocks; block++) {
            const Slot *a = whole.trainer.active.of_block[block], *b = second.trainer.active.of_block[block];
            assert_int_equal(a != NULL, b != NULL);
            if (!a) continue;
            assert_int_equal(a->steps, b->steps);
            assert_memory_equal(a->m, b->m, (size_t)a->elements * sizeof *a->m);
            assert_memory_equal(a->v, b->v, (size_t)a->elements * sizeof *a->v);
            assert_memory_equal(a->low_bits, b->low_bits, (size_t)a->elements * sizeof *a->low_bits);
        }
        close_session(&whole);
        close_session(&second);
        free(path);
        remove_folder(folder);
    }
}

static void flip_byte(const char *path, long from_end) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, -from_end, SEEK_END);
    int byte = fgetc(file);
    fseek(file, -from_end, SEEK_END);
    fputc(byte ^ 1, file);
    fclose(file);
}

static void altered_files_are_refused_by_name(void **state) {
    (void)state;
    Error error = {0};
    TrainSettings settings = settings_with(1, false);
    static const char *const names[] = {"model.safetensors", "lisa_state.safetensors", "config.json"};
    for (int i = 0; i < 3; i++) {
        Session s;
        char *folder = make_folder();
        open_session(&s, MODEL, &settings);
        char *path = save_after(&s, folder, 1), *file = path_join(path, names[i]);
        json_t *manifest = manifest_verify(path, &error);
        check(manifest, &error);
        json_decref(manifest);
        flip_byte(file, 5);
        int64_t step;
        close_session(&s);
        open_session(&s, MODEL, &settings);
        assert_false(checkpoint_load(&s.trainer, &s.facts, path, &step, &error));
        assert_non_null(strstr(error.text, names[i]));
        assert_non_null(strstr(error.text, "is not what the checkpoint's manifest says"));
        if (i < 2) assert_non_null(strstr(error.text, "tensor \""));
        assert_int_equal(truncate(file, path_size(file) - 1), 0);
        assert_null(manifest_verify(path, &error));
        assert_non_null(strstr(error.text, names[i]));
        close_session(&s);
        free(file);
        free(path);
        remove_folder(folder);
    }
}

static void other_settings_are_an_error_with_both_values(void **state) {
    (void)state;
    Error error = {0};
    Session s;
    char *folder = make_folder(), text[512];
    TrainSettings settings = settings_with(1, false);
    int64_t step;
    open_session(&s, MODEL, &settings);
    char *path = save_after(&s, folder, 1);
    s.settings.learning_rate = 2e-3;
    assert_false(checkpoint_load(&s.trainer, &s.facts, path, &step, &error));
    snprintf(text, sizeof text, "%s was made with learning_rate 0.001, this run has 0.002", path);
    assert_string_equal(error.text, text);
    s.settings.learning_rate = 1e-3;
    s.data.ids[3] ^= 1;
    assert_false(checkpoint_load(&s.trainer, &s.facts, path, &step, &error));
    assert_non_null(strstr(error.text, "training data (CRC-32 of its tokens)"));
    s.data.ids[3] ^= 1;
    s.data.sequence_starts[1]++; // packed otherwise
    assert_false(checkpoint_load(&s.trainer, &s.facts, path, &step, &error));
    assert_non_null(strstr(error.text, "training data (CRC-32 of its tokens)"));
    s.data.sequence_starts[1]--;
    s.facts.shuffle = false;
    assert_false(checkpoint_load(&s.trainer, &s.facts, path, &step, &error));
    assert_non_null(strstr(error.text, "was made with disable_shuffling false, this run has true"));
    s.facts.shuffle = true;
    ModelSource *other = model_source_open(path, false, &error); // of the same shapes
    check(other, &error);
    s.facts.source = other;
    assert_false(checkpoint_load(&s.trainer, &s.facts, path, &step, &error));
    snprintf(text, sizeof text, "%s was made with model \"llama_tied\", this run has \"checkpoint-1\"", path);
    assert_string_equal(error.text, text);
    model_source_close(other);
    close_session(&s);
    free(path);
    remove_folder(folder);
}

// A checkpoint of another model in output_dir: its weights must not be read as this model's.
static void weights_of_other_shapes_are_refused(void **state) {
    (void)state;
    static const char *const others[] = {"tests/golden/models/llama_mha", "tests/golden/models/qwen2",
                                         "tests/golden/models/llama_wide_heads"};
    Error error = {0};
    Session s;
    TrainSettings settings = settings_with(1, false);
    open_session(&s, MODEL, &settings);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        ModelSource *other = model_source_open(others[i], false, &error);
        check(other, &error);
        assert_false(model_source_load(other, &s.trainer.store, s.backend->threads, NULL, NULL, &error));
        assert_non_null(strstr(error.text, ": its blocks have other shapes than those of the model in use"));
        model_source_close(other);
    }
    close_session(&s);
}

// JSON with ' for ".
static json_t *parse_quoted(const char *text) {
    char copy[256];
    snprintf(copy, sizeof copy, "%s", text);
    for (char *quote = copy; (quote = strchr(quote, '\'')); quote++) *quote = '"';
    json_t *value = json_loads(copy, 0, NULL);
    assert_non_null(value);
    return value;
}

static void write_manifest(const char *path, const json_t *manifest) {
    Error error = {0};
    char *text = json_to_text(manifest), *file = path_join(path, "manifest.json");
    check(file_write_atomic(file, text, strlen(text), &error), &error);
    free(text);
    free(file);
}

// The manifest has no checksum of its own, so nothing that it says is believed.
static void an_altered_manifest_is_refused(void **state) {
    (void)state;
    static const char *const changes[] = {
        "{'step': -1}",
        "{'step': 13}",
        "{'step': null}",
        "{'step': 1000000000000000000}",
        "{'draw': 7}",
        "{'draw': -1}",
        "{'draw': 'x'}",
        "{'slots': []}",
        "{'slots': 3}",
        "{'slots': null}",
        "{'files': null}",
        "{'files': {'..': {'bytes': -1}}}",
        "{'settings': null}",
        "{'files': {'../x': {'bytes': -1}}}",
        "{'slots': [{'block': 0, 'steps': 3}, {'block': 0, 'steps': 3}]}",
        "{'slots': [{'block': 0, 'steps': 4}]}",
        "{'slots': [{'block': 99, 'steps': 1}]}",
        "{'slots': [{'block': 0, 'steps': 9223372036854775807}]}",
    };
    TrainSettings settings = settings_with(1, false);
    Session first;
    char *folder = make_folder();
    Error error = {0};
    open_session(&first, MODEL, &settings);
    char *path = save_after(&first, folder, 3);
    json_t *good = manifest_verify(path, &error);
    check(good, &error);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        Session s;
        int64_t step;
        json_t *manifest = json_deep_copy(good);
        json_t *change = parse_quoted(changes[i]);
        json_object_update(manifest, change);
        write_manifest(path, manifest);
        open_session(&s, MODEL, &settings);
        if (checkpoint_load(&s.trainer, &s.facts, path, &step, &error)) fail_msg("%s was believed", changes[i]);
        json_decref(change);
        json_decref(manifest);
        close_session(&s);
    }
    json_decref(good);
    close_session(&first);
    free(path);
    remove_folder(folder);
}

static void only_the_newest_stay(void **state) {
    (void)state;
    Error error = {0};
    Session s;
    char *folder = make_folder(), *found, **names;
    size_t count;
    TrainSettings settings = settings_with(1, false);
    settings.save_total_limit = 2;
    open_session(&s, MODEL, &settings);
    check(checkpoint_find(folder, &found, &error), &error);
    assert_null(found);
    char *torn = path_join(folder, "checkpoint-99");
    check(directory_create(torn, &error), &error);
    for (int64_t step = 9; step <= 11; step++)
        check(checkpoint_save(&s.trainer, &s.facts, folder, step, &error), &error);
    check(checkpoint_find(folder, &found, &error), &error);
    assert_string_equal(path_name(found), "checkpoint-11"); // 11 is newer than 9, and 99 has no manifest
    check(directory_remove(torn, &error), &error);
    check(directory_list(folder, &names, &count, &error), &error);
    assert_int_equal(count, 2);
    assert_string_equal(names[0], "checkpoint-10");
    names_free(names, count);
    close_session(&s);
    free(torn);
    free(found);
    remove_folder(folder);
}

// A file that cannot grow is as good as a full disk: the checkpoint before it stays, nothing of the new one does.
static void a_full_disk_leaves_the_last_checkpoint(void **state) {
    (void)state;
    Error error = {0};
    Session s;
    char *folder = make_folder(), *found, **names;
    size_t count;
    TrainSettings settings = settings_with(1, false);
    open_session(&s, MODEL, &settings);
    char *path = save_after(&s, folder, 1);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t limit = 0; limit < 100000; limit = limit * 3 + 100) {
        small = (struct rlimit){limit, before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        bool saved = checkpoint_save(&s.trainer, &s.facts, folder, 2, &error);
        setrlimit(RLIMIT_FSIZE, &before);
        if (saved) break;
        assert_non_null(strstr(error.text, "saving checkpoint-2: cannot write"));
        check(directory_list(folder, &names, &count, &error), &error);
        assert_int_equal(count, 1);
        names_free(names, count);
        check(checkpoint_find(folder, &found, &error), &error);
        assert_string_equal(found, path);
        json_t *manifest = manifest_verify(found, &error);
        check(manifest, &error);
        json_decref(manifest);
        free(found);
    }
    close_session(&s);
    free(path);
    remove_folder(folder);
}

static void the_output_folder_is_respected(void **state) {
    (void)state;
    Error error = {0};
    Session s;
    char *base = make_folder(), *folder = path_join(base, "out"), *resume;
    TrainSettings settings = settings_with(1, false);
    int lock, second;
    check(checkpoint_lock_folder(folder, &lock, &error), &error); // it is made
    assert_false(checkpoint_lock_folder(folder, &second, &error));
    assert_non_null(strstr(error.text, "out is in use by another run"));
    close(lock);
    check(checkpoint_lock_folder(folder, &second, &error), &error);
    close(second);
    check(checkpoint_prepare_folder(folder, false, &resume, &error), &error);
    assert_null(resume);
    char *mine = write_text(folder, "mine.txt", "mine");
    assert_false(checkpoint_prepare_folder(folder, false, &resume, &error));
    assert_non_null(strstr(error.text, "is not empty (it holds mine.txt) and has no checkpoint to resume"));
    check(checkpoint_prepare_folder(folder, true, &resume, &error), &error);
    assert_null(resume);
    open_session(&s, MODEL, &settings);
    char *path = save_after(&s, folder, 3);
    check(checkpoint_publish(folder, 3, &error), &error);
    check(checkpoint_publish(folder, 3, &error), &error);
    char *model = path_join(folder, "model.safetensors"), *published = path_join(folder, "lisa_state.safetensors");
    assert_true(path_size(model) > 0 && path_size(published) < 0);
    LoadedModel a;
    loaded_model_open(&a, folder);
    loaded_model_close(&a);
    check(checkpoint_prepare_folder(folder, false, &resume, &error), &error);
    assert_string_equal(resume, path);
    free(resume);
    check(checkpoint_prepare_folder(folder, true, &resume, &error), &error);
    assert_null(resume);
    char **names;
    size_t count;
    check(directory_list(folder, &names, &count, &error), &error);
    assert_int_equal(count, 1);
    assert_string_equal(names[0], "mine.txt");
    names_free(names, count);
    close_session(&s);
    free(model);
    free(published);
    free(path);
    free(mine);
    free(folder);
    remove_folder(base);
}

// A manifest that somebody altered names folders, which are not lisa's.
static void overwriting_removes_files_alone(void **state) {
    (void)state;
    Error error = {0};
    Session s;
    char *base = make_folder(), *folder = path_join(base, "out"), *resume;
    char *kept = path_join(folder, "kept"), *beside = write_text(base, "beside.txt", "beside");
    TrainSettings settings = settings_with(1, false);
    check(directory_create(kept, &error), &error);
    open_session(&s, MODEL, &settings);
    char *path = save_after(&s, folder, 3);
    json_t *manifest = manifest_verify(path, &error), *more = parse_quoted("{'..': {}, '.': {}, 'kept': {}}");
    check(manifest, &error);
    json_object_update(json_object_get(manifest, "files"), more);
    write_manifest(path, manifest);
    check(checkpoint_prepare_folder(folder, true, &resume, &error), &error);
    assert_true(path_exists(kept) && path_exists(beside) && !path_exists(path));
    json_decref(more);
    json_decref(manifest);
    close_session(&s);
    free(path);
    free(beside);
    free(kept);
    free(folder);
    remove_folder(base);
}

// ---- whole runs ----

static volatile sig_atomic_t stop_flag;
static int64_t stop_after;

static void stop_at_step(void *context, const StepMetrics *metrics, double seconds_left) {
    (void)context, (void)seconds_left;
    if (metrics->step == stop_after) stop_flag = 1;
}

static RunResult run(Session *s, const char *folder, int64_t first, int64_t stop) {
    Error error = {0};
    RunResult result;
    stop_flag = 0;
    stop_after = stop;
    s->settings.output_dir = (char *)(uintptr_t)folder;
    s->facts.steps = run_steps(&s->settings, &s->data);
    TrainingRun whole = {.trainer = &s->trainer,
                         .settings = &s->settings,
                         .dataset = &s->data,
                         .eval_dataset = &s->data,
                         .checkpoint = s->facts,
                         .stop = &stop_flag,
                         .observer = {.on_step = stop_at_step}};
    check(run_training(&whole, first, &result, &error), &error);
    return result;
}

static int64_t lines_of(const char *folder, const char *with) {
    Error error = {0};
    char *path = path_join(folder, "metrics.jsonl"), *text;
    size_t size;
    check(file_read(path, 1 << 20, &text, &size, &error), &error);
    int64_t count = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) count += strstr(line, with) != NULL;
    free(text);
    free(path);
    return count;
}

static void a_stopped_run_goes_on_to_the_same_end(void **state) {
    (void)state;
    Error error = {0};
    TrainSettings settings = settings_with(1, false);
    settings.num_train_epochs = 2; // 30 sequences, 4 a step: 8 steps an epoch
    settings.lr_scheduler_type = SCHEDULE_COSINE;
    settings.warmup_ratio = 0.2;
    Session whole, first, second;
    char *folder_a = make_folder(), *folder_b = make_folder(), *resume;
    open_session(&whole, MODEL, &settings);
    RunResult a = run(&whole, folder_a, 0, -1);
    assert_int_equal(a.steps, 16);
    assert_false(a.stopped);
    assert_int_equal(lines_of(folder_a, "\"loss\""), 16);
    assert_int_equal(lines_of(folder_a, "\"eval_loss\""), 2);
    open_session(&first, MODEL, &settings);
    RunResult b = run(&first, folder_b, 0, 11);
    assert_true(b.stopped);
    assert_int_equal(b.steps, 11);
    check(checkpoint_prepare_folder(folder_b, false, &resume, &error), &error);
    int64_t step = resume_session(&second, resume, &settings, 16);
    RunResult c = run(&second, folder_b, step, -1);
    assert_int_equal(c.steps, 16);
    assert_true(c.train_loss == a.train_loss && c.eval_loss == a.eval_loss);
    assert_int_equal(lines_of(folder_b, "\"loss\""), 16);
    tiny_assert_same_weights(&whole.trainer, &second.trainer);
    close_session(&whole);
    close_session(&first);
    close_session(&second);
    free(resume);
    remove_folder(folder_a);
    remove_folder(folder_b);
}

static void a_loss_that_is_no_number_ends_the_run(void **state) {
    (void)state;
    Error error = {0};
    TrainSettings settings = settings_with(1, false);
    Session s;
    RunResult result;
    char *folder = make_folder();
    open_session(&s, MODEL, &settings);
    int head = block_count(&s.trainer.store.layout) - 1;
    store_put(&s.trainer.store, head)[s.trainer.store.layout.final_norm.offset] = 0x7f80; // infinity
    s.settings.output_dir = folder;
    s.facts.steps = 8;
    s.facts.shuffle = false;
    stop_flag = 0;
    TrainingRun broken = {
        .trainer = &s.trainer, .settings = &s.settings, .dataset = &s.data, .checkpoint = s.facts, .stop = &stop_flag};
    assert_false(run_training(&broken, 0, &result, &error));
    assert_non_null(strstr(error.text, "step 1: the loss is"));
    assert_non_null(strstr(error.text, "not finite numbers; the step is dropped (its examples: 1, 2, 3, 4)"));
    close_session(&s);
    remove_folder(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resuming_changes_no_bit),
        cmocka_unit_test(altered_files_are_refused_by_name),
        cmocka_unit_test(other_settings_are_an_error_with_both_values),
        cmocka_unit_test(weights_of_other_shapes_are_refused),
        cmocka_unit_test(an_altered_manifest_is_refused),
        cmocka_unit_test(only_the_newest_stay),
        cmocka_unit_test(a_full_disk_leaves_the_last_checkpoint),
        cmocka_unit_test(the_output_folder_is_respected),
        cmocka_unit_test(overwriting_removes_files_alone),
        cmocka_unit_test(a_stopped_run_goes_on_to_the_same_end),
        cmocka_unit_test(a_loss_that_is_no_number_ends_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

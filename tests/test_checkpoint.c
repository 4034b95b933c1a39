// test_checkpoint.c - saving, finding, verifying and resuming runs.
#include "tests/support.h"

#include "base/files.h"
#include "tests/loaded_model.h"
#include "tests/session.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static void resuming_changes_no_bit(void **state) {
    (void)state;
    for (int variant = 0; variant < 4; variant++) {
        TrainSettings settings = settings_with(1, variant & 1);
        if (variant >= 2) settings.finetuning_type = METHOD_FULL;
        Session whole, first, second;
        char *folder = make_folder();
        open_session(&whole, SESSION_MODEL, &settings);
        tiny_steps(&whole.trainer, &whole.data, 4, 0, 12);
        open_session(&first, SESSION_MODEL, &settings);
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
            assert_int_equal(a->moment_size, b->moment_size);
            assert_memory_equal(a->m, b->m, (size_t)a->elements * a->moment_size);
            assert_memory_equal(a->v, b->v, (size_t)a->elements * a->moment_size);
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
        open_session(&s, SESSION_MODEL, &settings);
        char *path = save_after(&s, folder, 1), *file = path_join(path, names[i]);
        json_t *manifest = manifest_verify(path, &error);
        check(manifest, &error);
        json_decref(manifest);
        flip_byte(file, 5);
        int64_t step;
        close_session(&s);
        open_session(&s, SESSION_MODEL, &settings);
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
    open_session(&s, SESSION_MODEL, &settings);
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
    open_session(&s, SESSION_MODEL, &settings);
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
    open_session(&first, SESSION_MODEL, &settings);
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
        open_session(&s, SESSION_MODEL, &settings);
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
    open_session(&s, SESSION_MODEL, &settings);
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
    open_session(&s, SESSION_MODEL, &settings);
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
    open_session(&s, SESSION_MODEL, &settings);
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
    open_session(&s, SESSION_MODEL, &settings);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

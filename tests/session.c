// session.c - see session.h.
#include "tests/session.h"
#include "base/files.h"
#include "tests/support.h"
#include <stdio.h>

static Backend *cpu(void) {
    Error error = {0};
    Backend *backend = backend_cpu_create(2, false, &error);
    check(backend, &error);
    return backend;
}

void open_session(Session *s, const char *model, const TrainSettings *settings) {
    open_session_on(s, cpu(), model, settings);
}

void open_session_on(Session *s, Backend *backend, const char *model, const TrainSettings *settings) {
    Error error = {0};
    Plan plan;
    *s = (Session){.backend = backend, .settings = *settings, .source = model_source_open(model, false, &error)};
    check(s->source, &error);
    const ModelConfig *config = model_source_config(s->source);
    s->data = tiny_dataset(30, 20, config->vocabulary, 1);
    PlanRequest request = {
        .config = config, .settings = &s->settings, .backend = s->backend, .cutoff_len = 32, .scratch_dir = "."};
    check(plan_make(&plan, &request, &error), &error);
    check(trainer_create(&s->trainer, s->backend, config, &s->settings, &plan, &error), &error);
    check(model_source_load(s->source, &s->trainer.store, s->backend->threads, NULL, NULL, &error), &error);
    s->facts = (CheckpointFacts){.source = s->source, .dataset = &s->data, .shuffle = true, .steps = 12};
}

void close_session(Session *s) {
    trainer_free(&s->trainer);
    model_source_close(s->source);
    s->backend->destroy(s->backend);
    dataset_free(&s->data);
}

static int64_t go_on(Session *s, const char *path, int64_t steps) {
    Error error = {0};
    int64_t step;
    s->facts.steps = steps;
    ModelSource *saved = model_source_open(path, false, &error);
    check(saved, &error);
    check(model_source_load(saved, &s->trainer.store, s->backend->threads, NULL, NULL, &error), &error);
    check(checkpoint_load(&s->trainer, &s->facts, path, &step, &error), &error);
    model_source_close(saved);
    return step;
}

int64_t resume_session(Session *s, const char *path, const TrainSettings *settings, int64_t steps) {
    return resume_session_on(s, cpu(), path, settings, steps);
}

int64_t resume_session_on(Session *s, Backend *backend, const char *path, const TrainSettings *settings,
                          int64_t steps) {
    open_session_on(s, backend, SESSION_MODEL, settings);
    return go_on(s, path, steps);
}

int64_t resume_session_with(Session *s, const char *model, const char *path, const TrainSettings *settings,
                            int64_t steps) {
    open_session(s, model, settings);
    return go_on(s, path, steps);
}

TrainSettings settings_with(int64_t layers, bool keep_low_bits) {
    TrainSettings settings = tiny_settings();
    settings.lisa_activated_layers = layers;
    settings.lisa_interval_steps = 2;
    settings.lisa_keep_low_bits = keep_low_bits;
    return settings;
}

char *save_after(Session *s, const char *folder, int64_t steps) {
    Error error = {0};
    char name[64];
    snprintf(name, sizeof name, "checkpoint-%lld", (long long)steps);
    tiny_steps(&s->trainer, &s->data, 4, 0, steps);
    check(checkpoint_save(&s->trainer, &s->facts, folder, steps, &error), &error);
    return path_join(folder, name);
}

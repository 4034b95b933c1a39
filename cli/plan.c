// plan.c - `lisa plan`: what a training run will take of memory, to the byte, and about how fast it will be, without
// running it; also for cards that are not there.
#include "train/plan.h"
#include "cli/command.h"
#include "cli/plan_show.h"
#include "cli/setup.h"
#include "kernels/backends.h"
#include "model/source.h"
#include <string.h>

// With --vram a card is only described: none is touched, and none need be there.
static Backend *open_backend(const Options *options, Error *error) {
    bool card = !strncmp(options->device, "cuda", 4) || !strcmp(options->device, "auto");
    if (options->vram.count > 0 && card) return backend_cuda_describe(error);
    return backend_open(options->device, (int)options->threads, error);
}

// The data's lengths, where a data set is named and the model has a tokenizer to measure them with.
static bool load_data(const Options *options, Setup *setup, TrainingData *data, Error *error) {
    Error ignored;
    if (!options->data.dataset || !setup_open(setup, options, &ignored)) return true;
    ThreadPool *threads = thread_pool_create((int)options->threads, error);
    bool good = threads && setup_load_data(setup, &options->data, options->train.seed, threads, data, error);
    thread_pool_free(threads);
    return good;
}

static bool make_plans(const Options *options, const ModelConfig *config, const Dataset *data, Backend *backend,
                       ShownPlan *shown, int count, Error *error) {
    for (int i = 0; i < count; i++) {
        ShownPlan *s = &shown[i];
        s->vram = options->vram.bytes[i];
        if (!setup_plan_request(options, config, false, backend, s->vram, data, &s->rates, &s->request, error))
            return false;
        s->fits = plan_make(&s->plan, &s->request, &s->error);
        if (!s->fits && s->error.exit_code == ERROR_EXIT_USAGE) {
            *error = s->error;
            return false;
        }
    }
    return true;
}

// What was planned is shown. When nothing fits, the first one's error ends the command.
static bool show_plans(const Options *options, const ShownPlan *shown, int count, Error *error) {
    bool any = false;
    for (int i = 0; i < count; i++) any |= shown[i].fits;
    if (options->json && !plan_show_json(shown, count, error)) return false;
    if (!options->json && count > 1) plan_show_side_by_side(shown, count);
    if (!options->json && count == 1 && any) plan_show(&shown[0]);
    if (!any) *error = shown[0].error;
    return any;
}

int command_plan(const Options *options, Error *error) {
    ShownPlan shown[SIZES_MAX] = {0};
    int count = options->vram.count > 0 ? options->vram.count : 1;
    ModelSource *source = model_source_open(options->model_name_or_path, true, error);
    Backend *backend = source ? open_backend(options, error) : NULL;
    Setup setup = {0};
    TrainingData data = {0};
    bool good = backend && (backend->unified || load_data(options, &setup, &data, error)) &&
                make_plans(options, model_source_config(source), data.train.count ? &data.train : NULL, backend, shown,
                           count, error) &&
                show_plans(options, shown, count, error);
    training_data_free(&data);
    setup_close(&setup);
    if (backend) backend->destroy(backend);
    model_source_close(source);
    return good ? 0 : ERROR_EXIT_FAILED;
}

// forecast.c - see forecast.h.
#include "cli/forecast.h"
#include "base/files.h"
#include "base/log.h"
#include "cli/progress.h"
#include "train/lisa.h"
#include <math.h>
#include <stdlib.h>
#include <time.h>

#define RATE_TOKENS  256 // of the linear layer whose rate is measured
#define RATE_SECONDS 0.1

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

// FLOPs per second of the model's gate projection, forward.
static bool measure_rate(Backend *backend, const ModelConfig *config, double *rate, Error *error) {
    size_t k = (size_t)config->hidden, n = (size_t)config->intermediate, element = backend->activation_size;
    void *x = NULL, *out = NULL, *weight = NULL;
    bool good = backend->allocate(backend, MEMORY_DEVICE, RATE_TOKENS * k * element, &x, error) &&
                backend->allocate(backend, MEMORY_DEVICE, RATE_TOKENS * n * element, &out, error) &&
                backend->allocate(backend, MEMORY_DEVICE, k * n * sizeof(bf16), &weight, error);
    if (good) {
        backend->zero(backend, x, RATE_TOKENS * k * element, NULL);
        backend->zero(backend, weight, k * n * sizeof(bf16), NULL);
        double started = 0, elapsed = 0;
        int64_t runs = -1; // the first one only warms up
        while (elapsed < RATE_SECONDS) {
            backend->linear_forward(backend, out, x, weight, NULL, NULL, RATE_TOKENS, (int64_t)n, (int64_t)k,
                                    (int64_t)n, NULL);
            backend->synchronize(backend, NULL);
            if (runs++ < 0)
                started = now();
            else
                elapsed = now() - started;
        }
        *rate = 2.0 * RATE_TOKENS * (double)k * (double)n * (double)runs / elapsed;
    }
    backend->release(backend, MEMORY_DEVICE, x);
    backend->release(backend, MEMORY_DEVICE, out);
    backend->release(backend, MEMORY_DEVICE, weight);
    return good;
}

// FLOPs of one token's forward and backward pass: 2 per weight for the output, 2 for the input's gradient, 2 for the
// weight's where it is trained, 2 where the output is computed again. The loss is computed for target tokens only.
static double token_flops(const Trainer *trainer, const Dataset *dataset, int activated) {
    const ModelConfig *config = trainer->config;
    const LayerLayout *layer = &trainer->store.layout.layer;
    double weights = (double)layer->decayed, layers = config->layers;
    double mlp = 3.0 * (double)config->hidden * (double)config->intermediate;
    double again = trainer->plan.sizes.keep == KEEP_ALL         ? 0
                   : trainer->plan.sizes.keep == KEEP_ATTENTION ? mlp
                                                                : weights;
    double tokens = (double)dataset->starts[dataset->count];
    double share = tokens > 0 ? (double)dataset->targets / tokens : 0;
    double head = (double)config->vocabulary * (double)config->hidden * share;
    // Attention over half of an example on average: 2 products forward, 5 backward.
    double length = dataset->count ? tokens / (double)dataset->count : 0;
    double attention = 7 * 2.0 * (double)config->heads * config->head_dim * length / 2 * layers;
    return 2 * (2 * weights * layers + weights * activated + again * layers) + 6 * head + attention;
}

static int count_trained_layers(const Method *method, int64_t draws) {
    bool seen[MODEL_LAYERS_MAX] = {false};
    int drawn[MODEL_LAYERS_MAX], count = 0;
    for (int64_t draw = 0; draw < draws && count < method->layers && method->activated > 0; draw++) {
        method_draw(method, draw, drawn);
        for (int i = 0; i < method->activated; i++) {
            count += !seen[drawn[i]];
            seen[drawn[i]] = true;
        }
    }
    return count;
}

bool forecast_make(Forecast *forecast, const Trainer *trainer, const Dataset *dataset, int64_t first, int64_t steps,
                   uint64_t checkpoint_bytes, Error *error) {
    const TrainSettings *settings = trainer->settings;
    Method method = method_of(settings, trainer->config->layers);
    double rate = 0;
    if (!measure_rate(trainer->backend, trainer->config, &rate, error)) return false;
    *forecast = (Forecast){.examples = dataset->count,
                           .tokens = dataset->starts[dataset->count],
                           .targets = dataset->targets,
                           .steps = steps,
                           .draws = method_draws(&method, steps),
                           .layers = method.layers};
    forecast->layers_trained = count_trained_layers(&method, forecast->draws);
    double sequences = (double)(settings->per_device_train_batch_size * settings->gradient_accumulation_steps);
    double passes = (double)(steps - first) * sequences / (double)dataset->sequences;
    forecast->seconds = passes * (double)forecast->tokens * token_flops(trainer, dataset, method.activated) / rate;
    // The one before stays until the new one is complete.
    forecast->disk_needed = checkpoint_bytes * ((uint64_t)settings->save_total_limit + 1);
    return disk_free_bytes(settings->output_dir, &forecast->disk_free, error);
}

static void warn_of_few_draws(const Forecast *forecast, const TrainSettings *settings) {
    bool few = forecast->draws < 3 || 2 * forecast->layers_trained < forecast->layers;
    if (settings->finetuning_type != METHOD_LISA || settings->lisa_activated_layers == 0 || !few) return;
    // Twice as many places as layers leave about one layer in seven out.
    int64_t interval = forecast->steps * settings->lisa_activated_layers / (2 * (int64_t)forecast->layers);
    if (interval < 1) interval = 1;
    log_warning("%lld draws reach %d of %d layers; lisa_interval_steps=%lld would reach most of them",
                (long long)forecast->draws, forecast->layers_trained, forecast->layers, (long long)interval);
}

bool forecast_tell(const Forecast *forecast, const TrainSettings *settings, Error *error) {
    char time[32], needed[16], available[16];
    log_note("%lld examples, %lld tokens, %lld of them learned", (long long)forecast->examples,
             (long long)forecast->tokens, (long long)forecast->targets);
    log_note("%lld optimizer steps, %lld draws that reach %d of %d layers", (long long)forecast->steps,
             (long long)forecast->draws, forecast->layers_trained, forecast->layers);
    format_bytes(needed, forecast->disk_needed);
    format_bytes(available, forecast->disk_free);
    log_note("about %s; %s of disk needed, %s free", format_duration(time, forecast->seconds), needed, available);
    warn_of_few_draws(forecast, settings);
    if (forecast->disk_needed <= forecast->disk_free) return true;
    error_set(error, "%s: checkpoints need %s of disk, %s are free", settings->output_dir, needed, available);
    return error_hint(error, "free some space, choose another output_dir, or a smaller save_total_limit (now %lld)",
                      (long long)settings->save_total_limit);
}

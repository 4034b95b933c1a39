// forecast.c - see forecast.h.
#include "cli/forecast.h"
#include "base/files.h"
#include "base/log.h"
#include "cli/progress.h"
#include "data/order.h"
#include "train/flops.h"
#include "train/lisa.h"
#include <math.h>

#define RATE_TOKENS  256  // rows of the multiplication whose rate is measured
#define RATE_REPEATS 5    // of which the median counts
#define EFFICIENCY   0.65 // of a step, measured against that rate

// FLOPs that a token of this data needs on average, from a micro-batch of its first sequences.
static bool token_flops(const Trainer *trainer, const Dataset *dataset, int activated, double *flops, Error *error) {
    MicroBatch batch;
    GemmWork works[GEMM_WORKS_MAX];
    if (!micro_batch_create(&batch, trainer->plan.sizes.tokens, error)) return false;
    micro_batch_clear(&batch);
    for (int64_t s = 0; s < dataset->sequences && micro_batch_add(&batch, dataset, s); s++) continue;
    micro_batch_finish(&batch);
    int count = gemm_works(trainer->config, activated, &batch, trainer->plan.sizes.chunk, works);
    *flops = attention_flops(trainer->config, &batch);
    for (int i = 0; i < count; i++) *flops += gemm_flops(&works[i]);
    *flops /= (double)batch.used;
    micro_batch_free(&batch);
    return true;
}

// A guess of the seconds that `tokens` tokens take: what they need at the rate of the model's gate projection.
static bool guess_seconds(const Trainer *trainer, const Dataset *dataset, int activated, double tokens, double *seconds,
                          Error *error) {
    Backend *b = trainer->backend;
    GemmWork gate = {GEMM_FORWARD, RATE_TOKENS, trainer->config->intermediate, trainer->config->hidden, 1};
    double once, flops;
    if (!b->gemm_seconds(b, gate.layout, gate.m, gate.n, gate.k, RATE_REPEATS, &once, error) ||
        !token_flops(trainer, dataset, activated, &flops, error))
        return false;
    *seconds = tokens * flops / (gemm_flops(&gate) / once) / EFFICIENCY;
    return true;
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

// How many checkpoints exist at once at most: the one before stays until the new one is complete.
static uint64_t checkpoints_at_once(const TrainSettings *s, int64_t steps, int64_t per_epoch, double seconds) {
    int64_t every = s->save_strategy == WHEN_STEPS ? s->save_steps : s->save_strategy == WHEN_EPOCH ? per_epoch : steps;
    double written = ceil((double)steps / (double)every); // the last step's among them
    if (s->save_minutes > 0) written += floor(seconds / (60 * s->save_minutes));
    double kept = (double)s->save_total_limit + 1;
    return (uint64_t)(written < kept ? written : kept);
}

bool forecast_make(Forecast *forecast, const Trainer *trainer, const Dataset *dataset, int64_t first, int64_t steps,
                   uint64_t checkpoint_bytes, Error *error) {
    const TrainSettings *settings = trainer->settings;
    Method method = method_of(settings, trainer->config->layers);
    *forecast = (Forecast){.examples = dataset->count,
                           .tokens = dataset->starts[dataset->count],
                           .targets = dataset->targets,
                           .steps = steps,
                           .draws = method_draws(&method, steps),
                           .layers = method.layers};
    forecast->layers_trained = count_trained_layers(&method, forecast->draws);
    int64_t per_epoch = steps_per_epoch(dataset->sequences,
                                        settings->per_device_train_batch_size * settings->gradient_accumulation_steps);
    double passes = (double)(steps - first) / (double)per_epoch;
    if (!guess_seconds(trainer, dataset, method.activated, passes * (double)forecast->tokens, &forecast->seconds,
                       error))
        return false;
    forecast->disk_needed =
        checkpoint_bytes * checkpoints_at_once(settings, steps - first, per_epoch, forecast->seconds);
    return disk_free_bytes(settings->output_dir, &forecast->disk_free, error);
}

static void warn_of_few_draws(const Forecast *forecast, const TrainSettings *settings) {
    if (forecast->layers_trained == forecast->layers) return; // one draw of all layers is enough
    bool few = forecast->draws < 3 || 2 * forecast->layers_trained < forecast->layers;
    if (settings->finetuning_type != METHOD_LISA || settings->lisa_activated_layers == 0 || !few) return;
    // Twice as many places as layers leave about one layer in seven out.
    int64_t interval = forecast->steps * settings->lisa_activated_layers / (2 * (int64_t)forecast->layers);
    if (interval < 1) interval = 1;
    log_warning("few draws: they reach %d of %d layers; lisa_interval_steps=%lld would reach most of them",
                forecast->layers_trained, forecast->layers, (long long)interval);
}

bool forecast_tell(const Forecast *forecast, const TrainSettings *settings, Error *error) {
    char time[32], needed[16], available[16];
    log_note("%lld examples, %lld tokens, %lld of them learned", (long long)forecast->examples,
             (long long)forecast->tokens, (long long)forecast->targets);
    log_note("%lld optimizer steps, %lld draw%s reaching %d of %d layers", (long long)forecast->steps,
             (long long)forecast->draws, forecast->draws == 1 ? "" : "s", forecast->layers_trained, forecast->layers);
    format_bytes(needed, forecast->disk_needed);
    format_bytes(available, forecast->disk_free);
    log_note("about %s; %s of disk needed, %s free", format_duration(time, forecast->seconds), needed, available);
    warn_of_few_draws(forecast, settings);
    if (forecast->disk_needed <= forecast->disk_free) return true;
    error_set(error, "%s: checkpoints need %s of disk, %s are free", settings->output_dir, needed, available);
    return error_hint(error, "free some space, choose another output_dir, or a smaller save_total_limit (now %lld)",
                      (long long)settings->save_total_limit);
}

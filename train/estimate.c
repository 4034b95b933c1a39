// estimate.c - see estimate.h. Times are seconds since the simulation began.
#include "train/step_costs.h"
#include <math.h>

#define STEPS_LEAST 3 // simulated, until two take equally long
#define STEPS_MOST  16
#define STEADY      1e-9 // of a step

typedef struct Simulation {
    const StepPlan *plan;
    StepCosts costs;
    int layers, active;
    double streamed_share; // the chance that a layer is streamed
    double kept_share;     // that it is one of the two that stay at the end of a sweep
    // The moment from which on each is free. What a layer waits for at once goes over the link first; the weights of
    // streamed layers take what that leaves of it, so it delays them but not they it.
    double compute, urgent, up, down, host;
    double arrival[2]; // of the weights in either stream buffer
    unsigned uses;     // of the stream buffers so far
    // When a block's gradient is in host memory, then when its weights are new where its state is.
    double embedding_ready, head_ready, active_ready[MODEL_LAYERS_MAX];
    Estimate spent; // the resources' seconds so far
} Simulation;

static double later(double a, double b) {
    return a > b ? a : b;
}

// ---- pieces of work: each returns when it ends ----

static double compute(Simulation *s, double start, double seconds) {
    s->compute = later(s->compute, start) + seconds;
    s->spent.compute += seconds;
    return s->compute;
}

static double bring_up(Simulation *s, double start, double seconds) {
    start = later(start, s->urgent);
    s->urgent = start + seconds;
    s->up = later(s->up, start) + seconds;
    s->spent.to_device += seconds;
    return s->urgent;
}

static double take_down(Simulation *s, double start, double seconds) {
    s->down = later(s->down, start) + seconds;
    s->spent.to_host += seconds;
    return s->down;
}

static double update_on_host(Simulation *s, double start, double seconds) {
    s->host = later(s->host, start) + seconds;
    s->spent.host += seconds;
    return s->host;
}

// ---- streamed weights ----

static int streamed_layer(const Simulation *s, int i) {
    int64_t streamed = s->plan->streamed;
    return i < streamed ? (int)((2 * i + 1) * (int64_t)s->layers / (2 * streamed)) : s->layers;
}

// A streamed layer has been used: its buffer takes the layer after the next, or keeps what it holds.
static void use_ends(Simulation *s, bool load) {
    double *arrival = &s->arrival[s->uses++ % 2];
    *arrival = 0;
    if (!load) return;
    s->up = later(s->up, s->compute) + s->costs.load;
    s->spent.to_device += s->costs.load_link;
    s->spent.disk += s->costs.load_disk;
    *arrival = s->up;
}

static double weights_arrive(const Simulation *s) {
    return s->arrival[s->uses % 2];
}

// ---- active layers ----

// The layer that stands for the i-th of the draw: where it is to be expected.
static int active_layer(const Simulation *s, int i) {
    return i < s->active ? (int)((int64_t)(i + 1) * (s->layers + 1) / (s->active + 1)) - 1 : s->layers;
}

// When active layer i can be used in the first sweep after its update.
static double active_weights(Simulation *s, int i) {
    if (!s->plan->layers_on_host) return s->active_ready[i];
    // a streamed one's come with a load that is needed anyway, unless it has stayed in a buffer
    double riding = (s->streamed_share - s->kept_share) * s->costs.layer_up;
    double arrival = bring_up(s, s->active_ready[i], s->costs.layer_up);
    s->up -= riding;
    s->spent.to_device -= riding;
    return arrival;
}

// AdamW on the device. gradient: when it is there; loaded: a streamed layer's weights are still in a buffer.
static void update_layer_on_device(Simulation *s, int i, double gradient, bool loaded) {
    double share = s->streamed_share, start = gradient;
    if (share > 0 && !loaded) {
        start = later(bring_up(s, gradient, share * s->costs.load_link), gradient + share * s->costs.load);
        s->spent.disk += share * s->costs.load_disk;
    }
    compute(s, start, s->costs.layer_update);
    s->active_ready[i] = 0;
    if (share == 0) return;
    s->active_ready[i] = take_down(s, s->compute, share * s->costs.store);
    s->spent.disk += share * s->costs.store_disk;
}

static void layer_gradient_complete(Simulation *s, int i) {
    const StepPlan *plan = s->plan;
    compute(s, 0, s->costs.layer_gradient);
    if (plan->layers_on_host || (plan->gradients_parked && !plan->fused_update))
        s->active_ready[i] = take_down(s, s->compute, s->costs.layer_gradient_down);
    if (!plan->fused_update) return;
    if (plan->layers_on_host)
        s->active_ready[i] = update_on_host(s, s->active_ready[i], s->costs.layer_host);
    else
        update_layer_on_device(s, i, s->compute, true);
}

static void head_gradient_complete(Simulation *s) {
    const StepPlan *plan = s->plan;
    compute(s, 0, s->costs.head_gradient);
    if (plan->head_on_host || (plan->gradients_parked && !plan->fused_update))
        s->head_ready = take_down(s, s->compute, s->costs.head_gradient_down);
    if (!plan->fused_update) return;
    if (plan->head_on_host)
        s->head_ready = update_on_host(s, s->head_ready, s->costs.head_host);
    else
        compute(s, 0, s->costs.head_update);
}

// ---- a sweep ----

// `count` micro-batches. first, last: of the step.
typedef struct Sweep {
    double count;
    bool first, last;
} Sweep;

static void embed(Simulation *s, Sweep sweep) {
    double rows = 0;
    if (s->plan->embedding_on_host && sweep.first) rows = bring_up(s, s->embedding_ready, s->costs.rows_up);
    compute(s, rows, sweep.count * s->costs.embed_forward);
}

static void forward(Simulation *s, Sweep sweep) {
    const StepPlan *plan = s->plan;
    const bool *windowed = plan->config->windowed;
    int i = 0, streamed = streamed_layer(s, 0), a = 0, active = active_layer(s, 0);
    double copied[2] = {0}; // when the inputs of the last two layers have left the device
    for (int l = 0; l < s->layers; l++) {
        double start = l == streamed ? weights_arrive(s) : 0;
        if (l == active) {
            if (sweep.first && plan->training) start = later(start, active_weights(s, a));
            active = active_layer(s, ++a);
        }
        if (plan->inputs_on_host && plan->training) {
            start = later(start, copied[l % 2]);
            copied[l % 2] = take_down(s, s->compute, sweep.count * s->costs.input_down);
        }
        compute(s, start, sweep.count * s->costs.forward[windowed[l]]);
        if (l != streamed) continue;
        streamed = streamed_layer(s, ++i);
        use_ends(s, plan->training ? i + 1 < plan->streamed : plan->streamed > 2);
    }
}

static void head(Simulation *s, Sweep sweep) {
    double weights = 0;
    if (s->plan->head_on_host && s->plan->training && sweep.first)
        weights = bring_up(s, s->head_ready, s->costs.head_up);
    compute(s, weights, sweep.count * s->costs.head);
    if (s->plan->training && sweep.last) head_gradient_complete(s);
}

static void backward(Simulation *s, Sweep sweep) {
    const StepPlan *plan = s->plan;
    const bool *windowed = plan->config->windowed;
    int i = plan->streamed - 1, streamed = i < 0 ? -1 : streamed_layer(s, i);
    int a = s->active - 1, active = a < 0 ? -1 : active_layer(s, a);
    double ended[2] = {s->compute, s->compute}; // when the buffers of the inputs are free
    for (int l = s->layers - 1; l >= 0; l--) {
        double start = l == streamed ? weights_arrive(s) : 0;
        double seconds = s->costs.backward[windowed[l]][layer_keep_of(plan, l)];
        if (l == active) seconds += s->costs.weight_gradients;
        if (plan->inputs_on_host) start = later(start, bring_up(s, ended[l % 2], sweep.count * s->costs.input_up));
        ended[l % 2] = compute(s, start, sweep.count * seconds);
        if (l == streamed) {
            use_ends(s, i >= 2);
            streamed = --i < 0 ? -1 : streamed_layer(s, i);
        }
        if (l != active) continue;
        if (sweep.last) layer_gradient_complete(s, a);
        active = --a < 0 ? -1 : active_layer(s, a);
    }
    compute(s, 0, sweep.count * s->costs.embed_backward);
}

static void run_sweep(Simulation *s, Sweep sweep) {
    embed(s, sweep);
    forward(s, sweep);
    head(s, sweep);
    if (s->plan->training) backward(s, sweep);
}

// ---- the end of a step ----

// What the device updates when the norm is known.
static void update_on_device(Simulation *s, double norm) {
    const StepPlan *plan = s->plan;
    if (!plan->embedding_on_host) compute(s, norm, s->costs.embedding_update);
    if (plan->fused_update) return; // the others have been
    for (int i = 0; i < s->active && !plan->layers_on_host; i++) {
        double gradient = norm;
        if (plan->gradients_parked) gradient = bring_up(s, later(norm, s->active_ready[i]), s->costs.layer_gradient_up);
        update_layer_on_device(s, i, gradient, false);
    }
    if (plan->head_on_host) return;
    double gradient = norm;
    if (plan->gradients_parked) gradient = bring_up(s, later(norm, s->head_ready), s->costs.head_gradient_up);
    compute(s, gradient, s->costs.head_update);
}

// What the CPU updates then: in the order in which the next step needs it. A fused update has no norm to wait for.
static void update_rest_on_host(Simulation *s, double norm) {
    const StepPlan *plan = s->plan;
    if (plan->embedding_on_host) {
        double rows = take_down(s, s->compute, s->costs.rows_down);
        s->embedding_ready = update_on_host(s, rows, s->costs.rows_host);
    }
    for (int i = 0; i < s->active && plan->layers_on_host && !plan->fused_update; i++)
        s->active_ready[i] = update_on_host(s, later(norm, s->active_ready[i]), s->costs.layer_host);
    if (plan->head_on_host && !plan->fused_update)
        s->head_ready = update_on_host(s, later(norm, s->head_ready), s->costs.head_host);
    if (plan->embedding_on_host) update_on_host(s, 0, s->costs.rest_host);
}

// `times` more sweeps like the one that began with `before`. The host's work goes on meanwhile.
static void repeat_sweep(Simulation *s, const Simulation *before, double times) {
    double seconds = times * (s->compute - before->compute);
    s->compute += seconds, s->urgent += seconds, s->up += seconds, s->down += seconds;
    s->arrival[0] += seconds, s->arrival[1] += seconds;
    s->spent.compute += times * (s->spent.compute - before->spent.compute);
    s->spent.to_device += times * (s->spent.to_device - before->spent.to_device);
    s->spent.to_host += times * (s->spent.to_host - before->spent.to_host);
    s->spent.disk += times * (s->spent.disk - before->spent.disk);
}

static void run_step(Simulation *s) {
    const StepPlan *plan = s->plan;
    int64_t sweep = plan->sweep < plan->batches ? plan->sweep : plan->batches;
    int64_t sweeps = (plan->batches + sweep - 1) / sweep, rest = plan->batches - (sweeps - 1) * sweep;
    const Sweep first = {(double)sweep, true, false}, next = {(double)sweep, false, false};
    if (sweeps > 1) run_sweep(s, first);
    if (sweeps > 2) run_sweep(s, next);
    if (sweeps > 3) { // they have come into step
        Simulation before = *s;
        run_sweep(s, next);
        repeat_sweep(s, &before, (double)(sweeps - 4));
    }
    run_sweep(s, (Sweep){(double)rest, sweeps == 1, true});
    if (!plan->training) return;
    double norm = compute(s, 0, s->costs.embedding_gradient);
    update_rest_on_host(s, norm);
    update_on_device(s, norm);
}

static void start_simulation(Simulation *s, const StepPlan *plan, const Rates *rates) {
    *s = (Simulation){.plan = plan, .layers = plan->config->layers};
    s->active = plan->activated < s->layers ? plan->activated : s->layers;
    s->streamed_share = (double)plan->streamed / s->layers;
    s->kept_share = fmin(2, plan->streamed) / s->layers;
    step_costs(&s->costs, plan, rates);
}

void estimate_step(const StepPlan *plan, const Rates *rates, Estimate *estimate) {
    Simulation s;
    start_simulation(&s, plan, rates);
    double seconds = 0, previous = -1;
    Estimate before = {0};
    for (int step = 0; step < STEPS_MOST && (step < STEPS_LEAST || fabs(seconds - previous) > STEADY * seconds);
         step++) {
        double began = s.compute;
        before = s.spent, previous = seconds;
        run_step(&s);
        seconds = s.compute - began;
    }
    double tokens = (double)plan->tokens * (double)plan->batches;
    *estimate = (Estimate){
        .seconds = seconds,
        .compute = s.spent.compute - before.compute,
        .to_device = s.spent.to_device - before.to_device,
        .to_host = s.spent.to_host - before.to_host,
        .disk = s.spent.disk - before.disk,
        .host = s.spent.host - before.host,
        .tokens_to_hide_link = tokens_to_hide_link(&s.costs, plan),
    };
    // what has not caught up yet will: no resource does more than a second's work in a second
    double busiest = later(later(estimate->to_device, estimate->to_host), later(estimate->disk, estimate->host));
    estimate->seconds = later(estimate->seconds, busiest);
    estimate->tokens_per_second = tokens / estimate->seconds;
}

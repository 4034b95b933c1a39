// plan_search.c - all plans of a request: their memory, their time, and the fastest that fits.
//
// How many layers keep what costs memory by a fixed amount each, so of each placement the ways to keep are not measured
// but counted. A placement whose time would not be the best even if every layer kept everything needs no counting: a
// plan is never slower for keeping more. The plans that are looked at do not depend on the limits, so the best time
// never rises with more memory.
#include "model/uses.h"
#include "train/plan_parts.h"
#include "train/trainer.h"
#include <string.h>

#define TOKENS_MULTIPLE 128  // of a micro-batch's capacity: whole tiles of every kernel
#define TOKENS_USEFUL   2048 // more tokens at a time make no matrix multiplication faster
#define CHUNK_LOGITS    512  // rows of logits at a time
#define CHUNK_LEAST     128

// One way to cut a step: of these, only when none fits the next is tried, since they change the order of sums.
typedef struct Cut {
    int64_t tokens, chunk;
} Cut;

#define CUTS_MAX 4

static int list_cuts(const PlanRequest *request, Cut cuts[CUTS_MAX]) {
    int64_t batch = plan_largest_batch(request), given = request->settings->micro_batch_tokens;
    int64_t least = round_up(request->cutoff_len, TOKENS_MULTIPLE);
    int64_t usual = batch < TOKENS_USEFUL ? round_up(batch, TOKENS_MULTIPLE) : TOKENS_USEFUL;
    int64_t tokens[2] = {usual < least ? least : usual, least};
    int count = 0, sizes = tokens[0] == tokens[1] ? 1 : 2;
    if (given > 0) {
        tokens[0] = given < least ? least : round_up(given, TOKENS_MULTIPLE);
        sizes = 1;
    }
    for (int i = 0; i < sizes; i++)
        cuts[count++] = (Cut){tokens[i], tokens[i] < CHUNK_LOGITS ? tokens[i] : CHUNK_LOGITS};
    Cut last = cuts[count - 1];
    if (last.chunk > CHUNK_LEAST) cuts[count++] = (Cut){last.tokens, CHUNK_LEAST};
    return count;
}

// ---- one placement ----

typedef struct Walk {
    PlanSearch *search;
    const PlanFrame *frame;
    bool any;
    Plan plan; // the placement that is looked at
    // bytes that a layer costs which keeps all but the MLP's intermediates, everything
    uint64_t attention, all;
    // bytes less that all layers cost: where none keeps its input alone, the layers need fewer buffers to work with
    uint64_t attention_saves, all_saves;
} Walk;

static bool measure(Plan *plan, const PlanFrame *frame, Error *error) {
    const PlanRequest *r = frame->request;
    return trainer_measure(plan, r->backend, r->config, r->settings, error);
}

// What is added to an estimate for each kind of traffic beside the device: what it does not know of (starting copies,
// waiting for each other, cores that are wanted elsewhere). Of plans that are about as fast the plainest wins by it.
#define ALLOWANCE 0.01

static int kinds_of_traffic(const Plan *p) {
    return (p->store.streamed > 0) + p->store.in_file + p->store.embedding_on_host + p->state.head_on_host +
           p->state.layers_on_host + (p->sizes.inputs == INPUTS_ON_HOST) +
           (p->state.shared_gradient && !p->fused_update);
}

// Sequences as long as usual fill fewer micro-batches than the longest would, evenly.
static void estimate(Plan *plan, const PlanFrame *frame) {
    const PlanRequest *r = frame->request;
    Method method = method_of(r->settings, r->config->layers);
    int64_t length = r->usual_len > 0 && r->usual_len < r->cutoff_len ? r->usual_len : r->cutoff_len;
    int64_t all = plan->evaluate_only ? plan->sizes.tokens : plan_largest_batch(r) / r->cutoff_len * length;
    int64_t batches = (all + plan->sizes.tokens - 1) / plan->sizes.tokens;
    StepPlan step = {.config = r->config,
                     .activated = method.activated,
                     .training = !plan->evaluate_only,
                     .sequence_tokens = length,
                     .tokens = (all + batches - 1) / batches,
                     .sweep = plan->sizes.sweep < batches ? plan->sizes.sweep : batches,
                     .batches = batches,
                     .keep_attention = plan->sizes.keep_attention,
                     .keep_all = plan->sizes.keep_all,
                     .inputs_on_host = plan->sizes.inputs == INPUTS_ON_HOST,
                     .streamed = plan->store.streamed,
                     .streamed_from_file = plan->store.in_file,
                     .embedding_on_host = plan->store.embedding_on_host,
                     .head_on_host = plan->state.head_on_host,
                     .layers_on_host = plan->state.layers_on_host,
                     .gradients_parked = plan->state.shared_gradient && !plan->fused_update,
                     .fused_update = plan->fused_update,
                     .moment_bytes = r->settings->optim_bits == OPTIM_BITS_16 ? 2 : 4};
    estimate_step(&step, &frame->rates, &plan->estimate);
    double factor = 1 + ALLOWANCE * kinds_of_traffic(plan);
    plan->estimate.seconds *= factor;
    plan->estimate.tokens_per_second /= factor;
}

bool plan_complete(Plan *plan, const PlanFrame *frame, Error *error) {
    if (!measure(plan, frame, error)) return false;
    estimate(plan, frame);
    return true;
}

static bool is_better(const Walk *w, const Plan *plan) {
    return !w->search->found || plan->estimate.seconds < w->search->best.estimate.seconds;
}

static void take(Walk *w, const Plan *plan) {
    if (!is_better(w, plan)) return;
    w->search->best = *plan;
    w->search->found = true;
}

// How many layers can keep all but the MLP's intermediates in `room` bytes beside `all` that keep everything; -1: there
// is no room for these.
static int most_attention(const Walk *w, int all, int layers, uint64_t room) {
    uint64_t first = (uint64_t)all * w->all, rest = (uint64_t)(layers - all) * w->attention;
    if (all == layers) return first - w->all_saves <= room ? 0 : -1;
    if (first + rest - w->attention_saves <= room) return layers - all;
    if (first > room) return -1;
    uint64_t count = (room - first) / w->attention;
    return count < (uint64_t)(layers - all) ? (int)count : layers - all - 1;
}

// The placement, of which nothing is kept but inputs, fits: all ways to keep more that fit too.
static void keep_more(Walk *w) {
    const PlanFrame *f = w->frame;
    int L = f->request->config->layers;
    Plan most = w->plan;
    uint64_t room = w->plan.limit - plan_limited_bytes(&w->plan, f->request->backend);
    pass_keep_everywhere(&most.sizes, L, KEEP_ALL);
    estimate(&most, f);
    if (!is_better(w, &most)) return;
    for (int all = L; all >= 0; all--) {
        Plan plan = w->plan;
        int attention = most_attention(w, all, L, room);
        if (attention < 0) continue;
        plan.sizes.keep_all = all;
        plan.sizes.keep_attention = attention;
        estimate(&plan, f);
        take(w, &plan);
        if (all == L) return; // nothing keeps more
    }
}

static void keep_as_given(Walk *w, LayerKeep keep) {
    pass_keep_everywhere(&w->plan.sizes, w->frame->request->config->layers, keep);
    estimate(&w->plan, w->frame);
    take(w, &w->plan);
}

static LayerKeep given_keep(GradientCheckpointing given) {
    return given == CHECKPOINT_FALSE ? KEEP_ALL : given == CHECKPOINT_MLP ? KEEP_ATTENTION : KEEP_INPUT;
}

static bool host_fits(const Plan *p) {
    return p->pinned_bytes <= p->pinned_limit && p->pinned_bytes + p->host_bytes <= p->host_limit;
}

// What is too small where it is only that.
static void note_least(Walk *w, const Plan *p) {
    PlanSearch *s = w->search;
    const Backend *b = w->frame->request->backend;
    uint64_t limited = plan_limited_bytes(p, b), host = p->pinned_bytes + p->host_bytes;
    bool device = limited <= p->limit, memory = b->unified || host_fits(p), disk = p->disk_bytes <= p->disk_limit;
    if (memory && disk && limited < s->least_device) s->least_device = limited;
    if (device && disk && host < s->least_host) s->least_host = host;
    if (device && memory && p->disk_bytes < s->least_disk) s->least_disk = p->disk_bytes;
}

static bool look(Walk *w, Error *error) {
    const PlanRequest *r = w->frame->request;
    GradientCheckpointing given = w->plan.evaluate_only ? CHECKPOINT_TRUE : r->settings->gradient_checkpointing;
    LayerKeep keep = given == CHECKPOINT_AUTO ? KEEP_INPUT : given_keep(given);
    pass_keep_everywhere(&w->plan.sizes, r->config->layers, keep);
    if (!measure(&w->plan, w->frame, error)) return false;
    w->search->plans++;
    note_least(w, &w->plan);
    if (!plan_fits(&w->plan, r->backend)) return true;
    if (given == CHECKPOINT_AUTO && !w->any)
        keep_more(w);
    else
        keep_as_given(w, keep);
    return true;
}

// ---- all placements ----

static bool allows(MemoryPlace given, bool on_host) {
    return given == PLACE_AUTO || (given == PLACE_HOST) == on_host;
}

// The first plan that fits is wanted; or, with one memory for all, nothing is computed twice.
static bool is_unbeatable(const Walk *w) {
    const Plan *p = &w->search->best;
    if (!w->search->found || w->any) return w->search->found;
    return w->frame->request->backend->unified &&
           (p->evaluate_only || p->sizes.keep_all == w->frame->request->config->layers);
}

// Bytes that one layer costs for keeping more, in sweeps of this size.
static bool measure_keeps(Walk *w, Error *error) {
    uint64_t L = (uint64_t)w->frame->request->config->layers;
    const int ways[5][2] = {{0, 0}, {1, 0}, {0, 1}, {(int)L, 0}, {0, (int)L}}; // all but the MLP's, everything
    uint64_t bytes[5];
    for (int i = 0; i < 5; i++) {
        Plan plan = w->plan;
        plan.sizes.keep_attention = ways[i][0];
        plan.sizes.keep_all = ways[i][1];
        if (!measure(&plan, w->frame, error)) return false;
        bytes[i] = plan.device_bytes;
    }
    if (L == 1) { // what one layer keeps is what all keep
        w->attention = bytes[1] - bytes[0];
        w->all = bytes[2] - bytes[0];
        w->attention_saves = w->all_saves = 0;
        return true;
    }
    w->attention = bytes[1] - bytes[0];
    w->all = bytes[2] - bytes[0];
    w->attention_saves = bytes[0] + L * w->attention - bytes[3];
    w->all_saves = bytes[0] + L * w->all - bytes[4];
    return true;
}

// How many layers are streamed, from none to all. Two that are streamed need as much memory as two that are not.
static bool look_at_streams(Walk *w, Error *error) {
    const PlanRequest *r = w->frame->request;
    const TrainSettings *s = r->settings;
    int L = r->config->layers, given = s->layers_resident < 0 ? -1 : L - (int)s->layers_resident;
    for (int file = 0; file <= 1; file++) {
        if (file ? s->stream_from == STREAM_MEMORY || !r->scratch_dir : s->stream_from == STREAM_FILE) continue;
        if (!file && r->backend->unified && s->stream_from == STREAM_AUTO && given < 0) continue;
        for (int streamed = given > 0 ? given : 3; streamed <= (given >= 0 ? given : L); streamed++) {
            if (streamed == 0) continue;
            w->plan.store = (StorePlaces){.streamed = streamed,
                                          .in_file = file,
                                          .embedding_on_host = w->plan.store.embedding_on_host,
                                          .scratch_dir = r->scratch_dir};
            if (!look(w, error)) return false;
            if (w->any && w->search->found) return true;
        }
    }
    return true;
}

// A sweep's size matters where weights are streamed and where one gradient buffer serves a whole step.
static bool look_at_sweep(Walk *w, int64_t sweep, Error *error) {
    int64_t given = w->frame->request->settings->sweep_micro_batches,
            layers = w->frame->request->settings->layers_resident;
    bool shared = w->plan.state.shared_gradient, all = sweep == w->plan.batches;
    bool resident = layers < 0 || layers >= w->frame->request->config->layers;
    if (given > 0 && sweep != (given < w->plan.batches ? given : w->plan.batches)) return true;
    if (shared && !all) return true;
    w->plan.sizes.sweep = sweep;
    w->plan.store.streamed = 0;
    w->plan.store.in_file = false;
    if (!w->plan.evaluate_only && !measure_keeps(w, error)) return false;
    if (resident && (sweep == 1 || shared || given > 0) && !look(w, error)) return false;
    bool enough = is_unbeatable(w) || (w->search->found && w->frame->request->backend->unified);
    return enough || look_at_streams(w, error);
}

static bool look_at_sweeps(Walk *w, Error *error) {
    int64_t given = w->frame->request->settings->sweep_micro_batches, batches = w->plan.batches;
    if (given > 0) return look_at_sweep(w, given < batches ? given : batches, error);
    for (int64_t sweep = 1;; sweep = sweep > batches / 2 ? batches : 2 * sweep) {
        if (!look_at_sweep(w, sweep, error)) return false;
        if (sweep == batches || is_unbeatable(w)) return true;
    }
}

// The choices of where state, inputs and gradients lie, as bits; all of them on the device come first.
enum { E_ON_HOST = 1, GRADIENT_SHARED = 2, H_ON_HOST = 4, INPUTS_AWAY = 8, LAYERS_ON_HOST = 16, PLACEMENTS = 32 };

static bool is_legal(const PlanFrame *f, int bits) {
    const PlanRequest *r = f->request;
    const TrainSettings *s = r->settings;
    bool tied = r->config->tied, shared = bits & GRADIENT_SHARED;
    if (tied && bits & (E_ON_HOST | H_ON_HOST)) return false;
    if (f->common.evaluate_only && bits & ~E_ON_HOST) return false;
    if (!allows(s->embedding_state, bits & E_ON_HOST) && !tied) return false;
    if (f->common.evaluate_only) return !(r->backend->unified && bits && s->embedding_state == PLACE_AUTO);
    if (!allows(s->head_state, bits & H_ON_HOST) && !tied) return false;
    if (!allows(s->layer_state, bits & LAYERS_ON_HOST) || !allows(s->layer_inputs, bits & INPUTS_AWAY)) return false;
    if (!allows(s->gradients, shared) && s->max_grad_norm > 0) return false;
    // with one memory for all nothing is gained elsewhere, only by applying gradients at once
    int asked = (s->embedding_state == PLACE_HOST ? E_ON_HOST : 0) | (s->head_state == PLACE_HOST ? H_ON_HOST : 0) |
                (s->layer_state == PLACE_HOST ? LAYERS_ON_HOST : 0) |
                (s->layer_inputs == PLACE_HOST ? INPUTS_AWAY : 0) |
                (s->gradients == PLACE_HOST || s->max_grad_norm == 0 ? GRADIENT_SHARED : 0);
    return !r->backend->unified || !(bits & ~asked);
}

static bool look_at_placements(Walk *w, Error *error) {
    const PlanFrame *f = w->frame;
    bool training = !f->common.evaluate_only;
    int first = f->request->settings->max_grad_norm == 0 ? GRADIENT_SHARED : 0; // costs no time then
    for (int i = 0; i < PLACEMENTS; i++) {
        int bits = w->any ? PLACEMENTS - 1 - i : i ^ first; // what takes least first
        if (!is_legal(f, bits)) continue;
        w->plan.sizes.inputs = !training ? INPUTS_DROPPED : bits & INPUTS_AWAY ? INPUTS_ON_HOST : INPUTS_ON_DEVICE;
        w->plan.store.embedding_on_host = bits & E_ON_HOST;
        w->plan.state = (StatePlaces){.head_on_host = bits & H_ON_HOST,
                                      .layers_on_host = bits & LAYERS_ON_HOST,
                                      .shared_gradient = bits & GRADIENT_SHARED};
        w->plan.fused_update = bits & GRADIENT_SHARED && f->request->settings->max_grad_norm == 0;
        if (!look_at_sweeps(w, error)) return false;
        if (is_unbeatable(w)) return true;
    }
    return true;
}

// Micro-batches of a step that no cut of its sequences exceeds: each but the last has no room for one more sequence.
static int64_t batches_of(const PlanRequest *r, int64_t tokens) {
    int64_t batch = plan_largest_batch(r), sequences = batch / r->cutoff_len, each = tokens / r->cutoff_len;
    return (sequences + each - 1) / each;
}

bool plan_search(PlanSearch *search, const PlanFrame *frame, bool any, Error *error) {
    const PlanRequest *r = frame->request;
    Cut cuts[CUTS_MAX];
    int count = list_cuts(r, cuts);
    int64_t batch = plan_largest_batch(r);
    *search = (PlanSearch){.least_device = UINT64_MAX, .least_host = UINT64_MAX, .least_disk = UINT64_MAX};
    for (int i = any ? count - 1 : 0; i < count && !search->found; i++) {
        Walk walk = {.search = search, .frame = frame, .any = any, .plan = frame->common};
        int64_t rows = batch > cuts[i].tokens ? batch : cuts[i].tokens;
        walk.plan.batches = frame->common.evaluate_only ? 1 : batches_of(r, cuts[i].tokens);
        walk.plan.sizes = (PassSizes){.tokens = cuts[i].tokens,
                                      .positions = r->cutoff_len,
                                      .chunk = cuts[i].chunk,
                                      .rows = rows < r->config->vocabulary ? rows : r->config->vocabulary};
        if (!look_at_placements(&walk, error)) return false;
    }
    return !search->found || plan_complete(&search->best, frame, error);
}

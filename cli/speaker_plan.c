// speaker_plan.c - see speaker_plan.h.
#include "cli/speaker_plan.h"
#include "base/log.h"
#include "cli/setup.h"
#include "kernels/usable.h"

#define FEWEST_STREAMED 3  // layers: two buffers hold two of them
#define SHORTEST        64 // tokens; a conversation that has only room for fewer is no advice

// ---- memory: one path for measuring and for allocating

static bool take(SpeakerMemory *memory, const SpeakerPlan *plan, const SpeakerRequest *request, Error *error) {
    BlockLayout layout;
    return block_layout(&layout, request->config, error) &&
           store_create(&memory->store, request->backend, &layout, &plan->places, &memory->device, &memory->pinned,
                        &memory->host, error) &&
           decoder_create(&memory->decoder, request->backend, request->config, &memory->store, request->capacity,
                          &memory->device, &memory->pinned, error);
}

static bool measure(SpeakerPlan *plan, const SpeakerRequest *request, Error *error) {
    SpeakerMemory memory = {0};
    arena_measure(&memory.device, MEMORY_DEVICE);
    arena_measure(&memory.pinned, MEMORY_PINNED);
    arena_measure(&memory.host, MEMORY_HOST);
    bool good = take(&memory, plan, request, error);
    plan->device_bytes = memory.device.peak;
    plan->pinned_bytes = memory.pinned.peak;
    plan->host_bytes = memory.host.peak;
    plan->disk_bytes = memory.store.file_bytes;
    int streamed = plan->places.streamed, moved = streamed == 3 ? 2 : streamed; // of three one is still in its buffer
    plan->streamed_bytes = (uint64_t)moved * (uint64_t)memory.store.layout.layer.elements * sizeof(bf16);
    speaker_memory_free(&memory);
    return good;
}

// pinned_refused: the pinned arena could not be had.
static bool allocate(SpeakerMemory *memory, const SpeakerPlan *plan, const SpeakerRequest *request,
                     bool *pinned_refused, Error *error) {
    Backend *b = request->backend;
    *memory = (SpeakerMemory){0};
    *pinned_refused = false;
    if (!arena_create(&memory->device, b, MEMORY_DEVICE, plan->device_bytes, "weights and cache", error)) return false;
    *pinned_refused = !arena_create(&memory->pinned, b, MEMORY_PINNED, plan->pinned_bytes,
                                    "tokens, logits, streamed layers and staging of weights", error);
    return !*pinned_refused && arena_create(&memory->host, b, MEMORY_HOST, plan->host_bytes, "the embedding", error) &&
           take(memory, plan, request, error) && store_open(&memory->store, error) &&
           decoder_prepare(&memory->decoder, error);
}

void speaker_memory_free(SpeakerMemory *memory) {
    decoder_free(&memory->decoder);
    store_free(&memory->store);
    arena_free(&memory->host);
    arena_free(&memory->pinned);
    arena_free(&memory->device);
    *memory = (SpeakerMemory){0};
}

// ---- choosing

// Bytes of the memory that `limit` is about.
static uint64_t limited_bytes(const SpeakerPlan *plan, const Backend *b) {
    return b->unified ? plan->device_bytes + plan->pinned_bytes + plan->host_bytes : plan->device_bytes;
}

static uint64_t beside_card(const SpeakerPlan *plan) {
    return plan->pinned_bytes + plan->host_bytes;
}

static bool fits(const SpeakerPlan *plan, const Backend *b) {
    return limited_bytes(plan, b) <= plan->limit && (b->unified || beside_card(plan) <= plan->host_limit);
}

static bool try_places(SpeakerPlan *plan, const SpeakerRequest *request, StorePlaces places, bool *good, Error *error) {
    plan->places = places;
    plan->places.scratch_dir = request->scratch_dir;
    if (!measure(plan, request, error)) return false;
    *good = fits(plan, request->backend);
    return true;
}

// Tries one after the other what is slower and takes less of the device; the last one, when nothing fits, least of all.
static bool choose(SpeakerPlan *plan, const SpeakerRequest *request, bool *good, Error *error) {
    bool unified = request->backend->unified, away = !unified && !request->config->tied;
    if (!try_places(plan, request, (StorePlaces){0}, good, error)) return false;
    if (!*good && away && !try_places(plan, request, (StorePlaces){.embedding_on_host = true}, good, error))
        return false;
    for (int streamed = FEWEST_STREAMED; !*good && streamed <= request->config->layers; streamed++) {
        StorePlaces places = {.streamed = streamed, .embedding_on_host = away};
        if (!unified && !request->from_file && !try_places(plan, request, places, good, error)) return false;
        places.in_file = true;
        if (!*good && !try_places(plan, request, places, good, error)) return false;
    }
    return true;
}

static void find_limits(SpeakerPlan *plan, const SpeakerRequest *request) {
    Backend *b = request->backend;
    uint64_t limit = request->memory_limit, own = b->unified ? 0 : b->workspace_bytes;
    *plan = (SpeakerPlan){.host_limit = usable_memory(b, MEMORY_PINNED)};
    plan->limit = limit == 0 ? usable_memory(b, MEMORY_DEVICE) : limit > own ? limit - own : 0;
}

// The longest conversation, of halves of the one asked for, that fits; 0: none.
static int64_t find_capacity(const SpeakerRequest *request) {
    SpeakerRequest shorter = *request;
    for (shorter.capacity /= 2; shorter.capacity >= SHORTEST; shorter.capacity /= 2) {
        SpeakerPlan plan;
        Error ignored = {0};
        bool good = false;
        find_limits(&plan, &shorter);
        if (choose(&plan, &shorter, &good, &ignored) && good) return shorter.capacity;
    }
    return 0;
}

// The plan is the one that takes least of all.
static bool refuse(const SpeakerPlan *plan, const SpeakerRequest *request, Error *error) {
    const Backend *b = request->backend;
    bool limited = limited_bytes(plan, b) > plan->limit;
    uint64_t needed = limited ? limited_bytes(plan, b) : beside_card(plan);
    uint64_t can = limited ? plan->limit : plan->host_limit;
    char needs[16], usable[16], missing[16];
    error_set(error, "the model needs at least %s of %s to speak, %s can be used: %s are missing",
              format_bytes(needs, needed),
              b->unified ? "memory"
              : limited  ? "the card's memory"
                         : "host memory",
              format_bytes(usable, can), format_bytes(missing, needed - can));
    const char *more = limited && request->memory_limit ? "raise vram" : "close other programs";
    int64_t capacity = find_capacity(request);
    if (capacity)
        return error_hint(error, "shorter conversations would fit: cutoff_len=%lld (-c); or %s", (long long)capacity,
                          more);
    return error_hint(error, "%s, or take a smaller model: no smaller cutoff_len (-c, now %lld) is enough", more,
                      (long long)request->capacity);
}

bool speaker_plan_make(SpeakerPlan *plan, const SpeakerRequest *request, Error *error) {
    bool good = false;
    find_limits(plan, request);
    return choose(plan, request, &good, error) && (good || refuse(plan, request, error));
}

// ---- both

bool speaker_memory_create(SpeakerMemory *memory, SpeakerPlan *plan, const SpeakerRequest *request, Error *error) {
    SpeakerRequest again = *request;
    SpeakerPlan first;
    Error ignored; // what was refused first says more
    bool pinned_refused;
    char asked[16];
    again.from_file = true;
    *memory = (SpeakerMemory){0};
    if (!speaker_plan_make(&first, request, error)) return false;
    *plan = first;
    if (allocate(memory, plan, request, &pinned_refused, error)) return true;
    if (!pinned_refused || first.places.streamed == 0 || first.places.in_file) return false;
    speaker_memory_free(memory);
    if (!speaker_plan_make(plan, &again, &ignored) || !allocate(memory, plan, &again, &pinned_refused, &ignored))
        return false;
    log_warning("%s of pinned memory cannot be had, layers are read from a scratch file in %s instead%s",
                format_bytes(asked, first.pinned_bytes), request->scratch_dir, setup_pinned_advice());
    return true;
}

void speaker_plan_tell(const SpeakerPlan *plan, const SpeakerRequest *request) {
    const StorePlaces *places = &plan->places;
    char moved[16];
    if (places->streamed == 0) return;
    log_note("%d of %d layers are streamed from %s%s: each token moves %s", places->streamed, request->config->layers,
             places->in_file ? "a scratch file in " : "host memory", places->in_file ? places->scratch_dir : "",
             format_bytes(moved, plan->streamed_bytes));
}

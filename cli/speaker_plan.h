// speaker_plan.h - where the weights of a model that speaks lie, and all the memory that it takes.
//
// A model speaks wherever one layer at a time and the cache of keys and values fit. As much stays on the device as
// fits; what does not lies, in this order of preference,
//
//   E           on the host, which looks up the few rows that a text needs (not of a tied model, whose head needs all)
//   layers      in pinned memory, from where each is streamed once for every token (once for all tokens of a prompt)
//   layers      the same in a scratch file, where host memory cannot hold them; always where the device is the host
//
// One or two layers are never streamed: their buffers would take as much as they do.
#pragma once
#include "model/decode.h"

typedef struct SpeakerRequest {
    const ModelConfig *config;
    Backend *backend;
    int64_t capacity;        // tokens of a conversation at most
    uint64_t memory_limit;   // bytes to take at most, with a card of the card's; 0: what is free
    const char *scratch_dir; // folder of the scratch file
    bool from_file;          // streamed layers are to lie there
} SpeakerRequest;

typedef struct SpeakerPlan {
    StorePlaces places;      // scratch_dir is borrowed from the request
    uint64_t device_bytes;   // of the device arena
    uint64_t pinned_bytes;   // of the pinned arena
    uint64_t host_bytes;     // of the host arena
    uint64_t disk_bytes;     // of the scratch file
    uint64_t streamed_bytes; // weights that come to the device for a token
    uint64_t limit;          // bytes that the device arena can have; where the device is the host all arenas together
    uint64_t host_limit;     // bytes that pinned and host arena can have beside a card
} SpeakerPlan;

// Chooses. Fails when nothing fits: the error says how much is missing, its hint what would fit.
bool speaker_plan_make(SpeakerPlan *plan, const SpeakerRequest *request, Error *error);
// Tells the person when layers are streamed: how many, from where, and how much each token moves.
void speaker_plan_tell(const SpeakerPlan *plan, const SpeakerRequest *request);

// A model's memory, with weights still to be filled in.
typedef struct SpeakerMemory {
    Arena device; // weights, cache and work buffers
    Arena pinned; // tokens, logits, streamed layers, and the staging of weights where the device is not the host
    Arena host;   // E where it is on the host
    BlockStore store;
    Decoder decoder;
} SpeakerMemory;

// Chooses a plan and takes what it says. Where so much pinned memory cannot be had, layers are streamed from the
// scratch file instead, and a warning says so. End with speaker_memory_free, also after a failure.
bool speaker_memory_create(SpeakerMemory *memory, SpeakerPlan *plan, const SpeakerRequest *request, Error *error);
void speaker_memory_free(SpeakerMemory *memory); // also of a zeroed one

// settings.h - every choice of a training run, as the option table (cli/options.c) fills it in.
//
// Names, meanings and, where nothing better is known, defaults are LLaMA-Factory's and the Hugging Face Trainer's; the
// table holds the defaults and the ranges, so that values here are in range. "Step" is always an optimizer step.
#pragma once
#include <stdbool.h>
#include <stdint.h>

typedef enum { METHOD_LISA, METHOD_FULL } FinetuningType;

// How LISA draws its layers: each draw for itself, or along random permutations so that every layer gets its turn.
typedef enum { SAMPLING_UNIFORM, SAMPLING_CYCLE } LisaSampling;

// The learning rate after warm-up; "constant" alone has no warm-up, as in the Trainer.
typedef enum { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT, SCHEDULE_CONSTANT_WITH_WARMUP } ScheduleType;

// Bits of an element of AdamW's m and v: fp32, or bf16 with stochastic rounding, which takes half the memory.
typedef enum { OPTIM_BITS_32, OPTIM_BITS_16 } OptimBits;

// What is kept of a layer's forward pass for its backward pass; the rest is computed again.
typedef enum {
    CHECKPOINT_AUTO, // the plan keeps as much as fits
    CHECKPOINT_TRUE, // the layer's input only
    CHECKPOINT_MLP,  // all but the MLP's intermediates
    CHECKPOINT_FALSE // all that the backward pass needs
} GradientCheckpointing;

// Where something lies.
typedef enum { PLACE_AUTO, PLACE_DEVICE, PLACE_HOST } MemoryPlace;
typedef enum { STREAM_AUTO, STREAM_MEMORY, STREAM_FILE } StreamSource;

// When something recurring is done.
typedef enum { WHEN_NO, WHEN_STEPS, WHEN_EPOCH } Strategy;

typedef struct TrainSettings {
    // ---- where the results go. Strings belong to the struct Options around this one.
    char *output_dir;             // NULL when not given
    bool overwrite_output_dir;    // remove what an earlier run of lisa wrote there and start anew
    char *resume_from_checkpoint; // a checkpoint-<step> directory; NULL: the newest one in output_dir, if any

    // ---- who is trained
    FinetuningType finetuning_type;
    int64_t lisa_activated_layers; // gamma, decoder layers per draw; >= 0, at most the model's layers (plan checks)
    int64_t lisa_interval_steps;   // K, steps between draws; >= 1
    LisaSampling lisa_sampling;
    bool lisa_keep_low_bits; // park the low 16 bits of layers that leave instead of rounding them away

    // ---- how much
    double num_train_epochs;             // > 0, may be a fraction
    int64_t max_steps;                   // > 0 wins over num_train_epochs; -1: not given
    int64_t per_device_train_batch_size; // examples (packing: sequences of cutoff_len tokens); >= 1
    int64_t gradient_accumulation_steps; // one step takes this times per_device_train_batch_size examples; >= 1
    uint64_t seed;                       // of the draws, the order of the examples and the held-out split

    // ---- the optimizer
    double learning_rate; // the peak; >= 0
    ScheduleType lr_scheduler_type;
    double warmup_ratio;  // share of all steps, in [0, 1]; used when warmup_steps is -1
    int64_t warmup_steps; // -1: not given
    double weight_decay;  // decoupled, matrices only; >= 0
    double adam_beta1;    // in [0, 1)
    double adam_beta2;    // in [0, 1)
    double adam_epsilon;  // > 0
    double max_grad_norm; // clip the norm over all active gradients to this; 0: no clipping
    OptimBits optim_bits; // 16 only where it was asked for: the plan never chooses it

    // ---- memory: what is not given the plan chooses
    GradientCheckpointing gradient_checkpointing;
    int64_t micro_batch_tokens;  // tokens that go through a block at once, a multiple of 128; 0: not given
    int64_t sweep_micro_batches; // micro-batches that go through a block before the next block; 0: not given
    int64_t layers_resident;     // decoder layers whose weights stay on the device; -1: not given
    StreamSource stream_from;    // where the weights of the others are
    MemoryPlace layer_inputs;    // where layer inputs wait for the backward pass
    MemoryPlace embedding_state; // E's weights and AdamW state
    MemoryPlace head_state;      // H's AdamW state
    MemoryPlace layer_state;     // the active layers'
    MemoryPlace gradients;       // of H and layers until the norm of all is known

    // ---- reporting, evaluating, saving
    int64_t logging_steps; // a line of metrics.jsonl every so many steps; >= 1
    Strategy
        eval_strategy;  // WHEN_STEPS as soon as eval_steps is given alone; without held-out data nothing is evaluated
    int64_t eval_steps; // >= 1 with WHEN_STEPS, else 0
    Strategy save_strategy;   // WHEN_STEPS as soon as save_steps is given alone; the end of the run is always saved
    int64_t save_steps;       // >= 1 with WHEN_STEPS, else 0
    double save_minutes;      // also save when the last save is this long ago; 0: never because of time
    int64_t save_total_limit; // how many checkpoints are kept; >= 1
    uint64_t max_shard_size;  // bytes of the largest safetensors file; 0: one file
} TrainSettings;

// bench.h - what `lisa bench` measures, in the order in which it does: steps, memory, then what the processor can do.
#pragma once
#include "cli/options.h"
#include "cli/setup.h"
#include "train/trainer.h"

#define BENCH_STEPS_MOST 50

// One optimizer step, by device events.
typedef struct StepTimes {
    int64_t steps;              // that were timed, after some to warm up
    double median, least, most; // seconds, from one step's start to the next one's
    double phases[PHASE_COUNT]; // seconds of the median step; they add up to it
    double first_loss, last_loss;
    double losses[BENCH_STEPS_MOST]; // [steps] with max_steps
    uint64_t memory_before;          // in use before the trainer took its arenas; see Backend.memory_in_use
    uint64_t memory;                 // and after the last step
    uint64_t arenas;                 // bytes that the trainer took of its arenas, as far as memory counts them
    uint64_t updated;                // bytes that zeroing, norm and AdamW read and write in a step
} StepTimes;

// What the processor does with the same work outside of a step, and with work that suits it.
typedef struct BenchRates {
    double needed, executed;  // FLOP of a step, see train/flops.h
    double gemm_needed;       // of them in matrix multiplications
    double library_seconds;   // the library's, for all of these multiplications
    double large_size;        // n of a large n x n x n multiplication
    double large_flops;       // FLOP per second in it
    double copied;            // bytes per second read and written by a copy within the device
    double attention_forward; // seconds for one layer and the first micro-batch
    double attention_backward;
    double attention_needed; // FLOP of both
} BenchRates;

typedef struct Bench {
    Options options; // a shallow copy, with what a measurement needs set
    Setup setup;     // only where the data is tokenised
    ModelSource *source;
    ModelConfig config;
    Backend *backend;
    TrainingData data;
    Dataset made; // without a data set
    Plan plan;
    Trainer trainer;
    MicroBatch *batches; // [count]: the optimizer batch
    int64_t count;
    PhaseClock clock;
    StepTimes times;
    BenchRates rates;
} Bench;

// bench_steps.c: the optimizer batch, and training on it. Fills batches; times.
bool bench_fill(Bench *bench, Error *error);
bool bench_steps(Bench *bench, Error *error);
// bench_rates.c: fills rates; allocates memory of its own, so the trainer should be gone.
bool bench_rates(Bench *bench, Error *error);
// bench_report.c: prints all of it.
bool bench_report(const Bench *bench, Error *error);

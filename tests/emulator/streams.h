// streams.h - inside the emulator: queues of work, and in which order it is done.
#pragma once
#include "cuda_runtime_api.h"
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace emulator {

// How many entries of each stream are certainly done: what a wait teaches. Indexed by the stream's number.
struct Clock {
    std::vector<uint64_t> done;

    uint64_t of(int stream) const;
    void set(int stream, uint64_t entries);
    void learn(const Clock &other);
};

// One recording of an event.
struct Record {
    int stream;
    uint64_t sequence; // of the entry that records
    Clock clock;       // what is done when it is
    bool done = false;
    std::chrono::steady_clock::time_point time;
};

// An entry of a queue. Work that takes time on a card, a copy, has two parts, and other streams' work may come between:
// begin spoils what finish will write.
struct Work {
    const char *name = "";
    std::function<void()> begin, finish; // either may be empty
    std::shared_ptr<Record> awaited;     // not before this was recorded
    std::shared_ptr<Record> recorded;    // happens when the entry is done
    cudaError_t failure = cudaSuccess;   // instead of finish: the card fails with this

    uint64_t sequence = 0; // from 1, in its stream
    Clock clock;           // what is certainly done before it
    bool begun = false;
};

} // namespace emulator

struct CUstream_st {
    int number;
    uint64_t issued = 0, done = 0; // entries
    emulator::Clock clock;         // of the entry issued last, itself included
    std::deque<emulator::Work> work;
    bool closed = false; // destroyed by the host, may still have work
};

struct CUevent_st {
    std::shared_ptr<emulator::Record> latest; // null before it was recorded
    bool timed;
};

namespace emulator {

// Adds work to a stream (null: the null stream) and does what the order in force wants done now.
// An unknown stream is a fault, and the call's result.
cudaError_t issue(cudaStream_t stream, Work work);

// The host waits.
cudaError_t wait_for_stream(cudaStream_t stream);
void wait_for_all();

} // namespace emulator

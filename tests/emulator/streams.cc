// streams.cc - see streams.h; and the stream and event functions of the runtime.
#include "streams.h"
#include "block.h"
#include "card.h"
#include "checker.h"
#include "emulator.h"
#include "library.h"
#include "memory.h"
#include "report.h"
#include <algorithm>
#include <set>

namespace emulator {

static EmulatorQueueOrder order;
static uint64_t random_state = 1;
static uint64_t pace = 1, slowness; // of the random order: how far the card keeps up with the host, 1 to 4 of 5; how
                                    // often a copy under way is not done yet, 0 to 3 of 4
static std::vector<std::unique_ptr<CUstream_st>> streams; // [0]: the null stream; null once gone
static std::set<cudaEvent_t> events;
static Clock host_clock;              // what the host has waited for
static std::vector<WorkSpan> history; // work done, as long as something may come that is not ordered after it
static long event_waits, skipped_wait;

uint64_t Clock::of(int stream) const {
    size_t at = static_cast<size_t>(stream);
    return at < done.size() ? done[at] : 0;
}

void Clock::set(int stream, uint64_t entries) {
    size_t at = static_cast<size_t>(stream);
    if (at >= done.size()) done.resize(at + 1);
    done[at] = std::max(done[at], entries);
}

void Clock::learn(const Clock &other) {
    for (size_t i = 0; i < other.done.size(); i++) set(static_cast<int>(i), other.done[i]);
}

// ---- streams that exist --------------------------------------------------------------------------------------------

static CUstream_st *new_stream() {
    auto stream = std::make_unique<CUstream_st>();
    stream->number = static_cast<int>(streams.size());
    streams.push_back(std::move(stream));
    return streams.back().get();
}

// null, with a report, when it is none
static CUstream_st *find_stream(cudaStream_t handle) {
    if (streams.empty()) new_stream();
    if (!handle) return streams[0].get();
    for (auto &stream : streams)
        if (stream.get() == handle && !stream->closed) return handle;
    report("handle", "a stream that does not exist, or no longer");
    return nullptr;
}

static void drop_if_closed(int number) {
    auto &stream = streams[static_cast<size_t>(number)];
    if (stream->closed && stream->work.empty()) stream.reset();
}

// ---- doing work ----------------------------------------------------------------------------------------------------

static std::vector<WorkSpan> unordered_with(const Clock &clock, int stream) {
    std::vector<WorkSpan> spans;
    for (const WorkSpan &span : history)
        if (span.stream != stream && span.sequence > clock.of(span.stream)) spans.push_back(span);
    return spans;
}

static void perform(const CUstream_st &stream, const Work &work, const std::function<void()> &part) {
    if (!part || sticky_error() != cudaSuccess) return;
    OpenDevice open;
    uint32_t first = checker_begin_work(unordered_with(work.clock, stream.number));
    report_work(work.name);
    part();
    report_work(nullptr);
    if (checker_on()) history.push_back({stream.number, work.sequence, first, checker_phase(), work.name});
}

static bool can_go_on(const CUstream_st *stream) {
    if (!stream || stream->work.empty()) return false;
    const Work &work = stream->work.front();
    return !work.awaited || work.awaited->done;
}

// Does the first part, or else the second, of the entry at the head, which can go on.
static void step(CUstream_st &stream) {
    Work &work = stream.work.front();
    if (work.begin && !work.begun) {
        work.begun = true;
        perform(stream, work, work.begin);
        return;
    }
    if (work.failure != cudaSuccess) set_sticky_error(work.failure);
    perform(stream, work, work.finish);
    if (work.recorded) {
        work.recorded->done = true;
        work.recorded->time = std::chrono::steady_clock::now();
    }
    stream.done = work.sequence;
    stream.work.pop_front();
}

static bool step_random() {
    std::vector<CUstream_st *> able;
    for (auto &stream : streams)
        if (can_go_on(stream.get())) able.push_back(stream.get());
    if (able.empty()) return false;
    CUstream_st *stream = able[next_random(random_state) % able.size()];
    if (stream->work.front().begun && next_random(random_state) % 4 < slowness) return true;
    int number = stream->number;
    step(*stream);
    drop_if_closed(number);
    return true;
}

static void do_everything() {
    bool more = true;
    while (more) {
        more = false;
        for (size_t i = 0; i < streams.size(); i++) {
            while (can_go_on(streams[i].get())) {
                step(*streams[i]);
                more = true;
            }
            if (streams[i]) drop_if_closed(static_cast<int>(i));
        }
    }
}

// The latest order that is still bad for those who do not wait: copies begin as soon as they can, and end last.
static void begin_copies() {
    for (size_t i = 0; i < streams.size(); i++) {
        while (can_go_on(streams[i].get())) {
            const Work &work = streams[i]->work.front();
            bool due = work.begin ? !work.begun : !work.finish;
            if (!due) break;
            step(*streams[i]);
        }
        if (streams[i]) drop_if_closed(static_cast<int>(i));
    }
}

static void after_issue() {
    if (order == QUEUES_EARLY)
        do_everything();
    else if (order == QUEUES_LATE)
        begin_copies();
    else
        while (next_random(random_state) % 5 < pace && step_random()) {
        }
}

// Until that entry is done: in the late order, with nothing done that it does not depend on.
static void work_until(int number, uint64_t sequence) {
    while (true) {
        CUstream_st *stream = streams[static_cast<size_t>(number)].get();
        if (!stream || stream->done >= sequence) return;
        if (order == QUEUES_RANDOM) {
            step_random();
        } else if (can_go_on(stream)) {
            step(*stream);
            drop_if_closed(number);
        } else {
            std::shared_ptr<Record> awaited = stream->work.front().awaited;
            work_until(awaited->stream, awaited->sequence);
        }
        if (order == QUEUES_LATE) begin_copies();
    }
}

// Forgets work that everything still queued, and everything to come, is ordered after.
static void forget_history() {
    auto settled = [](const WorkSpan &span) {
        if (span.sequence > host_clock.of(span.stream)) return false;
        for (const auto &stream : streams)
            if (stream)
                for (const Work &work : stream->work)
                    if (stream->number != span.stream && span.sequence > work.clock.of(span.stream)) return false;
        return true;
    };
    history.erase(std::remove_if(history.begin(), history.end(), settled), history.end());
}

cudaError_t issue(cudaStream_t handle, Work work) {
    CUstream_st *stream = find_stream(handle);
    if (!stream) return result(cudaErrorInvalidResourceHandle);
    stream->clock.learn(host_clock);
    if (work.awaited) stream->clock.learn(work.awaited->clock);
    work.sequence = ++stream->issued;
    work.clock = stream->clock;
    stream->clock.set(stream->number, work.sequence);
    if (work.recorded) {
        work.recorded->stream = stream->number;
        work.recorded->sequence = work.sequence;
        work.recorded->clock = stream->clock;
    }
    stream->work.push_back(std::move(work));
    after_issue();
    return result(cudaSuccess);
}

cudaError_t wait_for_stream(cudaStream_t handle) {
    CUstream_st *stream = find_stream(handle);
    if (!stream) return result(cudaErrorInvalidResourceHandle);
    work_until(stream->number, stream->issued);
    host_clock.learn(stream->clock);
    forget_history();
    return result(cudaSuccess);
}

void wait_for_all() {
    for (size_t i = 0; i < streams.size(); i++) {
        if (!streams[i]) continue;
        Clock clock = streams[i]->clock;
        work_until(static_cast<int>(i), streams[i]->issued);
        host_clock.learn(clock);
    }
    forget_history();
}

// ---- work of emulated libraries, library.h -------------------------------------------------------------------------

cudaError_t enqueue(cudaStream_t stream, const char *name, std::function<void()> function) {
    Lock lock;
    Work work;
    work.name = name;
    work.failure = failure_of_launch();
    work.finish = std::move(function);
    return issue(stream, std::move(work));
}

void library_reads(const void *memory, size_t bytes) {
    check_range(memory, bytes, ACCESS_READ);
}

void library_writes(void *memory, size_t bytes) {
    check_range(memory, bytes, ACCESS_WRITE);
}

static CUevent_st *find_event(cudaEvent_t event) {
    if (events.count(event)) return event;
    report("handle", "an event that does not exist, or no longer");
    return nullptr;
}

} // namespace emulator

using namespace emulator;

// ---- control -------------------------------------------------------------------------------------------------------

void emulator_queue_order(EmulatorQueueOrder wanted, uint64_t seed) {
    Lock lock;
    order = wanted;
    random_state = seed * 0x9e3779b97f4a7c15ull | 1;
    pace = 1 + seed % 4;
    slowness = seed / 4 % 4;
}

long emulator_event_waits(void) {
    return event_waits;
}

void emulator_skip_event_wait(long n) {
    Lock lock;
    skipped_wait = n;
}

// ---- runtime -------------------------------------------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
    Lock lock;
    if (flags != cudaStreamNonBlocking) {
        report("handle", "a stream that waits for the null stream: only cudaStreamNonBlocking is emulated");
        return result(cudaErrorInvalidValue);
    }
    if (streams.empty()) new_stream();
    *stream = new_stream();
    return result(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t handle) {
    Lock lock;
    CUstream_st *stream = handle ? find_stream(handle) : nullptr;
    if (!stream) return result(cudaErrorInvalidResourceHandle);
    stream->closed = true; // its work goes on
    drop_if_closed(stream->number);
    return result(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    Lock lock;
    return wait_for_stream(stream);
}

// One entry's worth of time passes with every question.
cudaError_t cudaStreamQuery(cudaStream_t handle) {
    Lock lock;
    CUstream_st *stream = find_stream(handle);
    if (!stream) return result(cudaErrorInvalidResourceHandle);
    if (stream->done == stream->issued) return wait_for_stream(handle);
    work_until(stream->number, stream->done + 1);
    return result(cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t handle, unsigned) {
    Lock lock;
    CUevent_st *event = find_event(handle);
    if (!event) return result(cudaErrorInvalidResourceHandle);
    event_waits++;
    if (skipped_wait > 0 && --skipped_wait == 0) return result(cudaSuccess);
    if (!event->latest) return result(cudaSuccess); // as in CUDA: never recorded, nothing to wait for
    Work work;
    work.name = "a wait for an event";
    work.awaited = event->latest;
    return issue(stream, std::move(work));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
    Lock lock;
    *event = new CUevent_st{nullptr, (flags & cudaEventDisableTiming) == 0};
    events.insert(*event);
    return result(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle) {
    Lock lock;
    if (!find_event(handle)) return result(cudaErrorInvalidResourceHandle);
    events.erase(handle);
    delete handle; // waits for it keep what they wait for
    return result(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream) {
    Lock lock;
    CUevent_st *event = find_event(handle);
    if (!event) return result(cudaErrorInvalidResourceHandle);
    Work work;
    work.name = "the record of an event";
    work.recorded = event->latest = std::make_shared<Record>();
    return issue(stream, std::move(work));
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
    Lock lock;
    CUevent_st *event = find_event(handle);
    if (!event) return result(cudaErrorInvalidResourceHandle);
    std::shared_ptr<Record> record = event->latest;
    if (!record) return result(cudaSuccess);
    work_until(record->stream, record->sequence);
    host_clock.learn(record->clock);
    forget_history();
    return result(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t handle) {
    Lock lock;
    CUevent_st *event = find_event(handle);
    if (!event) return result(cudaErrorInvalidResourceHandle);
    std::shared_ptr<Record> record = event->latest;
    if (!record || record->done) return cudaEventSynchronize(handle);
    CUstream_st *stream = streams[static_cast<size_t>(record->stream)].get();
    if (stream) work_until(record->stream, stream->done + 1);
    return result(cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
    Lock lock;
    CUevent_st *first = find_event(start), *second = find_event(end);
    bool usable = first && second && first->timed && second->timed && first->latest && second->latest;
    if (!usable) return result(cudaErrorInvalidResourceHandle);
    if (!first->latest->done || !second->latest->done) return result(cudaErrorNotReady);
    *milliseconds = std::chrono::duration<float, std::milli>(second->latest->time - first->latest->time).count();
    return result(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void) {
    Lock lock;
    wait_for_all();
    return result(cudaSuccess);
}

// checker.cc - the cells behind device and shared memory, and the rules that an access must keep; see checker.h.
#include "checker.h"
#include "block.h"
#include "emulator.h"
#include "memory.h"
#include "report.h"
#include "shared.h"
#include <set>
#include <sys/mman.h>

namespace emulator {

struct Cell {
    uint32_t write_phase, read_phase;           // of the last access; 0: none
    uint16_t write_warp_phase, read_warp_phase; // warp barriers that its warp had passed in the block
    uint16_t writer : 10, allocated : 1, written : 1, atomic : 1;
    // Readers in read_phase: one thread, or several lanes of its warp, or several warps; several blocks of the launch.
    uint16_t reader : 10, read_by_lanes : 1, read_by_warps : 1, read_by_blocks : 1;
};
static_assert(sizeof(Cell) == 16, "a cell is 16 bytes for 2");
enum { CELL_BYTES = 2 };

static bool on;
static Cell *device_cells, *shared_cells;
static uint32_t phase, work_phase, block_phase; // now; when this launch or copy, and this block, began
static std::vector<WorkSpan> unordered_work;
static uint32_t first_unordered = UINT32_MAX; // lowest phase of them

bool checker_on() {
    return on;
}

void checker_switch_on() {
    on = true;
}

uint32_t checker_phase() {
    return phase;
}

uint32_t checker_begin_work(std::vector<WorkSpan> unordered) {
    unordered_work = std::move(unordered);
    first_unordered = UINT32_MAX;
    for (const WorkSpan &span : unordered_work)
        if (span.first < first_unordered) first_unordered = span.first;
    return work_phase = block_phase = ++phase;
}

void checker_new_block() {
    block_phase = ++phase;
}

void checker_barrier() {
    phase++;
}

// ---- cells ---------------------------------------------------------------------------------------------------------

static Cell *reserve_cells(size_t bytes) {
    void *memory = mmap(nullptr, bytes / CELL_BYTES * sizeof(Cell), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("emulator: no address space for the checker");
        exit(1);
    }
    return static_cast<Cell *>(memory);
}

static Cell *cells_of(const void *memory, bool shared) {
    const char *base = shared ? shared_memory.memory : device_memory.base;
    return (shared ? shared_cells : device_cells) + (static_cast<const char *>(memory) - base) / CELL_BYTES;
}

static size_t cell_count(const void *memory, size_t bytes) {
    return (reinterpret_cast<uintptr_t>(memory) % CELL_BYTES + bytes + CELL_BYTES - 1) / CELL_BYTES;
}

void checker_allocated(const void *device, size_t bytes) {
    if (!on) return;
    if (!device_cells) {
        device_cells = reserve_cells(RANGE_BYTES);
        shared_cells = reserve_cells(SHARED_BYTES);
    }
    Cell *cells = cells_of(device, false);
    for (size_t i = 0; i < cell_count(device, bytes); i++) {
        cells[i] = {};
        cells[i].allocated = 1;
    }
}

void checker_released(const void *device, size_t bytes) {
    if (!on) return;
    madvise(cells_of(device, false), cell_count(device, bytes) * sizeof(Cell), MADV_DONTNEED);
}

// ---- faults --------------------------------------------------------------------------------------------------------

// An access under examination.
struct Look {
    const void *memory;
    size_t bytes;
    Access access;
    const void *code;
    Place place;
    bool shared;
    int thread, warp;
    uint16_t warp_phase;
    size_t cell; // of the access, the one looked at
};

// Every place in the source is described once per kind, then only counted: looking a line up takes long.
static bool seen_before(const char *kind, const Look &look) {
    static std::set<std::pair<const void *, const char *>> seen;
    if (emulator_errors() == 0) seen.clear();
    const void *where = look.code ? look.code : look.place.file ? look.place.file + look.place.line : nullptr;
    return !seen.insert({where, kind}).second;
}

static bool fault(const char *kind, const Look &look, const char *what, int other_thread) {
    report_ends();
    if (seen_before(kind, look)) {
        report_again();
        return false;
    }
    std::string at = look.code ? code_place_text(look.code) : look.place.file ? place_text(look.place) : "";
    if (!at.empty()) at = ", at " + at;
    char other[40] = "";
    if (other_thread >= 0) snprintf(other, sizeof other, ", other thread %d", other_thread);
    const char *at_fault = static_cast<const char *>(look.memory) + look.cell * CELL_BYTES;
    report(kind, "%s; %s of %zu bytes, %s%s%s", what, look.access == ACCESS_READ ? "read" : "write", look.bytes,
           look.shared ? "shared memory" : device_memory.place_text(at_fault).c_str(), other, at.c_str());
    return false;
}

static bool stream_fault(const Look &look, const char *what, uint32_t earlier) {
    for (const WorkSpan &span : unordered_work) {
        if (earlier < span.first || earlier > span.last) continue;
        char text[400];
        snprintf(text, sizeof text, "%s %s, in another stream and without waiting for it", what, span.name);
        return fault("race-streams", look, text, -1);
    }
    return true;
}

// ---- the rules -----------------------------------------------------------------------------------------------------

// Same thread, or lanes of one warp with a warp barrier between.
static bool ordered_in_warp(const Look &look, int other_thread, uint16_t other_warp_phase) {
    if (other_thread == look.thread) return true;
    return other_thread / WARP_SIZE == look.warp && other_warp_phase != look.warp_phase;
}

static bool after_writes(const Cell &cell, const Look &look) {
    if (look.access == ACCESS_ATOMIC && cell.atomic && cell.write_phase >= work_phase) return true;
    if (cell.write_phase < work_phase)
        return cell.write_phase < first_unordered || look.shared ||
               stream_fault(look, "touches what was written by", cell.write_phase);
    bool reads = look.access == ACCESS_READ;
    if (cell.write_phase < block_phase) {
        if (look.shared) return true;
        return fault("race-blocks", look, reads ? "read after another block's write" : "two blocks write", cell.writer);
    }
    if (cell.write_phase < phase || ordered_in_warp(look, cell.writer, cell.write_warp_phase)) return true;
    return fault("race", look, reads ? "read after write without a barrier" : "write after write without a barrier",
                 cell.writer);
}

static bool after_reads(const Cell &cell, const Look &look) {
    if (cell.read_phase < work_phase)
        return cell.read_phase < first_unordered || look.shared ||
               stream_fault(look, "writes what was read by", cell.read_phase);
    if (!look.shared && (cell.read_by_blocks || cell.read_phase < block_phase))
        return fault("race-blocks", look, "write after another block's read", cell.reader);
    if (cell.read_phase < phase) return true;
    bool one_warp = !cell.read_by_warps && cell.reader / WARP_SIZE == look.warp;
    bool alone = !cell.read_by_warps && !cell.read_by_lanes && cell.reader == look.thread;
    if (alone || (one_warp && cell.read_warp_phase != look.warp_phase)) return true;
    return fault("race", look, "write after read without a barrier", cell.reader);
}

static inline void note_read(Cell &cell, const Look &look) {
    if (cell.read_phase == phase) {
        if (cell.reader != look.thread) {
            if (cell.reader / WARP_SIZE == look.warp)
                cell.read_by_lanes = 1;
            else
                cell.read_by_warps = 1;
        }
    } else {
        bool this_work = cell.read_phase >= work_phase;
        cell.read_by_blocks = this_work && (cell.read_by_blocks || cell.read_phase < block_phase);
        cell.read_by_lanes = cell.read_by_warps = 0;
        cell.read_phase = phase;
    }
    cell.reader = static_cast<uint16_t>(look.thread) & (THREAD_LIMIT - 1);
    cell.read_warp_phase = look.warp_phase;
}

static void note_write(Cell &cell, const Look &look) {
    cell.write_phase = phase;
    cell.writer = static_cast<uint16_t>(look.thread) & (THREAD_LIMIT - 1);
    cell.write_warp_phase = look.warp_phase;
    cell.atomic = look.access == ACCESS_ATOMIC;
    cell.written = look.access != ACCESS_SPOIL;
}

// false after the first fault, which is enough of one access
static bool check_cell(Cell &cell, const Look &look) {
    if (!look.shared && !cell.allocated) return fault("out-of-bounds", look, "not in any allocation", -1);
    bool reads = look.access == ACCESS_READ || look.access == ACCESS_ATOMIC;
    bool written = cell.written && (!look.shared || cell.write_phase >= block_phase);
    if (!after_writes(cell, look)) return false;
    if (reads && !written) return fault("uninitialised", look, "nothing was written there", -1);
    if (look.access == ACCESS_READ) {
        note_read(cell, look);
        return true;
    }
    if (!after_reads(cell, look)) return false;
    note_write(cell, look);
    return true;
}

// What most reads find: written in an earlier phase, by somebody who was waited for.
static inline bool plain_read(Cell &cell, const Look &look) {
    if (!cell.written || cell.write_phase >= phase) return false;
    bool ordered = look.shared ? cell.write_phase >= block_phase
                               : cell.write_phase < work_phase && cell.write_phase < first_unordered;
    if (!ordered) return false;
    note_read(cell, look);
    return true;
}

static void check_cells(Look &look) {
    Cell *cells = cells_of(look.memory, look.shared);
    size_t count = cell_count(look.memory, look.bytes);
    bool read = look.access == ACCESS_READ;
    for (look.cell = 0; look.cell < count; look.cell++)
        if (!(read && plain_read(cells[look.cell], look)) && !check_cell(cells[look.cell], look)) return;
}

// ---- who asks ------------------------------------------------------------------------------------------------------

extern "C" char __executable_start, _end; // the program's image, by the linker

static bool constant_data(const void *memory, Access access) {
    const char *at = static_cast<const char *>(memory);
    const char *call = reinterpret_cast<const char *>(block.call);
    if (at >= call && at < call + block.call->bytes()) return access == ACCESS_READ;
    return at >= &__executable_start && at < &_end && access == ACCESS_READ;
}

void check_access(const void *memory, size_t bytes, Access access, const void *code, Place place) {
    if (!on || !running) return;
    const char *at = static_cast<const char *>(memory);
    size_t stacks = static_cast<size_t>(THREAD_LIMIT) * (STACK_BYTES + STACK_GUARD);
    if (static_cast<size_t>(at - block.stacks) < stacks) return;
    int warp = running->id / WARP_SIZE;
    Look look = {memory, bytes, access, code, place, false, running->id, warp, block.warp_phase[warp], 0};
    if (device_memory.contains(at)) {
        check_cells(look);
    } else if (in_shared(at)) {
        look.shared = true;
        if (inside_shared(at, bytes))
            check_cells(look);
        else
            fault("out-of-bounds", look, "outside the shared variables of the block", -1);
    } else if (!pinned_memory.holds(at, bytes) && !constant_data(at, access)) {
        fault("host-memory", look, "a kernel touches memory of the host", -1);
        abandon_launch(cudaErrorIllegalAddress);
    }
}

void check_range(const void *memory, size_t bytes, Access access) {
    if (!on || bytes == 0 || !device_memory.contains(memory)) return;
    Look look = {memory, bytes, access, nullptr, {nullptr, 0}, false, 0, 0, 0, 0};
    check_cells(look);
}

void check_device_copy(void *to, const void *from, size_t bytes) {
    if (!on) return;
    Look take = {from, bytes, ACCESS_READ, nullptr, {nullptr, 0}, false, 0, 0, 0, 0};
    Look put = {to, bytes, ACCESS_WRITE, nullptr, {nullptr, 0}, false, 0, 0, 0, 0};
    Cell *source = cells_of(from, false), *target = cells_of(to, false);
    for (size_t i = 0; i < cell_count(from, bytes); i++) {
        take.cell = put.cell = i;
        if (source[i].written && !check_cell(source[i], take)) return;
        put.access = source[i].written ? ACCESS_WRITE : ACCESS_SPOIL;
        if (!check_cell(target[i], put)) return;
    }
}

} // namespace emulator

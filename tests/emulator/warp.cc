// warp.cc - barriers and collectives of a warp. Each lane leaves a Visit; the last one to come does the work for all.
#include "block.h"
#include "checker.h"
#include "report.h"
#include "shared.h"

namespace emulator {

static long ldmatrix_phases, ldmatrix_conflicts;

// The lanes of a mask, as in: for (Lanes rest(mask); rest.any(); rest.next()) ... rest.lane()
struct Lanes {
    uint32_t bits;
    explicit Lanes(uint32_t mask) : bits(mask) {
    }
    bool any() const {
        return bits != 0;
    }
    int lane() const {
        return __builtin_ctz(bits);
    }
    void next() {
        bits &= bits - 1;
    }
};

// ---- the collectives; lanes[i] is lane i of the warp ---------------------------------------------------------------

static void do_shuffle(Thread *lanes, const Visit &visit) {
    for (Lanes rest(visit.mask); rest.any(); rest.next()) {
        Visit *mine = lanes[rest.lane()].visit;
        int source = mine->source % WARP_SIZE;
        if (visit.mask >> source & 1) {
            mine->result = lanes[source].visit->value;
            continue;
        }
        report("warp-mask", "lane %d reads lane %d, which is not in the mask %08x, at %s", rest.lane(), source,
               visit.mask, place_text(visit.place).c_str());
        mine->result = ~0ull;
    }
}

static void do_ballot(Thread *lanes, uint32_t mask) {
    uint32_t votes = 0;
    for (Lanes rest(mask); rest.any(); rest.next())
        votes |= static_cast<uint32_t>(lanes[rest.lane()].visit->value) << rest.lane();
    for (Lanes rest(mask); rest.any(); rest.next()) lanes[rest.lane()].visit->result = votes;
}

enum { MATRIX_ROWS = 8, ROW_BYTES = 16, BANK_GROUPS = 8 }; // 8 groups of 4 banks: 128 bytes

// The rows of one matrix are read at once when they lie in different groups of banks; each clash takes a turn more.
static void count_conflicts(const uint16_t *const *rows) {
    int hits[BANK_GROUPS] = {}, most = 0;
    for (int r = 0; r < MATRIX_ROWS; r++) {
        int &count = hits[reinterpret_cast<uintptr_t>(rows[r]) / ROW_BYTES % BANK_GROUPS];
        if (++count > most) most = count;
    }
    ldmatrix_phases++;
    ldmatrix_conflicts += most - 1;
}

static void check_row(Thread &thread, Place place) {
    Thread *last = running;
    running = &thread; // for the message
    const void *row = thread.visit->operands;
    if (!inside_shared(row, ROW_BYTES)) {
        report("ldmatrix", "the row is not in shared memory, at %s", place_text(place).c_str());
        abandon_launch(cudaErrorIllegalAddress);
    }
    if (reinterpret_cast<uintptr_t>(row) % ROW_BYTES != 0) {
        report("unaligned", "ldmatrix with a row that is no multiple of 16, at %s", place_text(place).c_str());
        abandon_launch(cudaErrorMisalignedAddress);
    }
    check_access(row, ROW_BYTES, ACCESS_READ, nullptr, place);
    running = last;
}

static uint32_t pair(uint16_t low, uint16_t high) {
    return low | static_cast<uint32_t>(high) << 16;
}

static void do_load_matrix(Thread *lanes, Place place) {
    const uint16_t *rows[WARP_SIZE];
    for (int i = 0; i < WARP_SIZE; i++) {
        check_row(lanes[i], place);
        rows[i] = static_cast<const uint16_t *>(lanes[i].visit->operands);
    }
    for (int matrix = 0; matrix < 4; matrix++) count_conflicts(rows + matrix * MATRIX_ROWS);
    for (int i = 0; i < WARP_SIZE; i++) {
        int row = i / 4, column = i % 4 * 2;
        uint32_t *registers = static_cast<uint32_t *>(lanes[i].visit->registers);
        for (int matrix = 0; matrix < 4; matrix++) {
            const uint16_t *const *m = rows + matrix * MATRIX_ROWS;
            registers[matrix] = lanes[i].visit->transposed ? pair(m[column][row], m[column + 1][row])
                                                           : pair(m[row][column], m[row][column + 1]);
        }
    }
}

static float low_half(uint32_t bits) {
    return emulator_bits<float>(bits << 16);
}
static float high_half(uint32_t bits) {
    return emulator_bits<float>(bits & 0xffff0000u);
}

typedef float Quad __attribute__((vector_size(4 * sizeof(float)))); // 4 columns: what every processor adds at once

// d += A B; the layout of the fragments is described in kernels/cuda/ptx.cuh.
static void do_multiply(Thread *lanes) {
    float a[16][16];
    Quad b[16][2], c[16][2];
    for (int i = 0; i < WARP_SIZE; i++) {
        const Visit *visit = lanes[i].visit;
        int row = i / 4, column = i % 4 * 2;
        const uint32_t *fragment = static_cast<const uint32_t *>(visit->operands);
        for (int q = 0; q < 4; q++) { // quarter q of A: lower half by bit 0, right half by bit 1
            float *at = &a[row + q % 2 * 8][column + q / 2 * 8];
            at[0] = low_half(fragment[q]);
            at[1] = high_half(fragment[q]);
        }
        for (int half = 0; half < 2; half++) {
            uint32_t bits = static_cast<uint32_t>(visit->value >> 32 * half);
            b[column + 8 * half][row / 4][row % 4] = low_half(bits);
            b[column + 8 * half + 1][row / 4][row % 4] = high_half(bits);
        }
        const float *d = static_cast<const float *>(visit->registers);
        for (int q = 0; q < 4; q++) c[row + q / 2 * 8][column / 4][column % 4 + q % 2] = d[q];
    }
    for (int row = 0; row < 16; row++) {
        Quad left = c[row][0], right = c[row][1];
        for (int k = 0; k < 16; k++) {
            left += a[row][k] * b[k][0];
            right += a[row][k] * b[k][1];
        }
        c[row][0] = left;
        c[row][1] = right;
    }
    for (int i = 0; i < WARP_SIZE; i++) {
        int row = i / 4, column = i % 4 * 2;
        float *d = static_cast<float *>(lanes[i].visit->registers);
        for (int q = 0; q < 4; q++) d[q] = c[row + q / 2 * 8][column / 4][column % 4 + q % 2];
    }
}

// ---- meeting -------------------------------------------------------------------------------------------------------

static void check_agreement(Thread *lanes, const Visit &visit, int lane) {
    for (Lanes rest(visit.mask); rest.any(); rest.next()) {
        const Visit *other = lanes[rest.lane()].visit;
        bool same = other->kind == visit.kind && other->mask == visit.mask && other->place.line == visit.place.line;
        if (same) continue;
        report("divergent-warp", "lane %d at %s with mask %08x meets lane %d at %s with mask %08x", lane,
               place_text(visit.place).c_str(), visit.mask, rest.lane(), place_text(other->place).c_str(), other->mask);
        if (other->kind != visit.kind) abandon_launch(cudaErrorLaunchFailure);
        return;
    }
}

static void do_meeting(Thread *lanes, const Visit &visit, int warp) {
    switch (visit.kind) {
    case Meeting::BLOCK_BARRIER:
        break;
    case Meeting::WARP_BARRIER:
        block.warp_phase[warp]++;
        break;
    case Meeting::SHUFFLE:
        do_shuffle(lanes, visit);
        break;
    case Meeting::BALLOT:
        do_ballot(lanes, visit.mask);
        break;
    case Meeting::LOAD_MATRIX:
        do_load_matrix(lanes, visit.place);
        break;
    case Meeting::MULTIPLY:
        do_multiply(lanes);
        break;
    }
}

// All lanes of the mask are here: does what they have met for, and wakes them.
__attribute__((noinline)) static void complete_meeting(const Visit &visit, int lane, int warp) {
    Thread *lanes = block.threads + warp * WARP_SIZE;
    check_agreement(lanes, visit, lane);
    do_meeting(lanes, visit, warp);
    block.arrived[warp] &= ~visit.mask;
    for (Lanes rest(visit.mask); rest.any(); rest.next()) lanes[rest.lane()].visit = nullptr;
    warp_ready(warp, visit.mask & ~(1u << lane));
    if (thread_order == THREADS_RANDOM) {
        thread_ready(warp * WARP_SIZE + lane);
        thread_wait();
    }
}

// Waits for the other lanes of the mask; on return the visit's result is there.
static inline void meet(Visit &visit) {
    unsigned id = static_cast<unsigned>(running->id), lane = id % WARP_SIZE, warp = id / WARP_SIZE;
    if (!(visit.mask >> lane & 1)) {
        report("warp-mask", "lane %u is not in its own mask %08x, at %s", lane, visit.mask,
               place_text(visit.place).c_str());
        visit.mask |= 1u << lane;
    }
    running->visit = &visit;
    block.arrived[warp] |= 1u << lane;
    if ((block.arrived[warp] & visit.mask) != visit.mask)
        thread_wait();
    else
        complete_meeting(visit, static_cast<int>(lane), static_cast<int>(warp));
}

static Visit visit_of(Meeting kind, unsigned mask, Place place) {
    Visit visit = {};
    visit.kind = kind;
    visit.mask = mask;
    visit.place = place;
    return visit;
}

void warp_barrier(unsigned mask, Place place) {
    Visit visit = visit_of(Meeting::WARP_BARRIER, mask, place);
    meet(visit);
}

uint64_t shuffle(unsigned mask, uint64_t value, int source_lane, Place place) {
    Visit visit = visit_of(Meeting::SHUFFLE, mask, place);
    visit.value = value;
    visit.source = source_lane;
    meet(visit);
    return visit.result;
}

unsigned ballot(unsigned mask, bool predicate, Place place) {
    Visit visit = visit_of(Meeting::BALLOT, mask, place);
    visit.value = predicate;
    meet(visit);
    return static_cast<unsigned>(visit.result);
}

void load_matrix_x4(uint32_t registers[4], const void *row, bool transposed, Place place) {
    Visit visit = visit_of(Meeting::LOAD_MATRIX, FULL_WARP, place);
    visit.registers = registers;
    visit.operands = row;
    visit.transposed = transposed;
    meet(visit);
}

void multiply_16x8x16(float d[4], const uint32_t a[4], uint32_t b0, uint32_t b1, Place place) {
    Visit visit = visit_of(Meeting::MULTIPLY, FULL_WARP, place);
    visit.registers = d;
    visit.operands = a;
    visit.value = b0 | static_cast<uint64_t>(b1) << 32;
    meet(visit);
}

} // namespace emulator

void emulator_ldmatrix(long *phases, long *conflicts) {
    *phases = emulator::ldmatrix_phases;
    *conflicts = emulator::ldmatrix_conflicts;
}

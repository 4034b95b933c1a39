// backend.cu - the CUDA backend: creation, the device part, and the table of operations.
//
// Everything is queued on streams and returns at once. CUDA reports a kernel's fault at some later call: the first one
// seen is kept with the operation that was being issued then, and check() tells it.
#include "base/free_memory.h"
#include "base/host_memory.h"
#include "base/numbers.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/cards.h"
#include "kernels/cuda/gemm.h"
#include <stdlib.h>

// ---- faults ----------------------------------------------------------------------------------------------------

void cuda_fail(Backend *b, const Error *fault) {
    CudaBackend *cuda = cuda_backend(b);
    if (cuda->faulty) return;
    cuda->faulty = true;
    cuda->fault = *fault;
}

void cuda_note(Backend *b, const char *operation, cudaError_t status) {
    if (status == cudaSuccess || cuda_backend(b)->faulty) return;
    Error fault;
    error_set(&fault, "CUDA: %s (%s), noticed at %s", cudaGetErrorString(status), cudaGetErrorName(status), operation);
    error_hint(&fault, "with CUDA_LAUNCH_BLOCKING=1 the operation named is the one that failed");
    cuda_fail(b, &fault);
}

void cuda_launched(Backend *b, const char *operation) {
    cuda_note(b, operation, cudaGetLastError());
}

static bool cuda_check(Backend *b, Error *error) {
    CudaBackend *cuda = cuda_backend(b);
    if (cuda->faulty) *error = cuda->fault;
    return !cuda->faulty;
}

// ---- memory ----------------------------------------------------------------------------------------------------

static bool out_of_memory(MemoryKind kind, size_t bytes, Error *error) {
    char needed[16], available[16], all[16];
    size_t free_bytes = 0, total = 0;
    if (kind == MEMORY_PINNED) return error_memory(error, "pinned memory", bytes);
    if (cudaMemGetInfo(&free_bytes, &total) != cudaSuccess) cudaGetLastError(); // then the numbers are 0
    error_set(error, "out of memory on the card: %s needed, %s of %s free", format_bytes(needed, bytes),
              format_bytes(available, free_bytes), format_bytes(all, total));
    return error_hint(error, "end other programs on the card (nvidia-smi lists them), or choose a smaller cutoff_len, "
                             "fewer lisa_activated_layers or gradient_checkpointing=true");
}

static bool cuda_allocate(Backend *b, MemoryKind kind, size_t bytes, void **memory, Error *error) {
    (void)b;
    if (bytes == 0) bytes = 1;
    if (kind == MEMORY_HOST) {
        *memory = host_memory_allocate(bytes, "host memory", error);
        return *memory != NULL;
    }
    cudaError_t status =
        kind == MEMORY_PINNED ? cudaHostAlloc(memory, bytes, cudaHostAllocPortable) : cudaMalloc(memory, bytes);
    if (status == cudaSuccess) return true;
    cudaGetLastError(); // this failure is told here; it is not a fault of the next operation
    *memory = NULL;
    return out_of_memory(kind, bytes, error);
}

static void cuda_release(Backend *b, MemoryKind kind, void *memory) {
    if (!memory) return;
    if (kind == MEMORY_HOST) {
        free(memory);
        return;
    }
    cuda_note(b, "releasing memory", kind == MEMORY_PINNED ? cudaFreeHost(memory) : cudaFree(memory));
}

static void cuda_copy(Backend *b, void *to, const void *from, size_t bytes, Stream *stream) {
    if (bytes == 0) return;
    cuda_note(b, "a copy", cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cuda_stream(b, stream)));
}

static void cuda_zero(Backend *b, void *memory, size_t bytes, Stream *stream) {
    if (bytes == 0) return;
    cuda_note(b, "filling memory with zeros", cudaMemsetAsync(memory, 0, bytes, cuda_stream(b, stream)));
}

// ---- streams and events ------------------------------------------------------------------------------------------

static bool failed(Error *error, const char *what, cudaError_t status) {
    return error_set(error, "CUDA: %s: %s (%s)", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

static Stream *cuda_stream_create(Backend *b, Error *error) {
    (void)b;
    cudaStream_t stream;
    cudaError_t status = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
    if (status == cudaSuccess) return reinterpret_cast<Stream *>(stream);
    failed(error, "a stream could not be made", status);
    return NULL;
}

static void cuda_stream_free(Backend *b, Stream *stream) {
    if (stream) cuda_note(b, "closing a stream", cudaStreamDestroy(cuda_stream(b, stream)));
}

static Event *cuda_event_create(Backend *b, Error *error) {
    (void)b;
    cudaEvent_t event;
    cudaError_t status = cudaEventCreate(&event); // with a time, for measuring
    if (status == cudaSuccess) return reinterpret_cast<Event *>(event);
    failed(error, "an event could not be made", status);
    return NULL;
}

static cudaEvent_t cuda_event(Event *event) {
    return reinterpret_cast<cudaEvent_t>(event);
}

static void cuda_event_free(Backend *b, Event *event) {
    if (event) cuda_note(b, "closing an event", cudaEventDestroy(cuda_event(event)));
}

static void cuda_event_record(Backend *b, Event *event, Stream *stream) {
    cuda_note(b, "recording an event", cudaEventRecord(cuda_event(event), cuda_stream(b, stream)));
}

static void cuda_event_wait(Backend *b, Event *event, Stream *stream) {
    cuda_note(b, "waiting for an event", cudaStreamWaitEvent(cuda_stream(b, stream), cuda_event(event), 0));
}

static double cuda_event_seconds(Backend *b, Event *start, Event *stop) {
    float milliseconds = 0;
    cuda_note(b, "waiting for an event", cudaEventSynchronize(cuda_event(stop)));
    if (cuda_backend(b)->faulty) return 0;
    cuda_note(b, "reading an event's time", cudaEventElapsedTime(&milliseconds, cuda_event(start), cuda_event(stop)));
    return 1e-3 * static_cast<double>(milliseconds);
}

static void cuda_event_synchronize(Backend *b, Event *event) {
    cuda_note(b, "waiting for an event", cudaEventSynchronize(cuda_event(event)));
}

static void cuda_synchronize(Backend *b, Stream *stream) {
    cuda_note(b, "waiting for the card", cudaStreamSynchronize(cuda_stream(b, stream)));
}

// ---- measuring ---------------------------------------------------------------------------------------------------

static uint64_t cuda_memory_in_use(Backend *b) {
    size_t available = 0, total = 0;
    cuda_note(b, "asking for free memory", cudaMemGetInfo(&available, &total));
    return total - available;
}

static uint64_t cuda_memory_available(Backend *b, MemoryKind kind) {
    size_t available = 0, total = 0;
    if (kind == MEMORY_PINNED) return lockable_memory();
    if (kind == MEMORY_HOST) return free_memory();
    cuda_note(b, "asking for free memory", cudaMemGetInfo(&available, &total));
    return available;
}

// ---- creation ----------------------------------------------------------------------------------------------------

static void cuda_destroy(Backend *b) {
    CudaBackend *cuda = cuda_backend(b);
    gemm_free(cuda->gemm);
    if (cuda->decode_scratch) cudaFree(cuda->decode_scratch);
    if (cuda->square_parts) cudaFree(cuda->square_parts);
    if (cuda->compute) cudaStreamDestroy(cuda->compute);
    thread_pool_free(b->threads);
    free(cuda);
}

static void fill_device_part(Backend *b) {
    b->destroy = cuda_destroy;
    b->allocate = cuda_allocate;
    b->release = cuda_release;
    b->copy = cuda_copy;
    b->zero = cuda_zero;
    b->stream_create = cuda_stream_create;
    b->stream_free = cuda_stream_free;
    b->event_create = cuda_event_create;
    b->event_free = cuda_event_free;
    b->event_record = cuda_event_record;
    b->event_wait = cuda_event_wait;
    b->event_seconds = cuda_event_seconds;
    b->event_synchronize = cuda_event_synchronize;
    b->synchronize = cuda_synchronize;
    b->check = cuda_check;
    b->memory_in_use = cuda_memory_in_use;
    b->memory_available = cuda_memory_available;
}

static void fill_operations(Backend *b) {
    b->embed_forward = cuda_embed_forward;
    b->embed_backward = cuda_embed_backward;
    b->add_rows = cuda_add_rows;
    b->linear_forward = cuda_linear_forward;
    b->linear_backward_input = cuda_linear_backward_input;
    b->linear_backward_weight = cuda_linear_backward_weight;
    b->rmsnorm_forward = cuda_rmsnorm_forward;
    b->rmsnorm_rebuild = cuda_rmsnorm_rebuild;
    b->rmsnorm_backward = cuda_rmsnorm_backward;
    b->rope = cuda_rope;
    b->attention_forward = cuda_attention_forward;
    b->attention_backward = cuda_attention_backward;
    b->attention_decode = cuda_attention_decode;
    b->swiglu_forward = cuda_swiglu_forward;
    b->swiglu_backward = cuda_swiglu_backward;
    b->gather_rows = cuda_gather_rows;
    b->scatter_rows = cuda_scatter_rows;
    b->cross_entropy = cuda_cross_entropy;
    b->sum_losses = cuda_sum_losses;
    b->sum_squares = cuda_sum_squares;
    b->clip_finish = cuda_clip_finish;
    b->adamw = cuda_adamw;
    b->adamw_rows = cuda_adamw_rows;
    b->freeze = cuda_freeze;
    b->to_float = cuda_to_float;
    b->fill_normal = cuda_fill_normal;
    b->gemm_seconds = cuda_gemm_seconds;
}

// Scratch that operations keep for themselves.
static bool allocate_workspace(CudaBackend *cuda, Error *error) {
    const size_t decode = DECODE_SCRATCH_FLOATS * sizeof(float), squares = SQUARES_PARTS * sizeof(double);
    void *memory;
    if (!cuda_allocate(&cuda->base, MEMORY_DEVICE, decode, &memory, error)) return false;
    cuda->decode_scratch = static_cast<float *>(memory);
    if (!cuda_allocate(&cuda->base, MEMORY_DEVICE, squares, &memory, error)) return false;
    cuda->square_parts = static_cast<double *>(memory);
    cuda->gemm = gemm_create(error);
    if (!cuda->gemm) return false;
    cuda->base.workspace_bytes = decode + squares + gemm_workspace_bytes(cuda->gemm);
    return true;
}

static bool open_card(CudaBackend *cuda, int device, Error *error) {
    if (!cuda_check_card(device, error)) return false;
    cudaError_t status = cudaSetDevice(device);
    if (status != cudaSuccess) return failed(error, "the card cannot be used", status);
    cuda->device = device;
    status = cudaStreamCreateWithFlags(&cuda->compute, cudaStreamNonBlocking);
    if (status != cudaSuccess) return failed(error, "the compute stream could not be made", status);
    return allocate_workspace(cuda, error);
}

Backend *backend_cuda_create(int device, int threads, Error *error) {
    CudaBackend *cuda = static_cast<CudaBackend *>(calloc(1, sizeof(CudaBackend)));
    if (!cuda) {
        error_memory(error, "the CUDA backend", sizeof(CudaBackend));
        return NULL;
    }
    Backend *b = &cuda->base;
    cuda_describe(b);
    fill_device_part(b);
    fill_operations(b);
    b->threads = thread_pool_create(threads, error);
    if (b->threads && open_card(cuda, device, error)) return b;
    cuda_destroy(b);
    return NULL;
}

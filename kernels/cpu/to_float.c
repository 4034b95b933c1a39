// to_float.c - activations as floats, which they are here already.
#include "kernels/cpu/cpu.h"

void cpu_to_float(Backend *b, float *out, const Activation *x, int64_t count, Stream *stream) {
    b->copy(b, out, x, (size_t)count * sizeof *out, stream);
}

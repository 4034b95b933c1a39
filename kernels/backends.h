// backends.h - which backend computes.
#pragma once
#include "kernels/kernels.h"

// The backend that `device` names: "cpu", "cuda" (the first card), "cuda:<number>", or "auto": a card where there is
// one, else, after a line saying so, the CPU. auto is an error where there is an NVIDIA card that cannot be used; the
// message says why and what to do. threads as in kernels.h. NULL with a message; free with b->destroy(b).
Backend *backend_open(const char *device, int threads, Error *error);

// What this program was built with, for a person: "cpu", or "cpu, cuda (CUDA 13.0: sm_89+compute_89)".
const char *backends_built(char text[160]);

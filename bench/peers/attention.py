"""Attention alone, forward and backward, by PyTorch's SDPA backends: attention.py SPEC.json RESULT.json.

SPEC holds device, heads, head_dim and shapes; one row per shape and backend. FLOPs are counted as lisa bench counts them:
two products forward and five backward over the pairs of tokens that see each other.
"""
import json
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from variant import OUT_OF_MEMORY, Clock

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
REPEATS = 5
RUNS = 4


def median_seconds(device, work):
    """Of RUNS runs between two events, after some to warm up."""
    samples = []
    for repeat in range(REPEATS + 1):
        clock = Clock(device)
        clock.mark()
        for _ in range(RUNS):
            work()
        clock.mark()
        if repeat:
            samples.append(clock.seconds()[0] / RUNS)
    return sorted(samples)[REPEATS // 2]


def measure(device, backend, sequences, tokens, heads, head_dim):
    shape = (sequences, heads, tokens, head_dim)
    q, k, v = (torch.randn(shape, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    gradient = torch.randn(shape, device=device, dtype=torch.bfloat16)
    with sdpa_kernel([backend]):
        forward = median_seconds(device, lambda: scaled_dot_product_attention(q, k, v, is_causal=True))
        out = scaled_dot_product_attention(q, k, v, is_causal=True)
        backward = median_seconds(
            device, lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)
        )
    flops = 7 * 2 * sequences * heads * head_dim * tokens * (tokens + 1) / 2
    return {
        "status": "ok",
        "forward_milliseconds": 1e3 * forward,
        "backward_milliseconds": 1e3 * backward,
        "gflop_per_second": flops / (forward + backward) * 1e-9,
    }


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    rows = []
    for sequences, tokens in spec["shapes"]:
        for name, backend in BACKENDS.items():
            row = {"backend": f"SDPA {name}", "sequences": sequences, "tokens": tokens}
            try:
                row |= measure(spec["device"], backend, sequences, tokens, spec["heads"], spec["head_dim"])
            except torch.OutOfMemoryError:
                row["status"] = OUT_OF_MEMORY
            except RuntimeError as error:
                row["status"] = "not available: " + str(error).splitlines()[0]
            rows.append(row)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(rows, file)


if __name__ == "__main__":
    main()

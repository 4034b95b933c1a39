"""Measures one variant in a process of its own: variant.py SPEC.json RESULT.json. measure.py calls it.

SPEC holds config, device, method (lora, full, lisa), lora_rank, precision, checkpointing, liger, shapes, steps, warm_up.
RESULT is a list of rows, one a shape; out of memory is a row too. A step is forward, backward, clipping to norm 1 and
AdamW on B sequences of N tokens, every one of them a target; its time goes from its start to the next one's.
"""
import gc
import json
import sys
import time

import torch

import methods

CHECK_RATE = 1e-2  # moves every weight visibly, norm gains of 1 in bf16 too
RATE = 1e-5
OUT_OF_MEMORY = "out of memory"


class Clock:
    """Moments on the device (CUDA events) or, on a processor, of the clock."""

    def __init__(self, device):
        self.cuda = device == "cuda"
        self.moments = []

    def mark(self):
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.moments.append(event)
        else:
            self.moments.append(time.perf_counter())

    def seconds(self):
        """Between each moment and the next."""
        pairs = list(zip(self.moments, self.moments[1:]))
        if not self.cuda:
            return [b - a for a, b in pairs]
        torch.cuda.synchronize()
        return [a.elapsed_time(b) * 1e-3 for a, b in pairs]


class Training:
    def __init__(self, spec):
        self.spec = spec
        rank = spec["lora_rank"] if spec["method"] == "lora" else 0
        self.model = methods.make_model(
            spec["config"], spec["device"], spec["precision"], rank, spec["checkpointing"]
        )
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = None
        self.loss = None

    def start(self, learning_rate):
        self.optimizer = None  # before the new one takes memory
        self.optimizer = methods.make_optimizer(self.parameters, learning_rate)

    def step(self, ids):
        autocast = torch.autocast(self.spec["device"], torch.bfloat16, enabled=self.spec["precision"] == "mixed")
        with autocast:
            self.loss = self.model(input_ids=ids, labels=ids).loss
        self.loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def ids(self, sequences, tokens):
        generator = torch.Generator(device=self.spec["device"]).manual_seed(1)
        vocabulary = self.spec["config"]["vocab_size"]
        return torch.randint(
            vocabulary, (sequences, tokens), generator=generator, device=self.spec["device"], dtype=torch.int64
        )


def memory(device):
    """Bytes: the most allocated and reserved by PyTorch, and what is in use on the card (all of it)."""
    if device != "cuda":
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        "memory_bytes": total - free,
    }


def measure_shape(training, sequences, tokens):
    spec = training.spec
    if spec["device"] == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    ids = training.ids(sequences, tokens)
    for _ in range(spec["warm_up"]):
        training.step(ids)
    clock = Clock(spec["device"])
    for _ in range(spec["steps"]):
        clock.mark()
        training.step(ids)
    clock.mark()
    seconds = sorted(clock.seconds())
    median = seconds[len(seconds) // 2]
    return {
        "status": "ok",
        "milliseconds": 1e3 * median,
        "least_milliseconds": 1e3 * seconds[0],
        "tokens_per_second": sequences * tokens / median,
        "loss": training.loss.item(),
        **memory(spec["device"]),
    }


def prepare(spec):
    """The model and what LISA's check says."""
    if spec["liger"]:
        from liger_kernel.transformers import apply_liger_kernel_to_llama

        apply_liger_kernel_to_llama()
    training = Training(spec)
    checked = None
    if spec["method"] == "lisa":
        lisa = methods.LmflowLisa(training.model)
        training.start(CHECK_RATE)
        few = training.ids(1, min(64, spec["config"]["max_position_embeddings"]))
        methods.check_changed_weights(training.model, lisa, lambda: training.step(few))
        checked = "exactly embedding, head, final norm and the drawn layers changed, in two draws"
    training.start(RATE)  # LISA: one draw's state, the least that LMFlow's optimizer ever holds
    return training, checked


def rows_without(spec, status):
    return [{"sequences": b, "tokens": b * n, "status": status} for b, n in spec["shapes"]]


def run(spec):
    rows = []
    try:
        training, checked = prepare(spec)
    except torch.OutOfMemoryError:
        return rows_without(spec, OUT_OF_MEMORY)
    except ImportError as error:
        return rows_without(spec, f"not importable: {error}")
    for sequences, tokens in spec["shapes"]:
        row = {"sequences": sequences, "tokens": sequences * tokens}
        try:
            row |= measure_shape(training, sequences, tokens)
        except torch.OutOfMemoryError:
            row["status"] = OUT_OF_MEMORY
            training.loss = None
            training.optimizer.zero_grad(set_to_none=True)
            gc.collect()
        if checked:
            row["checked"] = checked
        rows.append(row)
    return rows


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    torch.manual_seed(0)
    rows = run(spec)
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(rows, file)


if __name__ == "__main__":
    main()

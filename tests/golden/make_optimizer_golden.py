"""Makes tests/golden/adamw.json and schedules.json: torch.optim.AdamW with clipping, and transformers' learning rates.

    python tests/golden/make_optimizer_golden.py        (pinned requirements: tests/requirements.txt)

adamw.json: runs on given gradients. "decayed" leading elements have weight decay. Every number is an exact fp32 value.
schedules.json: the rate of every step, and the warm-up steps that a ratio means.
"""

import json
import pathlib
import types

import torch
from transformers import TrainingArguments, get_scheduler

GOLDEN = pathlib.Path(__file__).parent
ELEMENTS, DECAYED, STEPS = 29, 21, 10


def adamw_run(max_grad_norm, weight_decay, learning_rate, deviation):
    """Gradients of very different sizes in one step, zeros among them."""
    start = torch.randn(ELEMENTS).to(torch.bfloat16).float()
    matrices, vectors = start[:DECAYED].clone(), start[DECAYED:].clone()
    optimizer = torch.optim.AdamW(
        [{"params": [matrices], "weight_decay": weight_decay}, {"params": [vectors], "weight_decay": 0.0}],
        lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, foreach=False, fused=False,
    )
    steps = []
    for step in range(STEPS):
        sizes = 10.0 ** torch.randint(-9, 1, (ELEMENTS,))
        gradient = deviation * sizes * torch.randn(ELEMENTS)
        gradient[step::STEPS] = 0
        matrices.grad, vectors.grad = gradient[:DECAYED].clone(), gradient[DECAYED:].clone()
        limit = max_grad_norm if max_grad_norm > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_([matrices, vectors], limit)
        optimizer.step()
        steps.append({
            "gradient": gradient.tolist(),
            "norm": norm.item(),
            "master": torch.cat([matrices, vectors]).tolist(),
        })
    state = [optimizer.state[p] for p in (matrices, vectors)]
    return {
        "max_grad_norm": max_grad_norm, "weight_decay": weight_decay, "learning_rate": learning_rate,
        "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "decayed": DECAYED, "start": start.tolist(), "steps": steps,
        "m": torch.cat([s["exp_avg"] for s in state]).tolist(),
        "v": torch.cat([s["exp_avg_sq"] for s in state]).tolist(),
    }


def schedule_run(kind, learning_rate, warmup, total):
    optimizer = torch.optim.AdamW([torch.zeros(1)], lr=learning_rate)
    schedule = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=total)
    rates = []
    for _ in range(total):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return {"kind": kind, "learning_rate": learning_rate, "warmup_steps": warmup, "steps": total, "rates": rates}


def warmup_run(ratio, total):
    steps = TrainingArguments.get_warmup_steps(types.SimpleNamespace(warmup_steps=ratio), total)
    return {"warmup_ratio": ratio, "steps": total, "warmup_steps": steps}


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    runs = [adamw_run(1.0, 0.1, 1e-3, 1.0), adamw_run(0.0, 0.0, 2e-5, 0.01), adamw_run(0.5, 0.01, 3e-4, 0.02)]
    (GOLDEN / "adamw.json").write_text(json.dumps({"runs": runs}) + "\n")
    cases = [(0, 1), (1, 1), (0, 7), (3, 20), (20, 20), (25, 20), (2, 61)]
    kinds = ["cosine", "linear", "constant", "constant_with_warmup"]
    schedules = [schedule_run(kind, 2e-5, *case) for kind in kinds for case in cases]
    ratios = [warmup_run(ratio, total) for ratio in (0.0, 0.03, 0.1, 0.5) for total in (1, 10, 99, 100, 1000)]
    (GOLDEN / "schedules.json").write_text(json.dumps({"schedules": schedules, "warmup": ratios}) + "\n")


if __name__ == "__main__":
    main()

"""Makes tests/golden/training/: whole optimizer steps of PyTorch on the tiny models of tests/golden/models/.

    python tests/golden/make_training_golden.py        (pinned requirements: tests/requirements.txt)

For each run: <run>.json    model, settings, sequences, the sequences of every step, loss, norm and learning rate by step
              <run>.safetensors    the fp32 master weights after the last step, by parameter name
PyTorch keeps fp32 masters. Before each forward bf16(master), rounded half away from zero, is loaded into an fp32 model;
its gradients are clipped to norm 1 and drive torch.optim.AdamW on the masters: weight decay on matrices only, cosine
schedule with warm-up. The loss is the sum over the targets of the whole optimizer batch divided by their number, so how
the batch is cut must not matter: each run is done with padded rows and with packed rows, with 1 and with 4 micro-batches
per step, and this script insists that the four agree before it stores the first.
The learning rate is small for a reason: where a master passes halfway between two bf16 numbers, one ulp of fp32 decides
which of them the forward sees. A bf16 ulp of one large weight can move the loss of so small a model by 1e-5 and more, and
at 1e-4 PyTorch with one ulp of noise does not agree with itself; at 2e-5 only small weights get that far.
The LISA run trains the embedding, the head and the drawn layers alone. A layer drawn again keeps its AdamW state, one
that leaves loses it; its master stays what it is, as with lisa_keep_low_bits, and the forward sees its bf16 rounding.
"""

import json
import pathlib
import random

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup
from transformers.utils import logging

GOLDEN = pathlib.Path(__file__).parent
STEPS, WARMUP, MICRO_BATCHES, ROWS = 20, 3, 4, 2
SETTINGS = {"weight_decay": 0.1, "max_grad_norm": 1.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
RUNS = {
    "full": dict(model="llama_gqa_head_dim", learning_rate=2e-5, draws=None),
    "full_tied": dict(model="qwen2_tied_window", learning_rate=2e-5, draws=None),
    "lisa_tied": dict(model="qwen2_tied_window", learning_rate=2e-5, interval=5,
                      draws=[[0, 2], [0, 2], [1, 2], [0, 1]]),
}


def round_away(master):
    """The fp32 value of the nearest bf16, halves away from zero: (bits + 0x8000) >> 16."""
    bits = master.view(torch.int32) + 0x8000
    return (bits & -0x10000).view(torch.float32)


def make_data(vocabulary, generator):
    """A pool of sequences with labels, and for every step the indices of its sequences."""
    sequences, labels = [], []
    for index in range(24):
        length = generator.choice([2, 3, 5, 8, 11, 14, 17, 23])
        ids = [generator.randrange(vocabulary) for _ in range(length)]
        prompt = generator.randrange(length)
        sequences.append(ids)
        labels.append([-100] * prompt + ids[prompt:])
    order = []
    while len(order) < STEPS * MICRO_BATCHES * ROWS:
        order += generator.sample(range(24), 24)
    size = MICRO_BATCHES * ROWS
    return sequences, labels, [order[step * size : (step + 1) * size] for step in range(STEPS)]


def rows_of(data, indices, packed):
    """One micro-batch: model inputs and labels, shifted so that labels[t] is the target after token t."""
    sequences = [torch.tensor(data["sequences"][i]) for i in indices]
    shifted = [torch.tensor(data["labels"][i][1:] + [-100]) for i in indices]
    if packed:
        positions = torch.cat([torch.arange(len(ids)) for ids in sequences])
        inputs = {"input_ids": torch.cat(sequences)[None], "position_ids": positions[None]}
        return inputs, torch.cat(shifted)[None]
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones_like(ids) for ids in sequences], batch_first=True)
    inputs = {"input_ids": pad(sequences, batch_first=True), "attention_mask": mask}
    return inputs, pad(shifted, batch_first=True, padding_value=-100)


def parameter_groups(masters):
    matrices = [master for master in masters.values() if master.dim() == 2]
    vectors = [master for master in masters.values() if master.dim() == 1]
    return [
        {"params": matrices, "weight_decay": SETTINGS["weight_decay"]},
        {"params": vectors, "weight_decay": 0.0},
    ]


def draw(run, step, optimizer, parameters, masters):
    """Chooses who has a gradient from this step on; without one torch neither updates nor decays."""
    if run["draws"] is None or step % run["interval"]:
        return
    for name, parameter in parameters.items():
        layer = int(name.split(".")[2]) if ".layers." in name else None
        parameter.requires_grad = layer is None or layer in run["draws"][step // run["interval"]]
        if not parameter.requires_grad:
            optimizer.state.pop(masters[name], None)


def train(run, data, packed, micro_batches):
    model = AutoModelForCausalLM.from_pretrained(
        GOLDEN / "models" / run["model"], attn_implementation="eager", dtype=torch.float32
    )
    parameters = dict(model.named_parameters())
    masters = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer = torch.optim.AdamW(
        parameter_groups(masters), lr=run["learning_rate"], betas=(SETTINGS["beta1"], SETTINGS["beta2"]),
        eps=SETTINGS["epsilon"], foreach=False, fused=False,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP, STEPS)
    history = {"losses": [], "grad_norms": [], "learning_rates": []}
    for step, indices in enumerate(data["steps"]):
        draw(run, step, optimizer, parameters, masters)
        targets = sum(label != -100 for i in indices for label in data["labels"][i][1:])
        with torch.no_grad():
            for name, master in masters.items():
                parameters[name].copy_(round_away(master))
        model.zero_grad()
        loss, size = 0.0, len(indices) // micro_batches
        for start in range(0, len(indices), size):
            inputs, labels = rows_of(data, indices[start : start + size], packed)
            logits = model(**inputs, use_cache=False).logits
            part = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            (part / targets).backward()
            loss += part.item() / targets
        for name, master in masters.items():
            gradient = parameters[name].grad
            master.grad = None if gradient is None else gradient.clone()
        norm = torch.nn.utils.clip_grad_norm_(list(masters.values()), SETTINGS["max_grad_norm"])
        history["losses"].append(loss)
        history["grad_norms"].append(norm.item())
        history["learning_rates"].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return masters, history


def insist_equal(first, other, limit):
    """The four ways to cut a batch may differ by the order of fp32 sums only."""
    for a, b in zip(first[1]["losses"], other[1]["losses"]):
        assert abs(a - b) <= 1e-5 * abs(a), (a, b)
    differences = torch.cat([(first[0][name] - other[0][name]).abs().flatten() for name in first[0]])
    share = (differences > 1e-2 * limit).float().mean().item()
    assert share <= 1e-3 and differences.max() <= 2 * limit, (share, differences.max())
    return share


def make(name, run, seed):
    vocabulary = json.loads((GOLDEN / "models" / run["model"] / "config.json").read_text())["vocab_size"]
    generator = random.Random(seed)
    data = dict(zip(("sequences", "labels", "steps"), make_data(vocabulary, generator)))
    first = train(run, data, packed=False, micro_batches=1)
    shares = []
    for packed, micro_batches in (False, MICRO_BATCHES), (True, 1), (True, MICRO_BATCHES):
        other = train(run, data, packed, micro_batches)
        shares.append(insist_equal(first, other, run["learning_rate"] * STEPS))
    masters, history = first
    stored = dict(run, **SETTINGS, warmup_steps=WARMUP, micro_batches=MICRO_BATCHES, **data, **history)
    folder = GOLDEN / "training"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(stored) + "\n")
    save_file(masters, folder / f"{name}.safetensors", metadata={"format": "pt"})
    losses, norms = history["losses"], history["grad_norms"]
    print(f"{name:10} loss {losses[0]:.4f} .. {losses[-1]:.4f}  norm {min(norms):.2f} .. {max(norms):.2f}  "
          f"beyond 1e-2 lr steps: {max(shares):.1e} of the elements")


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    for seed, (name, run) in enumerate(RUNS.items(), 1):
        make(name, run, seed)


if __name__ == "__main__":
    main()

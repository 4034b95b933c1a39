#!/usr/bin/env python3
"""Holds what `lisa plan` says against an independent memory model, component by component.

Usage: compare_memory_model.py LISA FOLDER-OF-memory_model.py
Exit code 0: every component of every plan is within 3 %. Prints the worst of each.

The model describes one micro-batch per sweep with everything resident. It is extended here where it says less:
  sweep      of M micro-batches: activations of each of them
  clipping   fp32 gradients of H and the layers persist (its own gradkeep)
  E rows     one int32 for each token of the vocabulary tells where its row is
  host       E's rows bring no state with them: the CPU updates E, so only the bf16 rows go up
  H          the final norm's state lies with the matrix's
  work       what is computed again needs no second place for the layer's input, nor what is kept; no fp32 sum of dq is
             kept beside; the head's chunk of logits is bf16 and 512 rows, with four [T, d] beside it
"""
import json
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, sys.argv[2])
import memory_model as model  # noqa: E402

LISA, WITHIN = sys.argv[1], 0.03
CHECKPOINTING = {"ckpt": "true", "mlp": "mlp", "full": "false"}
NAMES = ["TinyLlama-1.1B", "LLaMA-2-7B", "LLaMA-2-13B", "Llama-3.1-8B", "Qwen2.5-7B"]


def write_config(folder, m):
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump({"model_type": "qwen2" if m.name.startswith("Qwen") else "llama", "num_hidden_layers": m.L,
                   "hidden_size": m.d, "intermediate_size": m.f, "num_attention_heads": m.nh,
                   "num_key_value_heads": m.nkv, "vocab_size": m.V, "tie_word_embeddings": m.tied,
                   "max_position_embeddings": 8192, "rms_norm_eps": 1e-5}, f)


def work_of(m, mode, T):
    """Buffers of one layer or the head at work."""
    d, q, kv, f = m.d, m.q, m.kv, m.f
    again = {"ckpt": 2 * (q + 2 * kv) + 2 * q + 4 * m.nh + 2 * d + 8 + 4 * f, "mlp": 4 * f, "full": 0}[mode]
    layer = 2 * (2 * d + f) + 2 * q + 2 * (q + 2 * kv) + 4 * m.nh  # h, its gradient, s; do; dqkv; row sums of do * o
    head = 4 * 2 * d * T + min(512, T) * 2 * m.V + 8 * T
    return max(T * (layer + again), head)


def expected(m, T, mode, sweep, streamed, hosted):
    e_host, h_host, l_host = hosted
    _, parts = model.peak(m, T, mode=mode, gradkeep=True, e_host=e_host, h_host=h_host, l_host=l_host,
                          resident=m.L - streamed if streamed else None, parts=True)
    rows = min(m.V, T * sweep)
    parts["E rows"] = rows * m.d * (4 + (2 if e_host else 0)) + (0 if e_host else 4 * m.V)
    parts["acts"] = sweep * (T * m.L * model.act(m, mode) + T * m.d * 2)
    parts["work"] = work_of(m, mode, T)
    if h_host:
        parts["moments"] -= m.d * model.MOM["fp32"]
        parts["master"] -= m.d * model.MASTER["lo16"]
    if streamed:  # the model always keeps active layers resident and leaves them out of `frozen`
        parts["layers"] = (m.L - streamed) * m.Pl * 2
    return parts


def planned(folder, m, T, mode, sweep, streamed, hosted):
    place = ["host" if h else "device" for h in hosted]
    command = [LISA, "plan", folder, "--device", "cuda", "--vram", "900GiB", "--ram", "900GiB", "-c", str(T), "--json",
               f"gradient_accumulation_steps={sweep}", f"sweep_micro_batches={sweep}", f"micro_batch_tokens={T}",
               f"layers_resident={m.L - streamed}", f"gradient_checkpointing={CHECKPOINTING[mode]}",
               f"embedding_state={place[0]}", f"head_state={place[1]}", f"layer_state={place[2]}", "gradients=device",
               "layer_inputs=device"]
    if streamed:
        command.append("stream_from=memory")
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return {c["name"]: c["device_bytes"] for c in json.loads(run.stdout)["plans"][0]["components"]}


OURS = {"layers": ["layers (bf16)"], "stream buf": ["buffers that weights pass through"], "E": ["embedding (bf16)"],
        "H": ["head (bf16)"], "moments": ["AdamW's m and v"], "master": ["low bits of fp32 masters"],
        "grads": ["gradients (fp32)"], "E rows": ["rows of the embedding in a batch"], "acts": ["activations kept"],
        "work": ["work buffers"]}


def main():
    worst, failures, plans = {}, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name in NAMES:
            m = model.M[name]
            write_config(folder, m)
            half = m.L // 2
            for T in (512, 1024, 2048, 4096):
                cases = [(mode, 1, 0, (False,) * 3) for mode in CHECKPOINTING]
                cases += [("ckpt", 4, 0, (False,) * 3), ("ckpt", 1, 0, (True, False, False)),
                          ("mlp", 1, 0, (True, True, False)), ("ckpt", 2, half, (True, True, True)),
                          ("full", 1, m.L, (True, True, True))]
                for case in cases:
                    ours, theirs = planned(folder, m, T, *case), expected(m, T, *case)
                    plans += 1
                    for part, names in OURS.items():
                        have, want = sum(ours.get(n, 0) for n in names), theirs.get(part, 0)
                        off = abs(have - want) / want if want else float(have > 0)
                        if off >= worst.get(part, (0,))[0]:
                            worst[part] = (off, name, T, case)
                        if off > WITHIN:
                            failures += 1
                            print(f"{name} T={T} {case}: {part}: {have / 2**20:.2f} MiB, the model says {want / 2**20:.2f}")
    for part, (off, name, T, case) in worst.items():
        print(f"{part}: at most {100 * off:.2f} % off ({name}, T={T}, {case})")
    print(f"{plans} plans, {failures} components off by more than {100 * WITHIN:.0f} %")
    return 1 if failures else 0


sys.exit(main())

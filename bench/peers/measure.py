#!/usr/bin/env python3
"""Measures lisa beside what people use instead, on the same card, in one run: the same shapes, the same tokens a step.

    python3 -m venv venv && venv/bin/pip install -r bench/peers/requirements.txt
    venv/bin/python bench/peers/measure.py                  # LLaMA-2-7B's shape on the CUDA card
    venv/bin/python bench/peers/measure.py --device cpu --tiny --steps 2   # shows that it runs; its times mean nothing

Every variant runs in a process of its own; running out of memory is a row. Writes OUT/<card>-<date>-peers.json and .md.
docs/measuring.md says what is compared with what.
"""
import argparse
import datetime
import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import methods
import shapes
import table

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PACKAGES = ["torch", "transformers", "peft", "liger-kernel"]
ATTENTION_TOKENS = [1024, 4096]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of six small layers instead of LLaMA-2-7B's shape")
    parser.add_argument("--shapes", default="1x1024,8x1024", help="sequences x tokens of a step, separated by commas")
    parser.add_argument("--steps", type=int, default=10, help="timed steps, of which the median counts")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them")
    parser.add_argument("--only", default="", help="regular expression: variants whose label it finds, as 'lora r16'")
    parser.add_argument("--lisa", default=str(ROOT / "lisa"), help="the program")
    parser.add_argument("--out", default=str(ROOT / "bench" / "results"), help="folder of the results")
    arguments = parser.parse_args()
    arguments.shapes = [[int(number) for number in shape.split("x")] for shape in arguments.shapes.split(",")]
    return arguments


def variants():
    """Each method with and without checkpointing and Liger in bf16, and with and without checkpointing in mixed precision."""
    settings = [("bf16", gc, liger) for gc in (False, True) for liger in (False, True)]
    settings += [("mixed", gc, False) for gc in (False, True)]
    for method, rank in (("lora", 128), ("lora", 16), ("full", 0), ("lisa", 0)):
        for precision, checkpointing, liger in settings:
            yield {
                "method": method,
                "lora_rank": rank,
                "precision": precision,
                "checkpointing": checkpointing,
                "liger": liger,
            }


def method_name(variant):
    if variant["method"] == "lora":
        return f"LoRA r{variant['lora_rank']}"
    return {"full": "full fine-tuning", "lisa": f"LISA (LMFlow), {methods.LISA_LAYERS} layers"}[variant["method"]]


def label_of(variant):
    parts = [method_name(variant), variant["precision"]]
    parts += ["checkpointing"] if variant["checkpointing"] else []
    parts += ["Liger"] if variant["liger"] else []
    return " ".join(parts)


def run_script(script, spec, folder):
    """What the script wrote, or the last line of what it said."""
    spec_file, result_file = folder / "spec.json", folder / "result.json"
    spec_file.write_text(json.dumps(spec), encoding="utf-8")
    result_file.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, HERE / script, spec_file, result_file], capture_output=True, text=True)
    if done.returncode == 0 and result_file.exists():
        return json.loads(result_file.read_text(encoding="utf-8"))
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return f"failed: {lines[-1]}"


def measure_variant(variant, arguments, config, folder):
    spec = variant | {
        "config": config,
        "device": arguments.device,
        "shapes": arguments.shapes,
        "steps": arguments.steps,
        "warm_up": arguments.warm_up,
    }
    rows = run_script("variant.py", spec, folder)
    if isinstance(rows, str):
        rows = [{"sequences": b, "tokens": b * n, "status": rows} for b, n in arguments.shapes]
    weights, optimizer = methods.describe_precision(variant["method"], variant["precision"])
    described = variant | {"name": method_name(variant), "weights": weights, "optimizer": optimizer}
    return [described | row for row in rows]


def bench_lisa(arguments, config, folder, shape, method):
    """What `lisa bench --json` says, or why it says nothing."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    sequences, tokens = shape
    command = [arguments.lisa, "bench", "-m", folder, "--json", "--random_weights", "--device", arguments.device]
    command += ["--finetuning_type", method, "--lisa_activated_layers", str(methods.LISA_LAYERS)]
    command += ["--cutoff_len", str(tokens), "--per_device_train_batch_size", str(sequences)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout)
    return "failed: " + " ".join(done.stderr.split())


def measure_lisa(arguments, config, folder, shape):
    row = {
        "method": "this",
        "name": f"lisa, {methods.LISA_LAYERS} layers",
        "precision": "exact",
        "weights": "bf16, fp32 masters of what is trained",
        "optimizer": "AdamW, fp32 gradients and moments",
        "liger": False,
        "sequences": shape[0],
        "tokens": shape[0] * shape[1],
    }
    bench = bench_lisa(arguments, config, folder, shape, "lisa")
    if isinstance(bench, str):
        return row | {"checkpointing": None, "status": bench}
    memory = {}
    if arguments.device == "cuda":
        allocated = bench["arenas_bytes"] + bench["workspace_bytes"]
        memory = {"peak_allocated_bytes": allocated, "memory_bytes": bench["memory_bytes"]}
    return row | memory | {
        "checkpointing": bench["gradient_checkpointing"] != "false",
        "status": "ok",
        "milliseconds": 1e3 * bench["step_seconds"],
        "least_milliseconds": 1e3 * bench["least_step_seconds"],
        "tokens_per_second": bench["tokens_per_second"],
        "loss": bench["last_loss"],
        "bench": bench,
    }


def measure_attention(arguments, config, folder):
    """PyTorch's backends, and lisa's kernels on one layer of the model."""
    heads = config["num_attention_heads"]
    head_dim = config["hidden_size"] // heads
    lengths = [min(n, config["max_position_embeddings"]) for n in ATTENTION_TOKENS]
    spec = {"device": arguments.device, "heads": heads, "head_dim": head_dim, "shapes": [[1, n] for n in lengths]}
    rows = run_script("attention.py", spec, folder)
    rows = [{"backend": "SDPA", "status": rows}] if isinstance(rows, str) else rows
    for tokens in lengths:
        bench = bench_lisa(arguments, shapes.single_layer(config), folder, (1, tokens), "full")
        row = {"backend": "lisa", "sequences": 1, "tokens": tokens}
        if isinstance(bench, str):
            rows.append(row | {"status": bench})
            continue
        rows.append(
            row
            | {
                "status": "ok",
                "forward_milliseconds": 1e3 * bench["attention_forward_seconds"],
                "backward_milliseconds": 1e3 * bench["attention_backward_seconds"],
                "gflop_per_second": bench["attention_gflop_per_second"],
            }
        )
    return {"heads": heads, "head_dim": head_dim, "rows": rows}


def machine(arguments):
    """What it was measured on and with."""
    found = {"device": arguments.device, "date": datetime.datetime.now().isoformat(timespec="seconds")}
    found["lisa"] = subprocess.run([arguments.lisa, "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    if arguments.device == "cuda":
        query = "name,driver_version,power.limit,clocks.max.sm,memory.total"
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "-i", "0"]
        values = subprocess.run(command, capture_output=True, text=True).stdout.strip().split(", ")
        found |= dict(zip(query.split(","), values))
    return found


def save(result, arguments):
    card = re.sub(r"[^A-Za-z0-9]+", "-", result["machine"].get("name", "cpu")).strip("-")
    folder = pathlib.Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{card}-{result['machine']['date'][:10]}-peers.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    text = table.markdown(result)
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    print(f"written: {path} and {path.with_suffix('.md').name}")


def main():
    arguments = parse_arguments()
    config = shapes.TINY if arguments.tiny else shapes.LLAMA_2_7B
    result = {"machine": machine(arguments), "config": config, "rows": []}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for shape in arguments.shapes:
            print(f"lisa {shape[0]}x{shape[1]}", file=sys.stderr)
            result["rows"].append(measure_lisa(arguments, config, folder, shape))
        for variant in variants():
            if not re.search(arguments.only, label_of(variant), re.IGNORECASE):
                continue
            print(label_of(variant), file=sys.stderr)
            result["rows"] += measure_variant(variant, arguments, config, folder)
        print("attention", file=sys.stderr)
        result["attention"] = measure_attention(arguments, config, folder)
    save(result, arguments)


if __name__ == "__main__":
    main()

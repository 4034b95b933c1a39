"""Makes tests/golden/smollm2_logits.json: what transformers computes with SmolLM2-135M-Instruct from its GGUF file.

    python tests/golden/make_smollm2_golden.py MODEL.gguf        (pinned requirements: tests/requirements.txt)

The file is the one that `make demo` uses. Its weights are dequantised, rounded to bf16 and held in fp32, as lisa reads
them. Stored are the prompt's ids (all but the first are targets), the loss of predicting it, and for a few positions the largest logits by id and the
first logits of the vocabulary.
"""

import hashlib
import json
import pathlib
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

PROMPT = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\nThe capital of France is Paris.<|im_end|>\n"
POSITIONS = [0, 11, -5, -1]
LARGEST, FIRST = 10, 32


def main():
    path = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16).float())
        ids = tokenizer(PROMPT, add_special_tokens=False, return_tensors="pt").input_ids
        logits = model(ids, use_cache=False).logits[0]
        exact = model.double()(ids, use_cache=False).logits[0]
    print("fp32 - fp64 at most", ((logits - exact).abs().max() / exact.abs().max()).item())
    positions = []
    for position in POSITIONS:
        top = logits[position].topk(LARGEST)
        positions.append({
            "position": position % ids.shape[1],
            "largest": [[i, value] for i, value in zip(top.indices.tolist(), top.values.tolist())],
            "first": logits[position, :FIRST].tolist(),
        })
    stored = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "sequences": [ids[0].tolist()],
        "labels": [ids[0].tolist()],
        "loss": torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:]).item(),
        "largest_absolute": logits.abs().max().item(),
        "positions": positions,
    }
    (pathlib.Path(__file__).parent / "smollm2_logits.json").write_text(json.dumps(stored) + "\n")
    print(stored["sequences"], stored["loss"], tokenizer.decode([p["largest"][0][0] for p in positions]))


if __name__ == "__main__":
    main()

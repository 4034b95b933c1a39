"""Random tiny models on disk, and running lisa on them. What every oracle test shares."""

import json
import os
import pathlib
import shutil
import subprocess

import ml_numpy as mn
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LISA = pathlib.Path(os.environ.get("LISA", ROOT / "lisa")).resolve()
TEMPLATES = ROOT / "tests" / "golden" / "templates"
# the vocabulary of LLaMA 2, which is not part of the project
LLAMA2 = pathlib.Path(os.environ.get("LLAMA2_TOKENIZER", ROOT.parent / "shared" / "data" / "llama2_tokenizer.model"))

LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}

# family, template, tokenizer, and what differs from the plain shape
VARIANTS = {
    "gqa": dict(family="llama", template="llama2", tokenizer="llama2"),
    "tied": dict(family="llama", template="zephyr", tokenizer="llama2", tied=True, kv_heads=4),
    "linear_rope": dict(family="llama", template="vicuna", tokenizer="spm",
                        rope={"rope_type": "linear", "factor": 2.0}),
    "llama3_rope": dict(family="llama", template="llama3", tokenizer="bpe", pre="llama3", rope=LLAMA3_ROPE, theta=500000.0),
    "wide_heads": dict(family="llama", template="llama31", tokenizer="bpe", pre="llama3", head_dim=32, tied=True),
    "attention_bias": dict(family="llama", template="chatml", tokenizer="bpe", pre="smollm", bias="llama"),
    "qwen2_bias": dict(family="qwen2", template="qwen", tokenizer="bpe", pre="qwen2", bias="qwen2", theta=1000000.0),
    "qwen2_tied": dict(family="qwen2", template="chatml", tokenizer="bpe", pre="qwen2", bias="qwen2", tied=True),
}

ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "mistral": "MistralForCausalLM"}


def run_lisa(*arguments, fails=False, text=None):
    """stdout of lisa; with fails the whole result of a run that must fail."""
    done = subprocess.run([str(LISA), *map(str, arguments)], capture_output=True, text=True, input=text)
    if fails:
        assert done.returncode != 0, done.stdout
        return done
    assert done.returncode == 0, f"lisa {' '.join(map(str, arguments))}\n{done.stderr}"
    return done.stdout


def available(variant):
    return VARIANTS[variant]["tokenizer"] != "llama2" or LLAMA2.exists()


# ---- tokenizers

SPLITS = {  # the regular expressions of Llama 3 and Qwen 2
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def write_bpe(folder, pre):
    """The small byte-level vocabulary, with the way a family cuts its text."""
    tokenizer = json.loads((TEMPLATES / "bpe" / "tokenizer.json").read_text())
    whole = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    if pre in SPLITS:
        first = {"type": "Split", "pattern": {"Regex": SPLITS[pre]}, "behavior": "Isolated", "invert": False}
        whole["use_regex"] = False
    else:
        first = {"type": "Digits", "individual_digits": True}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [first, whole]}
    tokenizer["model"]["ignore_merges"] = pre == "llama3"
    tokenizer["normalizer"] = {"type": "NFC"} if pre == "qwen2" else None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    end = "<|im_end|>" if pre != "llama3" else "<|eot_id|>"
    config = {"bos_token": "<|begin_of_text|>", "eos_token": end, "tokenizer_class": "PreTrainedTokenizerFast",
              "clean_up_tokenization_spaces": False, "add_bos_token": pre == "llama3"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return 420  # rows: twenty more than there are tokens


def write_llama2(folder):
    shutil.copy(LLAMA2, folder / "tokenizer.model")
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True,
              "add_eos_token": False, "legacy": True, "tokenizer_class": "LlamaTokenizer",
              "clean_up_tokenization_spaces": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return 32000


def write_spm(folder, name="spm"):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TEMPLATES / name / file, folder / file)
    return 422


# ---- weights

def normal(random, rows, columns, deviation):
    return mn.to_bf16((random.standard_normal((rows, columns)) * deviation).astype(np.float32))


def make_model(folder, variant, layers=3, seed=0, tokenizer=None):
    """A Hugging Face directory with random weights: large enough that most steps have a clear winner, and with strong
    layers, so that a tied model does not repeat its input."""
    v = VARIANTS[variant]
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    tokenizer = tokenizer or v["tokenizer"]
    if tokenizer == "llama2":
        vocabulary = write_llama2(folder)
    else:
        vocabulary = write_bpe(folder, v["pre"]) if tokenizer == "bpe" else write_spm(folder, tokenizer)
    hidden, middle, heads = 64, 160, 4
    kv, size = v.get("kv_heads", 2), v.get("head_dim", 16)
    random = np.random.default_rng(seed)
    tensors = {"model.embed_tokens.weight": normal(random, vocabulary, hidden, 6 / hidden**0.5)}
    if not v.get("tied"):
        tensors["lm_head.weight"] = normal(random, vocabulary, hidden, 6 / hidden**0.5)
    tensors["model.norm.weight"] = mn.to_bf16(1 + 0.1 * random.standard_normal(hidden).astype(np.float32))
    for layer in range(layers):
        name = f"model.layers.{layer}."
        shapes = {"self_attn.q_proj": (heads * size, hidden, 1.5), "self_attn.k_proj": (kv * size, hidden, 1.5),
                  "self_attn.v_proj": (kv * size, hidden, 1), "self_attn.o_proj": (hidden, heads * size, 3),
                  "mlp.gate_proj": (middle, hidden, 1), "mlp.up_proj": (middle, hidden, 1),
                  "mlp.down_proj": (hidden, middle, 4)}
        for part, (rows, columns, gain) in shapes.items():
            tensors[name + part + ".weight"] = normal(random, rows, columns, gain / columns**0.5)
        biases = {"qwen2": "qkv", "llama": "qkvo"}.get(v.get("bias"), "")
        for part in biases:
            rows = shapes[f"self_attn.{part}_proj"][0]
            tensors[name + f"self_attn.{part}_proj.bias"] = normal(random, 1, rows, 0.5)[0]
        for part in ("input_layernorm", "post_attention_layernorm"):
            tensors[name + part + ".weight"] = mn.to_bf16(1 + 0.1 * random.standard_normal(hidden).astype(np.float32))
    mn.save(tensors, folder / "model.safetensors")
    config = {"architectures": [ARCHITECTURES[v["family"]]], "model_type": v["family"], "vocab_size": vocabulary,
              "hidden_size": hidden, "intermediate_size": middle, "num_hidden_layers": layers,
              "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": size, "hidden_act": "silu",
              "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": v.get("theta", 10000.0),
              "rope_scaling": v.get("rope"), "tie_word_embeddings": bool(v.get("tied")),
              "bos_token_id": 0 if v["tokenizer"] == "bpe" else 1, "eos_token_id": 2, "torch_dtype": "bfloat16"}
    if v["family"] == "llama":
        config["attention_bias"] = v.get("bias") == "llama"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def train(model, variant, folder):
    """One step, so that the directory is what a training run leaves: template, end tokens, configuration."""
    run_lisa("train", f"model_name_or_path={model}", f"dataset={ROOT / 'examples' / 'identity.jsonl'}",
             f"template={VARIANTS[variant]['template']}", "max_samples=8", "max_steps=1", "cutoff_len=512", "learning_rate=1e-4",
             "warmup_steps=0", f"output_dir={folder}", "log_level=warning")
    return folder

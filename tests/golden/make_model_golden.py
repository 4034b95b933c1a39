"""Makes tests/golden/models/: small random models and what transformers computes with them.

    python tests/golden/make_model_golden.py        (pinned requirements: tests/requirements.txt)

Each case is a Hugging Face directory (config.json, model.safetensors in bf16) with two more files:
    expected.json         the sequences, their labels (-100: no target) and the loss
    expected.safetensors  fp32: "logits" [all tokens, V] and "gradient/<parameter>" for every parameter
Each sequence goes through the model on its own, in fp32 on the bf16 weights; the loss is the sum over the targets of all
sequences divided by their number. Gains and biases are random too, so that none can be forgotten unseen.
Some have a pad_token_id: that row of the embedding gets no gradient from the input (nn.Embedding's padding_idx).
A config_old.json holds the same model in the spelling of transformers before 5 (rope_theta, rope_scaling).
"""

import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

FOLDER = pathlib.Path(__file__).parent / "models"
SHORT = [1, 7, 33, 5, 2]
WEIGHT_DEVIATION = 0.2  # large enough that attention is far from uniform

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,  # wavelengths 6 .. 20000 fall on both sides of 16 and 64 and between
}

# name -> shape and flags (config.json's keys), then what only this script reads: lengths, spelling of config.json
CASES = {
    "llama_mha": dict(model_type="llama", hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                      num_attention_heads=4, num_key_value_heads=4, vocab_size=67),
    "llama_gqa_head_dim": dict(model_type="llama", hidden_size=32, intermediate_size=36, num_hidden_layers=2,
                               num_attention_heads=4, num_key_value_heads=2, head_dim=6, vocab_size=61,
                               rms_norm_eps=1e-5),
    "llama_wide_heads": dict(model_type="llama", hidden_size=24, intermediate_size=33, num_hidden_layers=1,
                             num_attention_heads=3, num_key_value_heads=1, head_dim=64, vocab_size=40,
                             rope_parameters=dict(rope_type="default", rope_theta=500000.0),
                             lengths=[131, 64, 1, 65]),
    "llama_tied": dict(model_type="llama", hidden_size=24, intermediate_size=40, num_hidden_layers=3,
                       num_attention_heads=3, num_key_value_heads=1, vocab_size=71, tie_word_embeddings=True,
                       rope_parameters=dict(rope_type="default", rope_theta=100000.0), rms_norm_eps=1e-5,
                       pad_token_id=2, spelling="old"),  # pad is eos, as in SmolLM2
    "llama_attention_bias": dict(model_type="llama", hidden_size=24, intermediate_size=28, num_hidden_layers=2,
                                 num_attention_heads=2, num_key_value_heads=1, vocab_size=53, attention_bias=True),
    "llama_rope_linear": dict(model_type="llama", hidden_size=24, intermediate_size=28, num_hidden_layers=2,
                              num_attention_heads=2, num_key_value_heads=2, vocab_size=53,
                              rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0),
                              spelling="both"),
    "llama_rope_llama3": dict(model_type="llama", hidden_size=32, intermediate_size=28, num_hidden_layers=2,
                              num_attention_heads=2, num_key_value_heads=1, vocab_size=53,
                              rope_parameters=LLAMA3_ROPE, max_position_embeddings=512, eos_token_id=[2, 7, 9],
                              lengths=[97, 7, 33], spelling="both"),
    "mistral_window": dict(model_type="mistral", hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                           num_attention_heads=4, num_key_value_heads=2, vocab_size=59, sliding_window=9,
                           lengths=[1, 8, 9, 10, 41]),
    "qwen2": dict(model_type="qwen2", hidden_size=24, intermediate_size=40, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, vocab_size=57, use_sliding_window=False,
                  sliding_window=5, max_window_layers=1, bos_token_id=1, eos_token_id=2, spelling="old"),
    "qwen2_tied_window": dict(model_type="qwen2", hidden_size=24, intermediate_size=32, num_hidden_layers=3,
                              num_attention_heads=4, num_key_value_heads=1, vocab_size=57, tie_word_embeddings=True,
                              use_sliding_window=True, sliding_window=6, max_window_layers=1, bos_token_id=1,
                              eos_token_id=2, pad_token_id=5, spelling="both"),
}


def random_model(settings):
    """A model with bf16 weights held as fp32."""
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(**settings), attn_implementation="eager", dtype=torch.float32
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn_like(parameter)
            if "norm" in name:
                values = 1 + 0.3 * values
            elif name.endswith("bias"):
                values = 0.3 * values
            else:
                values = WEIGHT_DEVIATION * values
            parameter.copy_(values.to(torch.bfloat16).to(torch.float32))
    return model


def random_sequences(lengths, vocabulary, pad):
    """Ids, a pad among them, and labels that ignore a prompt; the fourth sequence of a case has no target at all."""
    sequences = []
    for index, length in enumerate(lengths):
        ids = torch.randint(0, vocabulary, (length,))
        if pad is not None:
            ids[-length // 2] = pad
        labels = ids.clone()
        labels[: length // 3] = -100
        if length > 12:
            labels[length // 2 : length // 2 + 3] = -100
        if index == 3 and len(lengths) > 4:
            labels[:] = -100
        sequences.append((ids, labels))
    return sequences


def run(model, sequences):
    """Logits of every sequence, the loss, and the gradients left in the parameters."""
    targets = sum(int((labels[1:] != -100).sum()) for _, labels in sequences)
    logits, loss = [], 0.0
    for ids, labels in sequences:
        out = model(input_ids=ids[None], use_cache=False).logits[0]
        logits.append(out.detach())
        part = torch.nn.functional.cross_entropy(out[:-1], labels[1:], ignore_index=-100, reduction="sum") / targets
        part.backward()
        loss += part.item()
    return torch.cat(logits), loss


def old_spelling(config, settings):
    """config.json as transformers 4 wrote it."""
    config = dict(config)
    rope = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type" if kind == "linear" else "rope_type": kind, **rope}
    config.pop("layer_types", None)
    config["torch_dtype"] = config.pop("dtype")
    if "sliding_window" in settings:  # transformers 5 writes null where use_sliding_window is false
        config["sliding_window"] = settings["sliding_window"]
    return config


def check_config(path, model, sequences, logits):
    """The written configuration and the weights must give the same logits."""
    reloaded = AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(path), attn_implementation="eager", dtype=torch.float32
    )
    reloaded.load_state_dict(model.state_dict())
    out = torch.cat([reloaded(input_ids=ids[None], use_cache=False).logits[0].detach() for ids, _ in sequences])
    assert torch.equal(out, logits), path


def worst(reference, exact):
    """max|d| / max|ref|: what fp32 itself loses."""
    return ((reference.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-30)).item()


def make(name, settings, seed):
    settings = dict(settings)
    lengths, spelling = settings.pop("lengths", SHORT), settings.pop("spelling", "new")
    torch.manual_seed(seed)
    model = random_model(settings)
    sequences = random_sequences(lengths, settings["vocab_size"], settings.get("pad_token_id"))
    logits, loss = run(model, sequences)
    stored = {"logits": logits.contiguous()}
    for parameter_name, parameter in model.named_parameters():
        stored["gradient/" + parameter_name] = parameter.grad.clone()

    # how far fp32 is from fp64 bounds what a comparison at 1e-5 can mean
    model.zero_grad()
    exact_logits, _ = run(model.double(), sequences)
    loss_of_precision = {"logits": worst(logits, exact_logits)}
    for parameter_name, parameter in model.named_parameters():
        loss_of_precision[parameter_name] = worst(stored["gradient/" + parameter_name], parameter.grad)
    tensor = max(loss_of_precision, key=loss_of_precision.get)
    assert loss_of_precision[tensor] < 3e-6, (name, tensor, loss_of_precision[tensor])

    folder = FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    if spelling != "new":
        target = "config.json" if spelling == "old" else "config_old.json"
        (folder / target).write_text(json.dumps(old_spelling(config, settings), indent=2) + "\n")
    for path in folder.glob("config*.json"):
        check_config(path, model, sequences, logits)
    save_file(stored, folder / "expected.safetensors", metadata={"format": "pt"})
    expected = {
        "sequences": [ids.tolist() for ids, _ in sequences],
        "labels": [labels.tolist() for _, labels in sequences],
        "loss": loss,
    }
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name:24} loss {loss:.6f}  fp32 - fp64 at most {loss_of_precision[tensor]:.1e} ({tensor})  {size} bytes")
    return size


def main():
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    total = sum(make(name, settings, seed) for seed, (name, settings) in enumerate(CASES.items(), 1))
    print(f"{total} bytes in all")


if __name__ == "__main__":
    main()

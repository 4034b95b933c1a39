#!/usr/bin/env python3
"""Makes gguf/*.gguf out of models/*: the same weights under GGUF's names, in GGUF's order of rows (llama.cpp's
convert_hf_to_gguf.py permutes the query and key rows of llama, not of qwen2), with the keys its converter writes."""
import json
import math
import os
import gguf
import numpy as np
import torch
from safetensors.torch import load_file

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        layer, rest = stem[len("model.layers."):].split(".", 1)
        return f"blk.{layer}.{NAMES[rest]}.{kind}"
    return f"{NAMES[stem]}.{kind}"


def permute(weights, heads):
    return (weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2)
            .reshape(weights.shape))


def llama3_factors(config, rope):
    base, dim = rope["rope_theta"], config["head_dim"]
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    factors = []
    for frequency in 1.0 / (base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)):
        wavelength = 2 * math.pi / frequency
        if wavelength < old / high:
            factors.append(1)
        elif wavelength > old / low:
            factors.append(rope["factor"])
        else:
            smooth = (old / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


def convert(name, architecture):
    folder = os.path.join(HERE, "models", name)
    config = json.load(open(os.path.join(folder, "config.json")))
    writer = gguf.GGUFWriter(os.path.join(HERE, "gguf", name + ".gguf"), architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = config["rope_parameters"]
    writer.add_rope_freq_base(rope["rope_theta"])
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config, rope))
    ends = config["eos_token_id"]
    ends = ends if isinstance(ends, list) else [] if ends is None else [ends]
    for add, end in zip((writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id), ends):
        add(end)
    if config["bos_token_id"] is not None:
        writer.add_bos_token_id(config["bos_token_id"])
    for key, value in load_file(os.path.join(folder, "model.safetensors")).items():
        data = value.to(torch.float32).numpy()
        if architecture == "llama" and ("q_proj" in key or "k_proj" in key):
            data = permute(data, config["num_attention_heads" if "q_proj" in key else "num_key_value_heads"])
        if data.ndim == 1:
            writer.add_tensor(gguf_name(key), np.ascontiguousarray(data))
        else:
            bf16 = (np.ascontiguousarray(data).view(np.uint32) >> 16).astype(np.uint16)
            writer.add_tensor(gguf_name(key), bf16.view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


os.makedirs(os.path.join(HERE, "gguf"), exist_ok=True)
convert("llama_attention_bias", "llama")
convert("llama_rope_llama3", "llama")
convert("llama_rope_linear", "llama")
convert("qwen2_tied_window", "qwen2")

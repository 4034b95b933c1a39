#!/usr/bin/env python3
"""Makes rope_tables.safetensors: cosines and sines of transformers' rotary embedding, positions 0 .. 63, D = 64."""
import os
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

CONFIGS = {
    "plain": {"rope_type": "default", "rope_theta": 100000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
    "llama3": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
}
tensors = {}
for name, rope in CONFIGS.items():
    config = LlamaConfig(hidden_size=128, num_attention_heads=2, head_dim=64, max_position_embeddings=131072,
                         rope_parameters=rope)
    cosine, sine = LlamaRotaryEmbedding(config)(torch.zeros(1), torch.arange(64)[None])
    tensors[name + ".cosine"] = cosine[0, :, :32].contiguous()
    tensors[name + ".sine"] = sine[0, :, :32].contiguous()
save_file(tensors, os.path.join(os.path.dirname(os.path.abspath(__file__)), "rope_tables.safetensors"))

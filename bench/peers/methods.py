"""What is trained and in which precision: LoRA by PEFT, full fine-tuning, and LISA as LMFlow does it.

Precisions
  bf16   weights, gradients and AdamW's moments are bf16 (LoRA: the adapters too): the fastest and smallest there is
  mixed  bf16 autocast over fp32 weights (LoRA: fp32 adapters on bf16 weights, PEFT's default), fp32 gradients and moments
"""
import random

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

LISA_LAYERS = 2


def make_model(config, device, precision, lora_rank, checkpointing):
    """A model with random weights, made on the device."""
    values = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    dtype = torch.float32 if precision == "mixed" and not lora_rank else torch.bfloat16
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**values), dtype=dtype, attn_implementation="sdpa")
    model.config.use_cache = False
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if lora_rank:
        model = add_adapters(model, lora_rank, precision)
    return model.train()


def add_adapters(model, rank, precision):
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, lora, autocast_adapter_dtype=precision == "mixed")


def make_optimizer(parameters, learning_rate):
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0, fused=parameters[0].is_cuda)


def describe_precision(method, precision):
    """(weights, trained weights' gradients and moments) for the table."""
    if precision == "bf16":
        return "bf16", "AdamW, bf16 gradients and moments"
    if method.startswith("lora"):
        return "bf16, fp32 adapters, autocast", "AdamW, fp32 gradients and moments"
    return "fp32, autocast to bf16", "AdamW, fp32 gradients and moments"


class LmflowLisa:
    """LMFlow's DynamicLayerActivationCallback: freezes all decoder layers, then unfreezes some drawn at random. The
    optimizer holds every weight and passes over those without a gradient. Embedding, head and final norm are never
    frozen."""

    def __init__(self, model, layers=LISA_LAYERS, seed=0):
        self.model, self.count, self.random = model, layers, random.Random(seed)
        self.active = []

    def draw(self):
        layers = self.model.model.layers
        for layer in layers:
            layer.requires_grad_(False)
        self.active = sorted(self.random.sample(range(len(layers)), self.count))
        for index in self.active:
            layers[index].requires_grad_(True)

    def expected(self):
        """The names of the weights that may change now."""
        drawn = tuple(f"model.layers.{index}." for index in self.active)
        return {name for name, _ in self.model.named_parameters() if ".layers." not in name or name.startswith(drawn)}


def checksum(weights):
    bits = weights.detach().view(torch.int16 if weights.element_size() == 2 else torch.int32).to(torch.int64)
    return int(bits.sum()), int((bits * bits).sum())


def check_changed_weights(model, lisa, step):
    """Two draws, one step each: the weights that change are exactly those of embedding, head, final norm and the drawn
    layers. Raises when they are not."""
    for _ in range(2):
        lisa.draw()
        before = {name: checksum(p) for name, p in model.named_parameters()}
        step()
        changed = {name for name, p in model.named_parameters() if checksum(p) != before[name]}
        if changed != lisa.expected():
            wrong = sorted(changed ^ lisa.expected())
            raise RuntimeError(f"LISA changed other weights than it should: {wrong[:4]}")

"""gguf-py reads every exported GGUF file; its blocks and floats are ours; Hugging Face -> GGUF -> Hugging Face."""

import pathlib
import tempfile
import unittest

import gguf
import numpy as np

import ml_numpy as mn
import models

TYPES = {"bf16": "BF16", "f16": "F16", "q8_0": "Q8_0", "q4_0": "Q4_0"}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
HEADS, KV_HEADS = 4, 2


def gguf_name(name):
    stem, kind = name.rsplit(".", 1)
    if not stem.startswith("model.layers."):
        return f"{NAMES[stem]}.{kind}"
    layer, rest = stem[len("model.layers."):].split(".", 1)
    return f"blk.{layer}.{NAMES[rest]}.{kind}"


def permute(values, heads):
    """convert_hf_to_gguf.py's order of the rows of query and key heads."""
    return (values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:]).swapaxes(1, 2)
            .reshape(values.shape))


def quantised(values, kind):
    if kind == gguf.GGMLQuantizationType.F32:
        return np.ascontiguousarray(values)
    if kind == gguf.GGMLQuantizationType.F16:
        return values.astype(np.float16)
    return gguf.quants.quantize(np.ascontiguousarray(values), kind)


class GgufPy(unittest.TestCase):
    def check_file(self, path, tensors, variant, outtype):
        v = models.VARIANTS[variant]
        reader = gguf.GGUFReader(path)
        stored = {tensor.name: tensor for tensor in reader.tensors}
        stored.pop("rope_freqs.weight", None)
        self.assertEqual(set(stored), {gguf_name(name) for name in tensors})
        for name, bits in tensors.items():
            values, tensor = mn.from_bf16(bits), stored[gguf_name(name)]
            if v["family"] == "llama" and "q_proj" in name:
                values = permute(values, HEADS)
            if v["family"] == "llama" and "k_proj" in name:
                values = permute(values, v.get("kv_heads", KV_HEADS))
            kind = TYPES[outtype] if values.ndim == 2 else "F32"
            if kind == "Q4_0" and tensor.name == ("token_embd.weight" if v.get("tied") else "output.weight"):
                kind = "Q8_0"
            self.assertEqual(tensor.tensor_type.name, kind, name)
            self.assertEqual(list(tensor.shape), list(values.shape[::-1]), name)
            self.assertEqual(np.asarray(tensor.data).tobytes(), quantised(values, tensor.tensor_type).tobytes(), name)
        return reader

    def check_dequantised(self, path, folder, v):
        """gguf-py's floats of a quantised file, rounded to bf16, are the weights that lisa reads from it."""
        ours = mn.load(folder / "model.safetensors")
        for tensor in gguf.GGUFReader(path).tensors:
            if tensor.name == "rope_freqs.weight":
                continue
            name = next(name for name in ours if gguf_name(name) == tensor.name)
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(ours[name].shape)
            expected = mn.from_bf16(ours[name])
            if v["family"] == "llama" and ("q_proj" in name or "k_proj" in name):
                expected = permute(expected, HEADS if "q_proj" in name else v.get("kv_heads", KV_HEADS))
            self.assertEqual(mn.to_bf16(values).tobytes(), mn.to_bf16(expected).tobytes(), tensor.name)

    def check_variant(self, variant):
        if not models.available(variant):
            self.skipTest(f"{models.LLAMA2} is not there")
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            trained = models.train(models.make_model(scratch / "model", variant), variant, scratch / "trained")
            tensors = mn.load(trained / "model.safetensors")
            for outtype in TYPES:
                models.run_lisa("export", trained, f"export_dir={scratch / outtype}", f"outtype={outtype}",
                                "log_level=warning")
                path = next((scratch / outtype).glob("*.gguf"))
                self.check_file(path, tensors, variant, outtype)
                back = scratch / (outtype + "_back")
                models.run_lisa("export", path, f"export_dir={back}", "export_format=hf", "log_level=warning")
                self.check_dequantised(path, back, models.VARIANTS[variant])
                if outtype == "bf16":
                    self.assertEqual((back / "model.safetensors").read_bytes(),
                                     (trained / "model.safetensors").read_bytes())


for name in models.VARIANTS:
    setattr(GgufPy, f"test_{name}", lambda self, variant=name: self.check_variant(variant))

if __name__ == "__main__":
    unittest.main()

"""transformers loads every exported directory: its fp32 logits are ours, and its tokenizer and chat template give our
ids. Directories come straight from a training run and by way of GGUF files of both kinds."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import models

LOGITS = pathlib.Path(os.environ.get("LOGITS", models.ROOT / "build" / "tests" / "oracle" / "logits"))
PROMPTS = ["  Two spaces, 12345 and\nnew lines\n", "Who are you?", "na\u00efve caf\u00e9 \u4f60\u597d \U0001f600", "What's 3.14?"]

torch.set_num_threads(1)
logging.set_verbosity_error()
logging.disable_progress_bar()


def our_logits(folder, ids):
    raw = subprocess.run([str(LOGITS), str(folder), *map(str, ids)], capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.float32).reshape(len(ids), -1)


class Transformers(unittest.TestCase):
    def check_folder(self, folder):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        # transformers' own conversion of a tokenizer.model alone takes runs of spaces apart (docs/tokenizers.md)
        alone = not (pathlib.Path(folder) / "tokenizer.json").exists()
        for prompt in PROMPTS[alone:]:
            ours = json.loads(models.run_lisa("generate", folder, "-p", prompt, "-n", 1, "--temp", 0, "--json",
                                              "--log_level", "warning"))["prompt_ids"]
            theirs = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True,
                                                   return_dict=False)
            self.assertEqual(theirs, ours, prompt)
        with torch.no_grad():
            reference = model(torch.tensor([ours]), use_cache=False).logits[0].numpy()
        error = np.abs(our_logits(folder, ours) - reference).max() / np.abs(reference).max()
        self.assertLess(error, 1e-5)
        return error

    def check_variant(self, variant):
        if not models.available(variant):
            self.skipTest(f"{models.LLAMA2} is not there")
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            trained = models.train(models.make_model(scratch / "model", variant), variant, scratch / "trained")
            models.run_lisa("export", trained, f"export_dir={scratch / 'hf'}", "export_format=hf", "export_size=0.0005",
                            "log_level=warning")
            direct = self.check_folder(scratch / "hf")
            if models.VARIANTS[variant]["tokenizer"] == "spm":
                return  # its rule for spaces is none of GGUF's: test_llama_cpp.py has what becomes of it
            for outtype in ("bf16", "q8_0"):
                models.run_lisa("export", trained, f"export_dir={scratch / outtype}", f"outtype={outtype}",
                                "log_level=warning")
                gguf = next((scratch / outtype).glob("*.gguf"))
                models.run_lisa("export", gguf, f"export_dir={scratch / ('from_' + outtype)}", "export_format=hf",
                                "log_level=warning")
                self.check_folder(scratch / ("from_" + outtype))
            print(f"{variant}: logits differ by {direct:.1e} of the largest", flush=True)


for name in models.VARIANTS:
    setattr(Transformers, f"test_{name}", lambda self, variant=name: self.check_variant(variant))

if __name__ == "__main__":
    unittest.main()

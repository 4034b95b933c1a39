"""llama.cpp loads what lisa exports, renders the trained chat template with its own engine, finds the trained ids and
gives lisa's greedy answers; its own quantisation of a bf16 file gives lisa's blocks.

Its matrix products round activations to the type of the weights (F16, BF16) or to 8 bits (Q8_0, Q4_0), which lisa's do
not. So where its best token is another than lisa's, lisa's must be as good up to what such rounding moves logits by;
llama.cpp then goes on with lisa's token. The first such place of each answer is printed.
"""

import json
import os
import pathlib
import tempfile
import unittest

import gguf
import llama_cpp
import numpy as np

import models

TOKENS = 64
PROMPTS = ["Who are you?", "What is the capital of France?", "Count to five.", "Why is the sky blue?",
           "Write a line about the sea.", "Name three fruits.", "Is 17 a prime number?", "Translate 'house' into French.",
           "How do I boil an egg?", "Tell me a joke about cats."]
# how far below the best logit the token of lisa's answer may lie, as a share of the largest logit's magnitude
ROUNDING = {"BF16": 0.03, "F16": 0.001, "Q8_0": 0.15, "Q4_0": 0.15}


def open_file(path):
    return llama_cpp.Llama(str(path), n_ctx=512, n_batch=512, n_threads=1, n_threads_batch=1, logits_all=False,
                           verbose=False, use_mmap=True, type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)


def chat_ids(llama, prompt):
    """The ids of a chat with one question, by the file's own template."""
    metadata = llama.metadata
    def piece(token):
        return llama._model.token_get_text(token) if token >= 0 else ""
    formatter = llama_cpp.llama_chat_format.Jinja2ChatFormatter(
        template=metadata["tokenizer.chat_template"], eos_token=piece(llama.token_eos()),
        bos_token=piece(llama.token_bos()))
    made = formatter(messages=[{"role": "user", "content": prompt}])
    return llama.tokenize(made.prompt.encode(), add_bos=not made.added_special, special=True)


def logits_after(llama, ids):
    llama.eval(ids)
    pointer = llama_cpp.llama_get_logits_ith(llama._ctx.ctx, -1)
    return np.ctypeslib.as_array(pointer, shape=(llama.n_vocab(),)).copy()


def is_end(llama, token):
    return llama_cpp.llama_vocab_is_eog(llama._model.vocab, token)


def compare(llama, prompt_ids, answer, ended, rounding):
    """The first token (0 is the answer's first) that llama.cpp would have chosen otherwise, TOKENS when there is none,
    and how far below its own choice lisa's lies at most."""
    llama.reset()
    logits = logits_after(llama, prompt_ids)
    ends = [token for token in range(llama.n_vocab()) if is_end(llama, token)]
    first, largest = TOKENS, 0.0
    for step in range(len(answer) + ended):
        token = int(logits.argmax())
        ours = answer[step] if step < len(answer) else max(ends, key=lambda end: logits[end])
        if token != ours:
            below = float((logits[token] - logits[ours]) / np.abs(logits).max())
            assert below < rounding, f"token {step}: llama.cpp {token}, lisa {ours}, {below:.4f} below"
            first, largest = min(first, step), max(largest, below)
        if step < len(answer):
            logits = logits_after(llama, [ours])
    return first, largest


def quantise(path, to, outtype):
    """llama.cpp's own quantisation of a GGUF file."""
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}[outtype]
    parameters.nthread = 1
    assert llama_cpp.llama_model_quantize(str(path).encode(), str(to).encode(), parameters) == 0


def differing_tensors(ours, theirs):
    """Names of the tensors that two GGUF files do not hold alike, with their types."""
    a, b = ({tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors} for path in (ours, theirs))
    assert set(a) == set(b)
    return [(name, a[name].tensor_type.name, b[name].tensor_type.name) for name in a
            if a[name].tensor_type != b[name].tensor_type or not np.array_equal(a[name].data, b[name].data)]


class LlamaCpp(unittest.TestCase):
    def check_file(self, folder, model, label):
        path = next(pathlib.Path(folder).glob("*.gguf"))
        kind = path.stem.rsplit("-", 1)[-1]
        llama = open_file(path)
        firsts, largest = [], 0.0
        for prompt in PROMPTS:
            ours = json.loads(models.run_lisa("generate", model, "-p", prompt, "-n", TOKENS, "--temp", 0, "--json",
                                              "--log_level", "warning", "--threads", 1))
            ids = chat_ids(llama, prompt)
            self.assertEqual(ids, ours["prompt_ids"], prompt)
            first, below = compare(llama, ids, ours["ids"], ours["finish_reason"] == "stop", ROUNDING[kind])
            firsts.append(first)
            largest = max(largest, below)
        llama.close()
        print(f"{label} {kind}: {sum(first == TOKENS for first in firsts)} of {len(PROMPTS)} answers equal, first other "
              f"token at {[first for first in firsts if first < TOKENS]}, at most {largest:.4f} below", flush=True)
        return firsts

    def check_variant(self, variant):
        if not models.available(variant):
            self.skipTest(f"{models.LLAMA2} is not there")
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            trained = models.train(models.make_model(scratch / "model", variant), variant, scratch / "trained")
            for outtype in ("bf16", "f16", "q8_0", "q4_0"):
                out = scratch / outtype
                models.run_lisa("export", trained, f"export_dir={out}", f"outtype={outtype}", "log_level=warning")
                source = trained
                if outtype in ("q8_0", "q4_0"):  # lisa too with the quantised weights
                    source = next(out.glob("*.gguf"))
                    quantise(next((scratch / "bf16").glob("*.gguf")), scratch / "theirs.gguf", outtype)
                    self.assertEqual(differing_tensors(source, scratch / "theirs.gguf"), [])
                firsts = self.check_file(out, source, variant)
                if outtype == "f16":
                    self.assertGreaterEqual(sum(first == TOKENS for first in firsts), 5)


for name in models.VARIANTS:
    setattr(LlamaCpp, f"test_{name}", lambda self, variant=name: self.check_variant(variant))


class Tuned(unittest.TestCase):
    """A real model that lisa tuned: the folder in LISA_TUNED, such as out/demo."""

    def test_tuned_model(self):
        tuned = os.environ.get("LISA_TUNED")
        if not tuned:
            self.skipTest("LISA_TUNED names no tuned model")
        for outtype in ("bf16", "f16", "q8_0"):
            with tempfile.TemporaryDirectory() as scratch:
                out = pathlib.Path(scratch) / outtype
                models.run_lisa("export", tuned, f"export_dir={out}", f"outtype={outtype}", "log_level=warning")
                source = tuned if outtype in ("bf16", "f16") else next(out.glob("*.gguf"))
                LlamaCpp.check_file(self, out, source, "tuned")


if __name__ == "__main__":
    unittest.main()

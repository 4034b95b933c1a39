"""The TEMPLATE of the Modelfile, rendered by Go's text/template as Ollama does, gives the text of the Jinja template that
was trained, but for the BOS at its start, which Ollama puts there when the file says so (add_bos_token)."""

import json
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import gguf
from jinja2.sandbox import ImmutableSandboxedEnvironment

import models

GO = shutil.which("go")
# template: the vocabulary that has its tokens
TEMPLATES = {"alpaca": "spm", "llama2": "spm", "llama3": "bpe", "llama31": "bpe", "chatml": "bpe", "smollm": "bpe",
             "qwen": "bpe", "qwen2": "bpe", "zephyr": "spm", "mistral_v1": "spm", "mistral_old": "spm",
             "mistral_v3": "spm_inst", "vicuna": "spm"}
TALKS = [["Who are you?"], ["Hello", "Hi, \"you\" \\ there", "What {{ is }} 2 + 2?"],
         ["a", "b", "c", "d", "na\u00efve\n\nquestion"]]
SYSTEMS = [None, "Answer in \"one\" word.\nBe kind."]


def messages_of(talk):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(talk)]


@unittest.skipUnless(GO, "Go is not there")
class Modelfile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.program = pathlib.Path(cls.folder.name) / "render"
        subprocess.run([GO, "build", "-o", cls.program, pathlib.Path(__file__).parent / "render.go"], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def check_template(self, template):
        scratch = pathlib.Path(tempfile.mkdtemp(dir=self.folder.name))
        model = models.make_model(scratch / "model", "qwen2_tied", tokenizer=TEMPLATES[template])
        out = scratch / "out"
        models.run_lisa("export", model, f"export_dir={out}", f"template={template}", "log_level=warning")
        fields = gguf.GGUFReader(next(out.glob("*.gguf"))).fields
        tokens = fields["tokenizer.ggml.tokens"].contents()
        bos, eos = (tokens[fields[f"tokenizer.ggml.{which}_token_id"].contents()] for which in ("bos", "eos"))
        jinja = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
            fields["tokenizer.chat_template"].contents())
        for talk in TALKS:
            for system in SYSTEMS:
                messages = messages_of(talk)
                head = [] if system is None else [{"role": "system", "content": system}]
                expected = jinja.render(messages=head + messages, add_generation_prompt=True, bos_token=bos,
                                        eos_token=eos)
                adds = fields["tokenizer.ggml.add_bos_token"].contents()
                self.assertEqual(expected.startswith(bos), adds)
                rendered = subprocess.run([self.program, out / "Modelfile"], check=True, capture_output=True, text=True,
                                          input=json.dumps({"system": system, "messages": messages})).stdout
                self.assertEqual((bos if adds else "") + rendered, expected)


for name in TEMPLATES:
    setattr(Modelfile, f"test_{name}", lambda self, template=name: self.check_template(template))

if __name__ == "__main__":
    unittest.main()

"""Makes tests/golden/templates.json: conversations as transformers renders and tokenises them, and Jinja texts to
recognise; and tests/golden/templates/*, small vocabularies trained on the conversations.

    make tests && python tests/golden/make_template_golden.py      (pinned requirements: tests/requirements.txt)

"cases": text of a conversation under the Jinja that models of the family carry (alpaca and vicuna, which come without
one: under their authors' prompt functions). "published": Jinja texts and the template each is, or null. "ours": what
lisa writes, taken from build/tests/test_template; the script renders it and fails unless it equals the cases.
The Jinja texts of Qwen2.5, Llama 3.1 and Mistral v0.3 are shortened where they deal with tools.
"""

import json
import pathlib
import shutil
import subprocess
import tempfile

import sentencepiece
import tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

GOLDEN = pathlib.Path(__file__).parent
TEST = GOLDEN.parent.parent / "build" / "tests" / "test_template"

CHATML_LOOP = (
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chatml(default=None):
    condition = "{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    start = "" if default is None else condition + default + "<|im_end|>\n' }}{% endif %}"
    return "{% for message in messages %}" + start + CHATML_LOOP


ROLES_ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}" + ROLES_ALTERNATE +
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + "
    "'<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

LLAMA31 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- The system message, to slot it in where it belongs. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" + message.content + "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

QWEN25 = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {{- tool_call.arguments | tojson }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)

MISTRAL_HEAD = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
"""

MISTRAL_V1 = MISTRAL_HEAD + """
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- " [INST] " + system_message + "\\n\\n" + message["content"] + " [/INST]" }}
        {%- else %}
            {{- " [INST] " + message["content"] + " [/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] + eos_token}}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported') }}
    {%- endif %}
{%- endfor %}
"""

MISTRAL_OLD = (
    "{{ bos_token }}{% for message in messages %}" + ROLES_ALTERNATE + "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)

MISTRAL_V3 = MISTRAL_HEAD + """{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" + tools | tojson + "][/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}
"""

SMOLLM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
FAMILIES = {
    "llama2": (LLAMA2, "<s>", "</s>"),
    "llama3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>"),
    "llama31": (LLAMA31, "<|begin_of_text|>", "<|eot_id|>"),
    "chatml": (chatml(), "<s>", "<|im_end|>"),
    "smollm": (chatml(SMOLLM), "<|im_start|>", "<|im_end|>"),
    "qwen": (QWEN25, None, "<|im_end|>"),
    "qwen2": (chatml("You are a helpful assistant."), None, "<|im_end|>"),
    "zephyr": (ZEPHYR, "<s>", "</s>"),
    "mistral_v1": (MISTRAL_V1, "<s>", "</s>"),
    "mistral_old": (MISTRAL_OLD, "<s>", "</s>"),
    "mistral_v3": (MISTRAL_V3, "<s>", "</s>"),
    "alpaca": (None, "<s>", "</s>"),
    "vicuna": (None, "<s>", "</s>"),
}


def render(jinja, bos, eos, messages, generate):
    tokens = {"eos_token": eos} if bos is None else {"bos_token": bos, "eos_token": eos}
    texts, _ = render_jinja_template([messages], chat_template=jinja, add_generation_prompt=generate, **tokens)
    return texts[0]


def alpaca(messages, generate):
    """Stanford's PROMPT_DICT, one turn after the other; the answer follows at once and ends with EOS."""
    with_input = any(message.get("input") for message in messages)
    text = (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        if with_input else "Below is an instruction that describes a task. "
    ) + "Write a response that appropriately completes the request."
    if messages[0]["role"] == "system":
        text, messages = messages[0]["content"], messages[1:]
    for message in messages:
        if message["role"] == "user":
            text += "\n\n### Instruction:\n" + message["content"]
            text += "\n\n### Input:\n" + message["input"] if message.get("input") else ""
            text += "\n\n### Response:"
        else:
            text += message["content"] + "</s>"
    return text


def vicuna(messages, generate):
    """FastChat's vicuna_v1.1: separators " " and "</s>"."""
    text = (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions."
    )
    if messages[0]["role"] == "system":
        text, messages = messages[0]["content"], messages[1:]
    text += " "
    for message in messages:
        text += f"USER: {message['content']} " if message["role"] == "user" else f"ASSISTANT: {message['content']}</s>"
    return text + "ASSISTANT:" if generate else text


def fold_system(messages):
    """What people do whose Jinja refuses a system message: it goes before the first user text."""
    if messages[0]["role"] != "system":
        return messages
    first = {"role": "user", "content": messages[0]["content"] + "\n\n" + messages[1]["content"]}
    return [first] + messages[2:]


def expected(name, messages, generate):
    jinja, bos, eos = FAMILIES[name]
    if name == "alpaca":
        return bos + alpaca(messages, generate)
    if name == "vicuna":
        return bos + vicuna(messages, generate)
    if name == "mistral_old":
        messages = fold_system(messages)
    if name == "mistral_v3" and not generate:  # its Jinja drops the system text once the last answer is there
        return render(jinja, bos, eos, messages[:-1], True) + " " + messages[-1]["content"].strip() + eos
    return render(jinja, bos, eos, messages, generate)


TALKS = [
    ["What is 2 + 2?", "It is 4."],
    ["Who are you?", "I'm a   model.", "And\nthen?\t", "Nothing — nada.", "好 1234", "やあ 🙂 !"],
    ["  Say 'hi' \\ twice.\n", " hi, hi\n\n", "And in French?", "Salut ! <|im_end|></s> [INST]", "日本語で?", "やあ 🙂"],
]


def cases():
    for name, (_, bos, eos) in FAMILIES.items():
        for talk in TALKS:
            for system in (None, "You are a pirate.\nYou say \"Arr\"."):
                messages = [] if system is None else [{"role": "system", "content": system}]
                messages += [
                    {"role": "assistant" if i % 2 else "user", "content": text} for i, text in enumerate(talk)
                ]
                variants = [(messages, False), (messages[:-1], True)]
                if name == "alpaca":
                    last = dict(messages[-2], input="more: 1, 2")
                    variants.append((messages[:-2] + [last, messages[-1]], False))
                for variant, generate in variants:
                    text = expected(name, variant, generate)
                    yield {
                        "template": name, "bos": bos or "", "eos": eos, "messages": variant, "generate": generate,
                        "text": text, "special_text": any("<|im_end|>" in message["content"] for message in variant),
                    }


def save_small(tokenizer, name):
    folder = GOLDEN / "templates" / name
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():  # saved with indents
        file.write_text(json.dumps(json.loads(file.read_text()), ensure_ascii=False, separators=(",", ":")))
    return tokenizer


def small_sentencepiece(texts, instruct):
    """As Llama 2's: BPE pieces, byte tokens, BOS added. instruct: [INST] and [/INST] are tokens as in Mistral v0.3."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = pathlib.Path(folder) / "corpus.txt"
        corpus.write_text("\n".join(texts))
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=folder + "/tokenizer", model_type="bpe", vocab_size=420,
            byte_fallback=True, character_coverage=0.98, normalization_rule_name="identity", split_digits=True,
            remove_extra_whitespaces=False, allow_whitespace_only_pieces=True, minloglevel=2,
        )
        config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, "add_eos_token": False,
                  "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
        (pathlib.Path(folder) / "tokenizer_config.json").write_text(json.dumps(config))
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if instruct:
        tokenizer.add_special_tokens({"additional_special_tokens": ["[INST]", "[/INST]"]})
    return tokenizer


def small_bpe(texts):
    """As GPT-2's, with the special tokens of ChatML and Llama 3."""
    special = ["<|begin_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>",
               "<|im_start|>", "<|im_end|>"]
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=special[0], eos_token=special[1])


def answer_spans(case):
    """Characters of each answer with its end-of-turn token: what stands between its prompt and the next one's."""
    name, messages, spans = case["template"], case["messages"], []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt, turn = expected(name, messages[:i], True), expected(name, messages[:i + 1], False)
        if not case["text"].startswith(turn):  # system text or the form for an input depends on what follows
            return None
        spans.append((len(prompt), len(turn.rstrip("\n"))))
    return spans


def add_ids(all_cases):
    """The ids of each text under the vocabulary that has the template's tokens, and the ids that lie in answers."""
    texts = [case["text"] for case in all_cases]
    small = {
        "spm": small_sentencepiece(texts, False), "spm_inst": small_sentencepiece(texts, True), "bpe": small_bpe(texts),
    }
    for name, tokenizer in small.items():
        save_small(tokenizer, name)
    for case in all_cases:
        if case.pop("special_text"):
            continue  # transformers takes it for the tokens
        case["vocabulary"] = "bpe" if case["eos"] != "</s>" else "spm_inst" if case["template"] == "mistral_v3" else "spm"
        encoding = small[case["vocabulary"]](case["text"], add_special_tokens=False, return_offsets_mapping=True)
        case["ids"] = encoding.input_ids
        spans = answer_spans(case)
        if spans is not None:
            case["trained"] = "".join(
                "1" if any(start <= a and b <= end for start, end in spans) else "0" for a, b in encoding.offset_mapping
            )


def published():
    """Texts as they are found, and near ones that must not be taken for them."""
    dated = '    {%- set date_string = "26 Jul 2024" %}\n'
    now = (
        "    {%- if strftime_now is defined %}\n"
        '        {%- set date_string = strftime_now("%d %b %Y") %}\n    {%- else %}\n    ' + dated + "    {%- endif %}\n"
    )
    off = "{% elif false == true and not '<<SYS>>' in messages[0]['content'] %}{% set loop_messages = messages %}" \
          "{% set system_message = 'You are a helpful, respectful and honest assistant.' %}{% else %}"
    on = off.replace("false == true", "true == true")
    else_branch = "{% else %}{% set loop_messages = messages %}{% set system_message = false"
    zephyr_explicit = (
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '<|user|>\n' + message['content'] + eos_token + '\n' }}{% elif message['role'] == 'assistant' %}"
        "{{ '<|assistant|>\n' + message['content'] + eos_token + '\n' }}{% else %}"
        "{{ '<|system|>\n' + message['content'] + eos_token + '\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    )
    yield from ((name, None, jinja) for name, (jinja, _, _) in FAMILIES.items() if jinja)
    yield "chatml", None, chatml().replace("\n", "\\n")
    yield "chatml", None, chatml().replace("'", '"')
    yield "chatml", None, "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}" \
                          "{% endif %}" + chatml()
    yield "chatml", "You're a \"helpful\" assistant", chatml("You\\'re a \"helpful\" assistant")
    yield "qwen", None, QWEN25.replace("\n", "\r\n")
    yield "qwen2", None, QWEN25.replace("You are Qwen, created by Alibaba Cloud. ", "")
    yield "llama31", None, LLAMA31.replace(dated, now)
    yield "llama2", None, LLAMA2.replace(else_branch, off + else_branch[len("{% else %}"):])
    yield None, None, LLAMA2.replace(else_branch, on + else_branch[len("{% else %}"):])
    yield "zephyr", None, zephyr_explicit
    yield None, None, zephyr_explicit.replace("<|user|>", "<|human|>")
    yield None, None, chatml().replace("message['content']", "message['content'] | trim")
    yield None, None, "{{ bos_token }}" + chatml()
    yield None, None, "You are kind.\n" + chatml()
    yield None, None, chatml().replace("assistant\n'", "assistant\n<think>\n'")
    yield None, None, chatml("Be kind.").replace("loop.first and ", "")
    yield None, None, LLAMA3.replace(" | trim", "")
    yield None, None, LLAMA31.replace("December 2023", "March 2023")
    yield None, None, QWEN25.replace(' and not loop.first', "")
    yield None, None, MISTRAL_OLD.replace("eos_token}}", "eos_token + ' '}}")
    yield None, None, MISTRAL_V3.replace('"[INST] "', '"[INST]"')
    yield None, None, MISTRAL_V1.replace("loop.first and", "loop.last and")
    yield None, None, chatml()[:-1]
    yield None, None, "{{ 'no end"
    yield None, None, "{# no end"
    yield None, None, "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    yield None, None, ""


def check_ours(ours, all_cases):
    for row in ours:
        name, system = row["template"], row["system"]
        _, bos, eos = FAMILIES[name]
        for case in (case for case in all_cases if case["template"] == name):
            messages, text = case["messages"], case["text"]
            if system is not None:  # the default of the text we wrote stands for the system message
                if messages[0]["role"] != "system" or messages[0]["content"] != system:
                    continue
                messages = messages[1:]
            if not row["adds_bos"] and name in ("alpaca", "vicuna"):
                text = text.removeprefix(bos)
            got = render(row["jinja"], bos, eos, messages, case["generate"])
            assert got == text, (name, got, text)


def main():
    all_cases = list(cases())
    add_ids(all_cases)
    ours = json.loads(subprocess.run([TEST, "--jinja"], check=True, capture_output=True, text=True).stdout)
    check_ours(ours, all_cases)
    texts = [{"template": name, "system": system, "jinja": jinja} for name, system, jinja in published()]
    (GOLDEN / "templates.json").write_text(
        json.dumps({"cases": all_cases, "published": texts, "ours": ours}, ensure_ascii=False, separators=(",", ":"))
        .replace('},{', '},\n{') + "\n"
    )


main()

"""Makes tests/golden/tokenizer.json.gz, which tests/test_tokenizer.c reads: small vocabularies, texts, and the ids that
the `tokenizers`, `transformers` and `sentencepiece` libraries give them.

    python3 tests/golden/make_tokenizer_golden.py ../shared/data MODEL.gguf

The first argument is a folder with wiki_demo.txt (what the vocabularies are trained on), llama2_tokenizer.model and
mmlu/, the second the SmolLM2 file that `make demo` uses. Of these large files and vocabularies only the number of ids and
the CRC-32 of the ids as little-endian int32 are kept.
"""

import base64
import glob
import gzip
import io
import json
import os
import random
import sys
import tempfile
import zlib

import gguf
import numpy
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
TEXTS = [
    "", " ", "  ", "   a", "a   ", "\n", "\n\n a\n \n", "\t\tx", " \n", "a \n b", "a  b   c    d",
    "👩‍👩‍👧‍👦 family", "🏳️‍🌈", "我们今天 去北京", "日本語テキスト", "한국어 텍스트",
    "e\u0301 a\u030a \u1e9b\u0323", "\u0001\x1f\x7f\u0080\u0085\u00a0", "\ufeffBOM \ufeff",
    "1234567890 12 345 6", "x1y22z333", "I'm You'RE we'Ve they'LL he'D it'S don'T o'clock 'ſ 'S'ſ",
    "a" * 500, "ab" * 300, " " * 77, "<s>hello</s>", "<|im_start|>user\nhi<|im_end|>", "<|endoftext|>",
    "<tool_call>x<tool_call>y <|fim_prefix|> <|fim|> <|fim_suffix|>x<|fim_suffix|>y", "<unk> [INST] x [/INST]",
    "\u2028\u2029\u3000\u200b\u180e", "½ ² Ⅷ ٣٤٥ ௧௨௩ 一二三", "Å\u212b A\u030a", "▁x ▁▁ y▁z", "\r\n\r\nab\r",
    "ﬀ ﬁ ß ẞ İ ı", "क्ष नि", "don't 'tis 'twas 's 'll", "a.b,c;d!e?f", " .\n\n", "foo.\n\nbar", "...\r\n\r\n  x",
    "def f(x):\n    return x\n\n\n\tif:\n", "http://a.b/c?d=e&f=%20", "$100,000.00 €5", "'", "''s", "  's",
    "\u00a0's", "\u00a0word \u00a0\u00a0word", "-- —", "a\u200db", "\U0010ffff\U000e0001\ue000",
]
PARTS = [
    " ", "  ", "\n", "\r", "\t", "a", "B", "é", "ß", "1", "23", "'", "'s", "'RE", "ſ", ".", "!?", "<", "|", ">", "▁",
    "\u00a0", "\u3000", "\u0301", "\u200d", "👍", "你", "한", "<|im_end|>", "</s>", "<s>", "<tool_call>", "<|fim",
    "_prefix|>", "K", "\u0085", "½", "٣", "ﬃ", "\u1100\u1161", "word", " the", " of", "ing",
]


def byte_level(regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


def split(regex):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), byte_level(False)])


def train_bpe(corpus, pre_tokenizer, normalizer=None, ignore_merges=False, every_byte=True):
    """A byte-level vocabulary with special tokens, and added tokens that are not special."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet() if every_byte else []
    tokenizer.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=600, show_progress=False, initial_alphabet=alphabet)
    )
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>", "<|endoftext|>"])
    for text, normalized in ("<tool_call>", False), ("<|fim_prefix|>", True), ("<|fim|>", False), ("<|im_end|>|", False):
        tokenizer.add_tokens([AddedToken(text, special=False, normalized=normalized)])
    return tokenizer


def train_sentencepiece(corpus, kind):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus), model_writer=model, vocab_size=700, model_type=kind, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.9995,
        allow_whitespace_only_pieces=True, split_digits=True, num_threads=1, minloglevel=2,
    )
    return model.getvalue()


def sentencepiece_to_json(model):
    """tokenizer.json as transformers 4 converted Llama's: every way to put a piece together, in order of the scores."""
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    text = [pieces.id_to_piece(i) for i in range(len(pieces))]
    vocabulary = {piece: i for i, piece in enumerate(text)}
    normal = {piece for i, piece in enumerate(text)
              if not (pieces.is_byte(i) or pieces.is_control(i) or pieces.is_unknown(i))}
    merges = [
        (pieces.get_score(vocabulary[piece]), len(piece[:i]), len(piece[i:]), piece[:i], piece[i:])
        for piece in text if piece in normal for i in range(1, len(piece))
        if piece[:i] in normal and piece[i:] in normal
    ]
    merges.sort(key=lambda m: m[:3], reverse=True)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(m[3], m[4]) for m in merges], unk_token="<unk>",
                                     fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    return tokenizer


def auto_tokenizer(tokenizer, config):
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(f"{folder}/tokenizer.json")
        json.dump({"model_type": "llama"}, open(f"{folder}/config.json", "w"))
        json.dump(config, open(f"{folder}/tokenizer_config.json", "w"))
        return AutoTokenizer.from_pretrained(folder)


def smollm2(path):
    """SmolLM2's tokenizer as the `tokenizers` library has it, from the tokens and merges of a GGUF file."""
    fields = gguf.GGUFReader(path).fields
    tokens, merges = ([bytes(fields[key].parts[i]).decode() for i in fields[key].data]
                      for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges"))
    types = [int(fields["tokenizer.ggml.token_type"].parts[i][0]) for i in fields["tokenizer.ggml.token_type"].data]
    tokenizer = Tokenizer(models.BPE(vocab={text: i for i, text in enumerate(tokens)},
                                     merges=[tuple(merge.split(" ")) for merge in merges]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level(True)])
    tokenizer.add_special_tokens([text for text, kind in zip(tokens, types) if kind == 3])
    tokenizer.encode_special_tokens = True
    return tokenizer


def digest(ids):
    return {"count": len(ids), "crc32": zlib.crc32(numpy.array(ids, dtype="<i4").tobytes())}


def main(data, model_file):
    random.seed(1)
    wiki = open(f"{data}/wiki_demo.txt", encoding="utf-8", newline="").read()
    names = sorted(glob.glob(f"{data}/mmlu/**/*.csv", recursive=True))
    large = {"wiki_demo.txt": wiki}
    large |= {os.path.relpath(n, data): open(n, encoding="utf-8", newline="").read() for n in names}
    corpus = [line for line in wiki[:300000].replace(". ", ".\n").split("\n") if line]
    texts = TEXTS + ["".join(random.choice(PARTS) for _ in range(random.randint(1, 14))) for _ in range(300)]

    cases = []

    def add(name, files, ids, place="first", digests=False):
        case = {"name": name, "files": files, "place": place, "ids": [ids(text) for text in texts]}
        if digests:
            case["large"] = {path: digest(ids(text)) for path, text in large.items()}
        cases.append(case)

    bpe = {
        "gpt-2": train_bpe(corpus, byte_level(True)),
        "smollm": train_bpe(corpus, pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level(True)]),
                            every_byte=False),
        "llama-bpe": train_bpe(corpus, split(LLAMA3), ignore_merges=True),
        "qwen2": train_bpe(corpus, split(QWEN2), normalizer=normalizers.NFC()),
    }
    for name, tokenizer in bpe.items():
        tokenizer.encode_special_tokens = True
        add(name, {"tokenizer.json": json.loads(tokenizer.to_str())},
            lambda text: tokenizer.encode(text, add_special_tokens=False).ids, digests=True)

    model = train_sentencepiece(corpus, "bpe")
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    encoded = {"tokenizer.model": base64.b64encode(model).decode()}
    add("sentencepiece bpe", encoded, pieces.encode, digests=True)
    unigram = train_sentencepiece(corpus, "unigram")
    add("sentencepiece unigram", {"tokenizer.model": base64.b64encode(unigram).decode()},
        sentencepiece.SentencePieceProcessor(model_proto=unigram).encode)

    converted = sentencepiece_to_json(model)
    converted.encode_special_tokens = True
    files = {"tokenizer.json": json.loads(converted.to_str())}
    add("converted", files, lambda text: converted.encode(text, add_special_tokens=False).ids)
    for legacy in False, True:
        config = {"tokenizer_class": "LlamaTokenizer", "legacy": legacy, "add_bos_token": True, "bos_token": "<s>",
                  "model_max_length": 10**30}
        llama = auto_tokenizer(converted, config)
        together = files | {"tokenizer_config.json": config}
        add(f"LlamaTokenizer legacy={legacy}", together,
            lambda text: llama.encode(text, add_special_tokens=False, split_special_tokens=True))
        # what follows a special token: the text's own special tokens are spelt apart by split_special_tokens alone,
        # which would spell the first one too, so texts that have some are left out
        add(f"LlamaTokenizer legacy={legacy} after a special token", together,
            lambda text: None if any(t in text for t in ("<s>", "</s>", "<unk>"))
            else llama.encode("</s>" + text, add_special_tokens=False)[1:], place="after special")

    llama2 = sentencepiece.SentencePieceProcessor(model_file=f"{data}/llama2_tokenizer.model")
    smol = smollm2(model_file)
    golden = {
        "texts": texts,
        "cases": cases,
        "llama2": {path: digest(llama2.encode(text)) for path, text in large.items()},
        "smollm2": {path: digest(smol.encode(text, add_special_tokens=False).ids) for path, text in large.items()},
        "smollm2_texts": [digest(smol.encode(text, add_special_tokens=False).ids) for text in texts],
    }
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    target = os.path.join(os.path.dirname(__file__), "tokenizer.json.gz")
    with open(target, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as out:
        out.write(text.encode())
    print(f"{target}: {len(texts)} texts, {len(cases)} cases, {os.path.getsize(target)} bytes")


main(sys.argv[1], sys.argv[2])

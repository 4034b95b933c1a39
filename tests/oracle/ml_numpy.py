"""bf16 and safetensors with numpy alone: numpy knows no bf16, so such arrays are uint16 bit patterns."""

import json
import pathlib
import struct

import numpy as np


def to_bf16(values):
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def save(tensors, path):
    """A safetensors file of bf16 tensors."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, data in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(data.shape), "data_offsets": [offset, offset + data.nbytes]}
        offset += data.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for data in tensors.values():
            file.write(data.tobytes())


def load(path):
    """All tensors of a safetensors file of bf16 tensors."""
    raw = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    tensors = {}
    for name, entry in json.loads(raw[8:8 + size]).items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "BF16", name
        first, end = (8 + size + at for at in entry["data_offsets"])
        tensors[name] = np.frombuffer(raw[first:end], np.uint16).reshape(entry["shape"])
    return tensors

#!/usr/bin/env python3
"""Makes gguf_blocks.gguf: random blocks of every tensor type we read, each with gguf-py's floats beside it."""
import os
import gguf
import numpy as np

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K"]
# where the fp16 numbers of a block lie, in bytes
HALVES = {"Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}
ROWS, COLUMNS = 3, 256

random = np.random.default_rng(1)
writer = gguf.GGUFWriter(os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf_blocks.gguf"), "test")
writer.add_uint32("test.u32", 4000000000)
writer.add_int8("test.i8", -5)
writer.add_uint64("test.u64", 1 << 40)
writer.add_float32("test.f32", 0.5)
writer.add_float64("test.f64", 1e-300)
writer.add_bool("test.bool", True)
writer.add_string("test.string", "h\u00e9llo")
writer.add_array("test.strings", ["one", "", "three"])
writer.add_array("test.integers", [-1, 2, -3])
writer.add_array("test.floats", [0.25, -1.5])
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    block, size = gguf.GGML_QUANT_SIZES[kind]
    if name in HALVES:
        data = random.integers(0, 256, (ROWS, COLUMNS // block, size), dtype=np.uint8)
        for offset in HALVES[name]:
            scales = (random.standard_normal((ROWS, COLUMNS // block, 1)) * 0.01).astype(np.float16)
            scales.flat[0] = np.float16(6e-8)  # the smallest subnormal
            data[:, :, offset:offset + 2] = scales.view(np.uint8)
        data = data.reshape(ROWS, -1)
    else:
        floats = random.standard_normal((ROWS, COLUMNS)).astype(np.float32)
        floats.flat[:4] = [0.0, -0.0, 6e-8, 65504.0]
        if name == "F16":
            data = floats.astype(np.float16).view(np.uint8)
        elif name == "BF16":
            data = gguf.quants.quantize(floats, kind).view(np.uint8)
        else:
            data = floats.view(np.uint8)
    writer.add_tensor(name, data, raw_dtype=kind)
    writer.add_tensor(name + ".float", gguf.quants.dequantize(data, kind).reshape(ROWS, COLUMNS).astype(np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

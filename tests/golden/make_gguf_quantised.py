#!/usr/bin/env python3
"""Makes gguf_quantised.gguf: floats, and gguf-py's blocks of them in every quantised type that we write."""
import os
import gguf
import numpy as np

TYPES = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
ROWS, COLUMNS = 12, 32

random = np.random.default_rng(2)
values = (random.standard_normal((ROWS, COLUMNS)) * np.logspace(-9, 3, ROWS)[:, None]).astype(np.float32)
values[4] = 0
values[5] = np.arange(32) / 4 - 4  # every value is a step, or lies between two, of the 4-bit types
values[6] = -(np.arange(32) % 9).astype(np.float32) / 2
values[7, :] = 1.5  # all equal
values[8, :4] = [65504, -65504, 6e-8, -6e-8]
values[9] = (np.arange(32) * 8 - 127) / 2  # ties of the 8-bit type

writer = gguf.GGUFWriter(os.path.join(os.path.dirname(os.path.abspath(__file__)), "gguf_quantised.gguf"), "test")
writer.add_tensor("values", values)
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    data = values.astype(np.float16).view(np.uint8) if name == "F16" else gguf.quants.quantize(values, kind).view(np.uint8)
    writer.add_tensor(name, data, raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

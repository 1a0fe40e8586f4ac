"""Weights of 2, 4 and 8 bits as ONNX Runtime's MatMulNBitsQuantizer (default algorithm) makes them.

Writes test/fixtures/ort-quantizer/nbits.json. Needs onnxruntime 1.30 and onnx_ir. The weights come from the generator of
test/quantize/networks.ts, so that the file holds results only.
"""

import base64
import json
import os
import warnings

import numpy as np
from onnxruntime.quantization import QuantFormat
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    DefaultWeightOnlyQuantizer,
)

warnings.simplefilter("ignore")
OUT = os.path.join(os.path.dirname(__file__), "..", "test", "fixtures", "ort-quantizer", "nbits.json")


def random_weight(dims, seed):
    """randomTensor() of test/quantize/networks.ts, with a column of zeros, one of equal values, and one without negatives."""
    state = (seed * 2654435761 + 1) & 0xFFFFFFFF
    values = np.zeros(int(np.prod(dims)), np.float32)
    for i in range(values.size):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values[i] = (state >> 8) / 2**23 - 1
    weight = values.reshape(dims)
    weight[:, 0] = 0
    weight[:, 1] = 0.375
    weight[:, 2] = np.abs(weight[:, 2])
    return weight


def text(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


cases = []
for k, n, block in [(64, 5, 32), (70, 4, 32), (33, 6, 16), (16, 3, 64), (9, 4, 16)]:
    weight = random_weight((k, n), k + n)
    for bits in (2, 4, 8):
        for symmetric in (True, False):
            for form in ("qoperator", "qdq") if bits == 4 else ("qoperator",):
                config = DefaultWeightOnlyQuantConfig(
                    block_size=block,
                    is_symmetric=symmetric,
                    bits=bits,
                    quant_format=QuantFormat.QDQ if form == "qdq" else QuantFormat.QOperator,
                )
                packed, scales, zeros = DefaultWeightOnlyQuantizer(config).qbits_block_quant(weight)
                cases.append(
                    {
                        "k": k, "n": n, "seed": k + n, "block": block, "bits": bits, "symmetric": symmetric,
                        "format": form, "codes": text(packed), "scales": text(scales),
                        "zeroPoints": None if symmetric else text(zeros),
                    }
                )  # fmt: skip

tables = []
for rows, width, block in [(6, 32, 16), (5, 48, 32)]:
    table = random_weight((rows, width), rows + width)
    for symmetric in (True, False):
        codes, scales, zeros = DefaultWeightOnlyQuantizer.quantize_ndarray(table, 1, block, symmetric)
        tables.append(
            {
                "rows": rows, "width": width, "seed": rows + width, "block": block, "symmetric": symmetric,
                "codes": text(codes), "scales": text(scales), "zeroPoints": None if symmetric else text(zeros),
            }
        )  # fmt: skip

with open(OUT, "w") as file:
    json.dump({"cases": cases, "tables": tables}, file, separators=(",", ":"))
    file.write("\n")

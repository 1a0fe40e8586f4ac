"""Writes test/fixtures/ort-calibration: ranges in every file format of ONNX Runtime's Python quantizer."""

import base64
import json
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import (
    CalibrationMethod,
    TensorData,
    TensorsData,
    save_tensors_data,
    write_calibration_table,
)

OUT = Path(__file__).parent.parent / "test" / "fixtures" / "ort-calibration"

# Both signs, wider below than above, tiny and huge numbers, integers, zeros, names beyond ASCII, lengths of all remainders.
RANGES = {
    "input": (0.0, 1.0),
    "conv1_out": (-3.7, 2.25),
    "relu": (0.0, 6.0),
    "a": (-1.5e-05, 1.25e-05),
    "bc": (-3e17, 2e16),
    "é/ü:0": (-0.1, 0.3),
    "negative": (-5.0, -0.0),
    "数": (1.5, 1e10),
}


def main():
    data = {
        name: TensorData(lowest=np.array(low, dtype=np.float32), highest=np.array(high, dtype=np.float32))
        for name, (low, high) in RANGES.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        write_calibration_table(data, folder)
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), Path(folder) / "cache.json")
        files = {name: (Path(folder) / name).read_bytes() for name in
                 ("calibration.json", "calibration.flatbuffers", "calibration.cache", "cache.json")}
    fixture = {
        "madeBy": f"onnxruntime {onnxruntime.__version__}",
        "ranges": {name: [float(np.float32(low)), float(np.float32(high))] for name, (low, high) in RANGES.items()},
        **{name: base64.b64encode(content).decode() for name, content in files.items()},
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "tables.json").write_text(json.dumps(fixture, indent=1) + "\n")


if __name__ == "__main__":
    main()

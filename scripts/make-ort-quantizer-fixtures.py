#!/usr/bin/env python3
"""Writes the reference values of ONNX Runtime's Python quantizer into test/fixtures/ort-quantizer.

    python scripts/make-ort-quantizer-fixtures.py [params] [weights] [types] [tiny] [resnet8] [mobilenetv2] [compat]

Needs numpy, onnx, onnxruntime and sympy, and the files of examples/fashion-mnist. See test/fixtures/README.md.
"""
import base64
import gzip
import itertools
import json
import logging
import struct
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.quant_utils import (
    compute_data_quant_params, compute_scale_zp, compute_scale_zp_blocked, get_qmin_qmax_for_qType, quantize_data,
    quantize_onnx_initializer, snap_zero_point_to_uint8)
from onnxruntime.quantization.shape_inference import quant_pre_process

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = ROOT / "test" / "fixtures" / "ort-quantizer"
EXAMPLE = ROOT / "examples" / "fashion-mnist"
SEED = 7
QTYPES = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
ALL_QTYPES = {**QTYPES, "int16": TensorProto.INT16, "uint16": TensorProto.UINT16, "int4": TensorProto.INT4,
              "uint4": TensorProto.UINT4}


def write(name, document):
    """One row of an array per line, so that a difference is readable; floats with the digits that make them exact."""
    def row(value):
        return json.dumps(value, separators=(",", ":"), allow_nan=False)

    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
            lines.append(f"{row(key)}:[\n" + ",\n".join(row(v) for v in value) + "\n]")
        elif isinstance(value, dict) and len(value) > 8:
            lines.append(f"{row(key)}:{{\n" + ",\n".join(f"{row(k)}:{row(v)}" for k, v in value.items()) + "\n}")
        else:
            lines.append(f"{row(key)}:{row(value)}")
    path = OUTPUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{name}: {path.stat().st_size} bytes")


def made_by():
    return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "numpy": np.__version__}


def base64_of(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


# ---- params.json: range -> scale and zero point ------------------------------------------------

def params():
    tiny = float(np.finfo(np.float32).tiny)
    ranges = [
        (0, 0), (0, 1), (-1, 0), (-1, 1), (0, 255), (-128, 127), (0, 6), (-0.5, 0.25), (-1, 3), (-3, 1),
        (0.2, 0.7), (-0.7, -0.2), (5, 5), (-5, -5), (100, 101), (0.1, 1000), (-1000, 0.1), (-1e-3, 1e3),
        (-2.5, 252.5), (-1.5, 253.5), (-0.5, 254.5), (-127.5, 127.5),        # zero points that fall on a tie
        (-1e-8, 1e-8), (0, 1e-30), (-3e-38, 3e-38), (-1e-35, 3e-35), (0, 254 * tiny), (0, 255 * tiny), (0, 256 * tiny),
        (0, 1e-40), (-1e-42, 1e-42), (0, 1.401298464324817e-45),             # denormal ranges
        (0, 1.6e38), (-1.5e38, 1.5e38), (-1e30, 2e30), (-1e38, 0),
        (-0.012345678, 2.718281828), (-3.14159265, 1.41421356), (-17.25, 0.0625), (-0.1, 0.2),
    ]
    rng = np.random.default_rng(SEED)
    ranges += [tuple(sorted(rng.normal(0, 10 ** rng.uniform(-4, 4), 2))) for _ in range(10)]
    rows = []
    for (low, high), (name, qtype), symmetric in itertools.product(ranges, QTYPES.items(), (False, True)):
        rmin, rmax = np.array(low, np.float32), np.array(high, np.float32)
        qmin, qmax = get_qmin_qmax_for_qType(qtype, reduce_range=False, symmetric=symmetric)
        zero_point, scale = compute_scale_zp(rmin, rmax, qmin, qmax, symmetric)
        rows.append({"rmin": float(rmin), "rmax": float(rmax), "type": name, "symmetric": symmetric,
                     "qmin": int(qmin), "qmax": int(qmax), "scale": float(np.float32(scale)), "zeroPoint": int(zero_point)})
    write("params.json", {"madeBy": made_by(), "rows": rows})


# ---- weights.json: weights -> scales, zero points, codes ------------------------------------------------

def weights():
    rng = np.random.default_rng(SEED)
    conv = rng.normal(0, 0.2, (8, 3, 3, 3))
    conv *= 2.0 ** rng.uniform(-6, 3, (8, 1, 1, 1))
    conv[2] = 0                              # a dead channel
    conv[3] = np.abs(conv[3])                # one-sided channels
    conv[4] = -np.abs(conv[4])
    conv[5] = 0.125                          # a constant channel
    depthwise = rng.normal(0, 1, (12, 1, 3, 3))
    depthwise[0, 0, 1, 1] = 40               # an outlier
    depthwise[1] *= 1e-41                    # a denormal channel
    arrays = {
        "conv": conv, "depthwise": depthwise, "gemm": rng.normal(0, 0.05, (10, 24)),
        "positive": rng.uniform(0.5, 2, (4, 7)), "zeros": np.zeros((3, 5)),
        "ties": (np.arange(-127, 128) / 2).reshape(5, 51) * 0.25, "vector": rng.normal(0, 1, (33,)),
    }
    rows = []
    for name, array in arrays.items():
        array = array.astype(np.float32)
        results = []
        for (qname, qtype), axis in itertools.product(QTYPES.items(), (None, 0)):
            symmetric = qname == "int8"
            parts = [array.flatten()] if axis is None else [array.take(i, axis).flatten() for i in range(array.shape[axis])]
            done = [quantize_data(part, qtype, symmetric) for part in parts]
            results.append({"type": qname, "symmetric": symmetric, "axis": axis,
                            "scales": [float(np.float32(scale)) for _, scale, _ in done],
                            "zeroPoints": [int(zero_point) for zero_point, _, _ in done],
                            "codes": base64_of(np.concatenate([codes for _, _, codes in done]))})
        rows.append({"name": name, "dims": list(array.shape), "data": base64_of(array), "results": results})
    write("weights.json", {"madeBy": made_by(), "rows": rows})


# ---- types.json: every integer type, reduced and floored ranges, restricted zero points, blocks -----------------

def types():
    rng = np.random.default_rng(SEED)
    ranges = [(0, 0), (0, 1), (-1, 1), (-1, 3), (-3, 1), (0.2, 0.7), (-0.7, -0.2), (-2.5, 252.5), (-1e-3, 2e-3), (0, 1e-40),
              (-0.012345678, 2.718281828), (-17.25, 0.0625), (-1e30, 2e30)]
    ranges += [tuple(sorted(rng.normal(0, 10 ** rng.uniform(-3, 3), 2))) for _ in range(4)]
    settings = list(itertools.product(ALL_QTYPES, (False, True), (False, True), (None, 0.01)))
    floors = (None, 0.01)
    rows = []
    for low, high in ranges:
        rmin, rmax = np.array(low, np.float32), np.array(high, np.float32)
        row = {"rmin": float(rmin), "rmax": float(rmax), "params": [], "restricted": []}
        for name, symmetric, reduce_range, floor in settings:
            qmin, qmax = get_qmin_qmax_for_qType(ALL_QTYPES[name], reduce_range=reduce_range, symmetric=symmetric)
            zero_point, scale = compute_scale_zp(rmin, rmax, qmin, qmax, symmetric, floor)
            row["params"].append([float(np.float32(scale)), int(zero_point)])
        for floor in floors:
            zero_point, scale = snap_zero_point_to_uint8(rmin, rmax, 0, 255, floor)
            row["restricted"].append([float(scale), int(zero_point)])
        rows.append(row)

    matrix = rng.normal(0, 1, (7, 9)) * 2.0 ** rng.uniform(-4, 2, (7, 9))
    matrix[:, 2] = 0
    matrix[:3, 4] = np.abs(matrix[:3, 4])
    matrix = matrix.astype(np.float32)
    initializer = numpy_helper.from_array(matrix, "matrix")

    def codes_of(name, zero_point, scale, axis, block):
        """One code a byte or two, unpacked."""
        tensor = quantize_onnx_initializer(initializer, ALL_QTYPES[name], zero_point, scale, axis, block_size=block)
        return base64_of(numpy_helper.to_array(tensor).astype({"int4": np.int8, "uint4": np.uint8}.get(name, name)))

    weight_rows = []
    for name, symmetric, axis, block in itertools.product(ALL_QTYPES, (False, True), (None, 0, 1), (0, 4)):
        if axis is None and block:
            continue
        if block:
            zero_point, scale = compute_scale_zp_blocked(matrix, ALL_QTYPES[name], axis, block, symmetric)
        else:
            parts = [matrix.flatten()] if axis is None else [matrix.take(i, axis).ravel() for i in range(matrix.shape[axis])]
            done = [compute_data_quant_params(part, ALL_QTYPES[name], symmetric) for part in parts]
            zero_point, scale = (np.asarray([d[k] for d in done]) for k in (0, 1))
            if axis is None:
                zero_point, scale = zero_point[0], scale[0]
        weight_rows.append({"type": name, "symmetric": symmetric, "axis": axis, "block": block,
                            "scales": [float(v) for v in scale.flatten()],
                            "zeroPoints": [int(v) for v in zero_point.flatten()],
                            "codes": codes_of(name, zero_point, scale, axis, block)})
    write("types.json", {"madeBy": made_by(), "settings": [list(s) for s in settings], "floors": list(floors), "ranges": rows,
                         "matrix": {"dims": list(matrix.shape), "data": base64_of(matrix)}, "weights": weight_rows})


# ---- whole models ------------------------------------------------------------------------------

def read_idx(path):
    data = gzip.decompress(path.read_bytes())
    rank = data[3]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(struct.unpack_from(f">{rank}I", data, 4))


def normalise(images):
    return ((images.astype(np.float32) / 255 - 0.2860) / 0.3530)[:, None].astype(np.float32)


class Images(CalibrationDataReader):
    def __init__(self, images):
        self.batches = iter([{"input": images[i:i + 1]} for i in range(len(images))])

    def get_next(self):
        return next(self.batches, None)


def infer(model, images, exact=False):
    """Logits. `exact` makes ONNX Runtime turn U8S8 into U8U8, whose AVX2 kernels cannot saturate."""
    options = onnxruntime.SessionOptions()
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"input": images[i:i + 100]})[0] for i in range(0, len(images), 100)])


def op_counts(model):
    counts = Counter((f"{node.domain}:" if node.domain not in ("", "ai.onnx") else "") + node.op_type for node in model.graph.node)
    return dict(sorted(counts.items()))


def parameters(model, float_model):
    """Scale and zero point of every activation, scales of every weight, by the name of the float tensor."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    constants = {tensor.name for tensor in float_model.graph.initializer}
    activations, quantized = {}, {}
    for name, scale in sorted(values.items()):
        base = name.removesuffix("_scale")
        zero_point = values.get(f"{base}_zero_point")
        if base == name or zero_point is None or zero_point.dtype == np.int32:  # int32: a bias
            continue
        if base in constants or scale.size > 1:
            quantized[base] = {"type": str(zero_point.dtype), "scales": [float(s) for s in scale.flatten()],
                               "zeroPoints": sorted({int(z) for z in zero_point.flatten()})}
        else:
            activations[base] = {"type": str(zero_point.dtype), "scale": float(scale), "zeroPoint": int(zero_point)}
    return activations, quantized


def quantize(float_model, images, quant_format):
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, output = (str(Path(folder) / name) for name in ("float.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save(float_model, source)
        quant_pre_process(source, prepared)
        quantize_static(prepared, output, Images(images), quant_format=quant_format, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        calibrate_method=CalibrationMethod.MinMax)
        return onnx.load(prepared), onnx.load(output)


def vnni():
    flags = Path("/proc/cpuinfo").read_text().split()
    return "avx512_vnni" in flags or "avx_vnni" in flags


def digits(logits):
    return "".join(str(i) for i in logits.argmax(1))


def network(name):
    float_model = onnx.load(str(EXAMPLE / f"{name}.onnx"))
    calibration = normalise(read_idx(EXAMPLE / "calibration-images.idx.gz"))
    images, labels = normalise(read_idx(EXAMPLE / "test-images.idx.gz")), read_idx(EXAMPLE / "test-labels.idx.gz")

    def score(logits):
        return float(np.mean(logits.argmax(1) == labels))

    float_logits = infer(float_model, images)
    document = {"madeBy": made_by(), "options": {"activations": "uint8", "weights": "int8", "perChannel": True, "method": "MinMax"},
                "cpuHasVnni": vnni(), "images": len(images), "floatTop1": score(float_logits), "floatClasses": digits(float_logits)}
    for key, quant_format in (("qoperator", QuantFormat.QOperator), ("qdq", QuantFormat.QDQ)):
        prepared, model = quantize(float_model, calibration, quant_format)
        exact, fast = infer(model, images, exact=True), infer(model, images)
        activations, quantized = parameters(model, prepared)
        document["preparedOps"] = op_counts(prepared)
        document[f"{key}Ops"] = op_counts(model)
        document[f"{key}Top1"] = {"exact": score(exact), "default": score(fast)}
        document[f"{key}Flips"] = {"exact": int(np.sum(exact.argmax(1) != float_logits.argmax(1))),
                                   "default": int(np.sum(fast.argmax(1) != float_logits.argmax(1)))}
        document[f"{key}Classes"] = digits(exact)
        document[f"{key}Activations"] = activations
        if key == "qoperator":
            document["weights"] = quantized
        elif quantized != document["weights"]:
            document["qdqWeights"] = quantized
    write(f"{name}.json", document)
    print({k: v for k, v in document.items() if k.endswith(("Top1", "Flips", "Ops"))})


def tiny():
    """conv - relu - conv - add - global average pool - gemm with random weights, with both quantized models in full."""
    rng = np.random.default_rng(SEED)

    def constant(name, *dims):
        fan_in = np.prod(dims[1:]) if len(dims) > 1 else 4
        return numpy_helper.from_array((rng.normal(0, 1, dims) / np.sqrt(fan_in)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["input", "w1", "b1"], ["conv1"], "conv1", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "w2", "b2"], ["conv2"], "conv2", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["conv2", "relu1"], ["add"], "add"),
        helper.make_node("GlobalAveragePool", ["add"], ["pool"], "pool"),
        helper.make_node("Flatten", ["pool"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], "gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes, "tiny", [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [constant("w1", 8, 1, 3, 3), constant("b1", 8), constant("w2", 8, 8, 3, 3), constant("b2", 8),
         constant("w3", 10, 8), constant("b3", 10)])
    float_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="q8-fixtures")
    calibration = normalise(read_idx(EXAMPLE / "calibration-images.idx.gz"))
    images = normalise(read_idx(EXAMPLE / "test-images.idx.gz"))[:16]

    def encoded(model):
        return base64.b64encode(model.SerializeToString()).decode()

    document = {"madeBy": made_by(), "cpuHasVnni": vnni(), "images": len(images), "floatModel": encoded(float_model),
                "floatLogits": base64_of(infer(float_model, images))}
    for key, quant_format in (("qoperator", QuantFormat.QOperator), ("qdq", QuantFormat.QDQ)):
        prepared, model = quantize(float_model, calibration, quant_format)
        activations, quantized = parameters(model, prepared)
        document |= {f"{key}Ops": op_counts(model), f"{key}Model": encoded(model),
                     f"{key}Logits": base64_of(infer(model, images, exact=True)),
                     f"{key}Activations": activations, f"{key}Weights": quantized}
    write("tiny.json", document)


def main():
    logging.disable(logging.WARNING)
    jobs = {"params": params, "weights": weights, "types": types, "tiny": tiny,
            "resnet8": lambda: network("resnet8"), "mobilenetv2": lambda: network("mobilenetv2")}
    for name in sys.argv[1:] or jobs:
        jobs[name]()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Writes the reference values of ONNX Runtime's Python quantizer into test/fixtures/ort-quantizer.

    python scripts/make-ort-quantizer-fixtures.py [params] [weights] [types] [tiny] [resnet8] [mobilenetv2] [compat] [operators]

Needs numpy, onnx, onnxruntime and sympy, and the files of examples/fashion-mnist. See test/fixtures/README.md.
"""
import base64
import gzip
import hashlib
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
from onnxruntime.quantization import (
    CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, create_calibrator, quantize_dynamic, quantize_static,
    save_tensors_data)
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


# ---- compat.json.gz: digests of every parameter and constant, over all options in use ---------------------------------

class Net:
    """A float model with random weights, node by node; nodes are named like their output."""

    def __init__(self, opset):
        self.rng, self.opset, self.nodes, self.constants = np.random.default_rng(SEED), opset, [], []

    def constant(self, name, array, dtype=np.float32):
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def weight(self, name, *dims, scale=1.0):
        fan_in = np.prod(dims[1:]) if len(dims) > 2 else dims[0]
        return self.constant(name, scale * self.rng.normal(0, 1, dims) / np.sqrt(fan_in))

    def node(self, op, output, *inputs, **attributes):
        self.nodes.append(helper.make_node(op, list(inputs), [output], output, **attributes))
        return output

    def conv(self, name, x, *dims, **attributes):
        return self.node("Conv", name, x, self.weight(f"{name}_w", *dims), self.constant(f"{name}_b", self.rng.normal(0, 0.1, dims[0])),
                         kernel_shape=list(dims[2:]), **attributes)

    def model(self, inputs, outputs):
        def infos(values):
            return [helper.make_tensor_value_info(name, kind, dims) for name, kind, dims in values]

        graph = helper.make_graph(self.nodes, "net", infos(inputs), infos(outputs), self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8, producer_name="q8-fixtures")


def resnet():
    net, pad = Net(17), {"pads": [1, 1, 1, 1]}
    stem = net.node("Relu", "stem_relu", net.conv("stem", "x", 8, 3, 3, 3, **pad))
    pool = net.node("MaxPool", "pool", stem, kernel_shape=[2, 2], strides=[2, 2])
    left = net.node("Relu", "left_relu", net.conv("left", pool, 8, 8, 3, 3, **pad))
    right = net.conv("right", left, 8, 8, 3, 3, **pad)
    total = net.node("Relu", "sum_relu", net.node("Add", "sum", right, pool))
    down = net.conv("down", total, 12, 8, 1, 1, strides=[2, 2])
    flat = net.node("Flatten", "flat", net.node("GlobalAveragePool", "mean", down))
    net.node("Gemm", "logits", flat, net.weight("logits_w", 5, 12), net.weight("logits_b", 5), transB=1)
    return net.model([("x", TensorProto.FLOAT, [2, 3, 8, 8])], [("logits", TensorProto.FLOAT, [2, 5])])


def mobilenet():
    net, pad = Net(17), {"pads": [1, 1, 1, 1]}
    zero, six = net.constant("zero", 0), net.constant("six", 6)
    stem = net.node("Clip", "stem_clip", net.conv("stem", "x", 8, 3, 3, 3, strides=[2, 2], **pad), zero, six)
    depthwise = net.node("HardSwish", "depthwise_swish", net.conv("depthwise", stem, 8, 1, 3, 3, group=8, **pad))
    squeeze = net.node("GlobalAveragePool", "squeeze", depthwise)
    gate = net.node("Sigmoid", "gate", net.conv("expand", net.node("Relu", "reduce_relu", net.conv("reduce", squeeze, 4, 8, 1, 1)), 8, 4, 1, 1))
    project = net.conv("project", net.node("Mul", "scaled", depthwise, gate), 8, 8, 1, 1)
    total = net.node("Add", "sum", project, stem)
    both = net.node("Concat", "both", total, net.node("LeakyRelu", "leaky", project, alpha=0.1), axis=1)
    average = net.node("AveragePool", "average", both, kernel_shape=[2, 2], strides=[2, 2])
    shifted = net.node("Add", "shifted", average, net.weight("shift", 1, 16, 1, 1))
    rows = net.node("Reshape", "rows", shifted, net.constant("rows_shape", [2, 64], np.int64))
    net.node("Gemm", "logits", rows, net.weight("logits_w", 64, 5), net.weight("logits_b", 5))
    model = net.model([("x", TensorProto.FLOAT, [2, 3, 8, 8])], [("logits", TensorProto.FLOAT, [2, 5])])
    for tensor in model.graph.initializer:   # a dead channel, and biases that do not fit int32
        array = numpy_helper.to_array(tensor).copy()
        if tensor.name == "project_w":
            array[2] = 0
            array[3] *= 1e-9
        elif tensor.name == "project_b":
            array[2:4] = 3
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def transformer():
    net, width, heads, length = Net(20), 16, 2, 6
    size = width // heads
    shape = net.constant("heads_shape", [2, length, heads, size], np.int64)
    back = net.constant("back_shape", [2, length, width], np.int64)
    embedded = net.node("Add", "embedded", net.node("Gather", "words", net.weight("table", 20, width, scale=4), "ids"), net.weight("positions", length, width))

    def norm(name, x):
        return net.node("LayerNormalization", name, x, net.constant(f"{name}_gamma", 1 + net.rng.normal(0, 0.2, width)),
                        net.constant(f"{name}_beta", net.rng.normal(0, 0.2, width)), axis=-1)

    def linear(name, x, *dims):
        product = net.node("MatMul", f"{name}_product", x, net.weight(f"{name}_w", *dims))
        return net.node("Add", name, product, net.weight(f"{name}_b", dims[1]))

    def split(name, x, perm):
        return net.node("Transpose", f"{name}_heads", net.node("Reshape", f"{name}_split", linear(name, x, width, width), shape), perm=perm)

    first = norm("first", embedded)
    scores = net.node("MatMul", "scores", split("query", first, [0, 2, 1, 3]), split("key", first, [0, 2, 3, 1]))
    weights = net.node("Softmax", "weights", net.node("Mul", "scaled", scores, net.constant("root", 1 / np.sqrt(size))), axis=-1)
    mixed = net.node("MatMul", "mixed", weights, split("value", first, [0, 2, 1, 3]))
    joined = net.node("Reshape", "joined", net.node("Transpose", "turned", mixed, perm=[0, 2, 1, 3]), back)
    residual = net.node("Add", "residual", linear("attended", joined, width, width), embedded)
    hidden = net.node("Gelu", "activated", linear("wide", norm("second", residual), width, 24))
    out = net.node("Add", "out", linear("narrow", hidden, 24, width), residual)
    picked = net.node("Gather", "picked", out, net.constant("first_token", 0, np.int64), axis=1)
    net.node("Gemm", "logits", picked, net.weight("logits_w", width, 3), net.weight("logits_b", 3))
    return net.model([("ids", TensorProto.INT64, [2, length])], [("logits", TensorProto.FLOAT, [2, 3])])


class Feeds(CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def digest(tensors, base, with_scale=True):
    """Of type, scales, zero points and codes, with 4-bit codes unpacked: 8 hexadecimal digits."""
    scale, zero_point = tensors[f"{base}_scale"], tensors[f"{base}_zero_point"]
    codes = tensors.get(base if base.endswith("_quantized") else f"{base}_quantized")
    parts = [str(zero_point.dtype).encode()]
    if with_scale:
        parts += [scale.astype(np.float32).tobytes(), ",".join(str(int(z)) for z in zero_point.flatten()).encode()]
    if codes is not None:
        parts.append(codes.astype({"int4": np.int8, "uint4": np.uint8}.get(str(codes.dtype), codes.dtype)).tobytes())
    return hashlib.sha256(b"|".join(parts)).hexdigest()[:8]


def digests(model, is_qdq):
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    bases = [name.removesuffix("_scale") for name in tensors if name.endswith("_scale") and f"{name.removesuffix('_scale')}_zero_point" in tensors]
    # Integer operators need no scale of their biases.
    return {base: digest(tensors, base, is_qdq or not base.endswith("_quantized")) for base in sorted(bases)}


QUANT_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8, "int16": QuantType.QInt16, "uint16": QuantType.QUInt16,
               "int4": QuantType.QInt4, "uint4": QuantType.QUInt4}
EXTRA = {"activationSymmetric": "ActivationSymmetric", "weightSymmetric": "WeightSymmetric", "minRealRange": "MinimumRealRange",
         "restrictZeroPoints": "ActivationRestrictedAsymmetric", "blockSize": "BlockSize", "nnapiSigmoid": "extra.Sigmoid.nnapi",
         "quantizeBias": "QuantizeBias"}


def python_overrides(overrides):
    def one(override):
        keys = {"type": lambda v: ("quant_type", QUANT_TYPES[v]), "symmetric": lambda v: ("symmetric", v),
                "reduceRange": lambda v: ("reduce_range", v), "axis": lambda v: ("axis", v)}
        result = dict(keys[key](value) for key, value in override.items() if key in keys and value is not None)
        if "convert" in override:
            result["convert"] = one(override["convert"])
            if "receivers" in override["convert"]:
                result["convert"]["recv_nodes"] = set(override["convert"]["receivers"])
        if "range" in override:
            result["rmin"], result["rmax"] = (np.float32(v) for v in override["range"])
        if "scale" in override and not isinstance(override["scale"], list):
            kind = override.get("type", "uint8")
            result["scale"], result["zero_point"] = np.array(override["scale"], np.float32), np.array(override["zeroPoint"], kind)
        return result

    result = {}
    for name, override in overrides.items():
        if isinstance(override.get("scale"), list):
            result[name] = [{**one({**override, "scale": s, "zeroPoint": z})} for s, z in zip(override["scale"], override["zeroPoint"])]
        else:
            result[name] = [one(override)]
    return result


def static_settings(name):
    """Options of q8 for a model: all combinations of those that interact, and each of the others."""
    def types(activation, weight):
        return {"activationType": activation, "weightType": weight}

    eight = [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")]
    for fmt, pair, per_channel, reduce_range in itertools.product(("qoperator", "qdq"), eight, (False, True), (False, True)):
        yield {"format": fmt, **types(*pair), "perChannel": per_channel, "reduceRange": reduce_range}
    for fmt, pair, per_channel in itertools.product(("qoperator", "qdq"), eight, (False, True)):
        yield {"format": fmt, **types(*pair), "perChannel": per_channel, "activationSymmetric": True}
        yield {"format": fmt, **types(*pair), "perChannel": per_channel, "weightSymmetric": True, "minRealRange": 3.5}
    for fmt, pair in itertools.product(("qoperator", "qdq"), eight):
        yield {"format": fmt, **types(*pair), "perChannel": False, "weightSymmetric": False}
    for fmt, per_channel in itertools.product(("qoperator", "qdq"), (False, True)):
        yield {"format": fmt, **types("uint8", "int8"), "perChannel": per_channel, "restrictZeroPoints": True}
    wide = [("uint16", "int8"), ("uint16", "uint16"), ("int16", "int16"), ("int16", "uint8"), ("uint8", "int4"), ("uint16", "uint4")]
    for pair, per_channel, symmetric in itertools.product(wide, (False, True), (False, True)):
        yield {"format": "qdq", **types(*pair), "perChannel": per_channel, "activationSymmetric": symmetric}
    yield {"format": "qdq", **types("uint16", "int16"), "perChannel": True, "reduceRange": True}
    yield {"format": "qdq", **types("uint8", "int8"), "perChannel": True, "quantizeBias": False}
    if name == "mobilenet":
        yield {"format": "qoperator", **types("uint8", "int8"), "perChannel": True, "nnapiSigmoid": True}
    if name == "transformer":
        for pair, per_channel in itertools.product((("uint8", "int4"), ("uint8", "uint4"), ("uint16", "int8")), (False, True)):
            yield {"format": "qdq", **types(*pair), "perChannel": per_channel, "blockSize": 4,
                   "exclude": ["first", "second", "logits"]}   # the tool has no blocks for vectors, nor biases beside blocks
        yield {"format": "qdq", **types("uint8", "int8"), "perChannel": False, "overrides": {
            "scores": {"type": "uint16"}, "query_w": {"type": "int4", "axis": None}, "attended_w": {"symmetric": False, "axis": None},
            "joined": {}, "wide_w": {"axis": 1, "type": "int16"}, "narrow_w": {"reduceRange": True, "axis": None},
            "wide": {"range": [-2.5, 7.25]}, "mixed": {"scale": 0.03125, "zeroPoint": 131, "type": "uint8"},
            "residual": {"type": "uint16", "convert": {"type": "uint8", "receivers": ["second"]}},
            "embedded": {"convert": {"type": "int16", "symmetric": True}},
            "key_w": {"axis": 1, "scale": [0.01 * (i + 1) for i in range(16)], "zeroPoint": [0] * 16}}}


def compat():
    documents = {}
    for name, build, feed in (
            ("resnet", resnet, lambda rng: {"x": rng.normal(0, 1, (2, 3, 8, 8)).astype(np.float32)}),
            ("mobilenet", mobilenet, lambda rng: {"x": rng.normal(0, 1, (2, 3, 8, 8)).astype(np.float32)}),
            ("transformer", transformer, lambda rng: {"ids": rng.integers(0, 20, (2, 6))})):
        model, rng = build(), np.random.default_rng(SEED)
        onnx.checker.check_model(model)
        with tempfile.TemporaryDirectory() as folder:
            source, prepared, output, cache = (str(Path(folder) / file) for file in ("float.onnx", "prepared.onnx", "int8.onnx", "ranges.json"))
            onnx.save(onnx.shape_inference.infer_shapes(model), source)
            calibrator = create_calibrator(Path(source), [node.op_type for node in model.graph.node], calibrate_method=CalibrationMethod.MinMax)
            calibrator.collect_data(Feeds([feed(rng) for _ in range(8)]))
            data = calibrator.compute_data()
            save_tensors_data(data, cache)
            ranges = {tensor: [float(np.squeeze(v)) for v in data[tensor].range_value] for tensor in data.keys()}
            static = []
            for options in static_settings(name):
                extra = {EXTRA[key]: value for key, value in options.items() if key in EXTRA}
                if "overrides" in options:
                    extra["TensorQuantOverrides"] = python_overrides({k: v for k, v in options["overrides"].items() if v})
                quantize_static(source, output, None, quant_format=QuantFormat.QDQ if options["format"] == "qdq" else QuantFormat.QOperator,
                                per_channel=options["perChannel"], reduce_range=options.get("reduceRange", False),
                                activation_type=QUANT_TYPES[options["activationType"]], weight_type=QUANT_TYPES[options["weightType"]],
                                nodes_to_exclude=list(options.get("exclude", [])), calibration_cache_path=cache,
                                extra_options=extra)
                static.append([options, digests(onnx.load(output), options["format"] == "qdq")])
            dynamic = []
            for kind, per_channel, reduce_range in itertools.product(("int8", "uint8"), (False, True), (False, True)):
                quantize_dynamic(source, output, per_channel=per_channel, reduce_range=reduce_range, weight_type=QUANT_TYPES[kind])
                dynamic.append([{"weightType": kind, "perChannel": per_channel, "reduceRange": reduce_range}, digests(onnx.load(output), False)])
        documents[name] = {"model": base64.b64encode(model.SerializeToString()).decode(), "ranges": ranges, "static": static, "dynamic": dynamic}
        print(name, len(static), "static,", len(dynamic), "dynamic")
    text = json.dumps({"madeBy": made_by(), **documents}, separators=(",", ":"))
    path = OUTPUT / "compat.json.gz"
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"compat.json.gz: {path.stat().st_size} bytes")


# ---- operators.json.gz: the same for the operators that no network above has, and an int8 network that stays integer -----

def shapes():
    """What moves, picks and normalizes, each between layers whose codes it gets."""
    net, pad = Net(17), {"pads": [1, 1, 1, 1]}

    def ints(name, *values):
        return net.constant(name, list(values), np.int64)

    stem = net.node("Relu", "stem_relu", net.conv("stem", "x", 8, 3, 3, 3, **pad))
    up = net.node("ConvTranspose", "up", stem, net.weight("up_w", 8, 4, 2, 2), net.weight("up_b", 4), kernel_shape=[2, 2], strides=[2, 2])
    normal = net.node("InstanceNormalization", "normal", up, net.constant("normal_g", 1 + net.rng.normal(0, 0.2, 4)), net.weight("normal_b", 4))
    zeros = net.node("Pad", "zeros", net.conv("a", normal, 8, 4, 3, 3, strides=[2, 2], **pad), ints("zeros_p", 0, 0, 1, 1, 0, 0, 1, 1))
    mirror = net.node("Pad", "mirror", net.conv("b", zeros, 8, 8, 3, 3), ints("mirror_p", 0, 0, 1, 0, 0, 0, 0, 1), mode="reflect")
    net.nodes.append(helper.make_node("Split", [mirror], ["first", "second"], "split", axis=1))
    first = net.node("Slice", "cut", net.conv("c", "first", 4, 4, 1, 1), ints("cut_s", 1), ints("cut_e", 9), ints("cut_a", 2))
    second = net.node("Slice", "trim", net.conv("d", "second", 4, 4, 1, 1), ints("trim_s", 0), ints("trim_e", 8), ints("trim_a", 2))
    chosen = net.node("Where", "chosen", net.constant("mask", net.rng.integers(0, 2, (1, 4, 1, 1)), np.bool_), first, second)
    wide = net.node("Resize", "wide", net.conv("e", chosen, 4, 4, 1, 1), "", net.constant("wide_s", [1, 1, 2, 2]), mode="nearest",
                    coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    pooled = net.node("Squeeze", "row", net.node("GlobalAveragePool", "mean", net.conv("f", wide, 8, 4, 1, 1)), ints("row_a", 2, 3))
    table = net.node("MatMul", "table", pooled, net.weight("table_w", 8, 8))
    net.nodes.append(helper.make_node("TopK", [net.node("Unsqueeze", "again", table, ints("again_a", 1)), ints("top_k", 4)], ["top", "at"], "topk"))
    taken = net.node("GatherElements", "taken", net.node("MatMul", "after", "top", net.weight("after_w", 4, 6)),
                     net.constant("taken_i", net.rng.integers(0, 6, (2, 1, 5)), np.int64), axis=2)
    net.node("MatMul", "result", taken, net.weight("result_w", 5, 3))
    net.node("ArgMax", "best", "result", axis=2, keepdims=0)
    return net.model([("x", TensorProto.FLOAT, [2, 3, 8, 8])],
                     [("result", TensorProto.FLOAT, [2, 1, 3]), ("best", TensorProto.INT64, [2, 1])])


def residual():
    """Three residual blocks, one of them with strides and a projection; every constant is a weight or a bias."""
    net, pad, x = Net(13), {"pads": [1, 1, 1, 1]}, None
    x = net.node("Relu", "stem_relu", net.conv("stem", "x", 8, 3, 3, 3, **pad))
    for i, (channels, width, stride) in enumerate([(8, 8, 1), (8, 12, 2), (12, 12, 1)]):
        inner = net.node("Relu", f"inner{i}_relu", net.conv(f"inner{i}", x, width, channels, 3, 3, strides=[stride, stride], **pad))
        outer = net.conv(f"outer{i}", inner, width, width, 3, 3, **pad)
        short = net.conv(f"short{i}", x, width, channels, 1, 1, strides=[stride, stride]) if stride > 1 else x
        x = net.node("Relu", f"block{i}", net.node("Add", f"sum{i}", outer, short))
    net.node("Gemm", "logits", net.node("Flatten", "flat", net.node("GlobalAveragePool", "mean", x)), net.weight("logits_w", 5, 12),
             net.weight("logits_b", 5), transB=1)
    return net.model([("x", TensorProto.FLOAT, [2, 3, 8, 8])], [("logits", TensorProto.FLOAT, [2, 5])])


def corners():
    """A constant in front of a product, and a large bias behind a scale that a Reshape shares."""
    net = Net(17)
    inner = net.node("MatMul", "inner", "x", net.weight("inner_w", 8, 8))
    front = net.node("MatMul", "front", net.weight("front_w", 5, 8), inner)
    rows = net.node("Reshape", "rows", front, net.constant("rows_shape", [30, 8], np.int64))
    net.node("Gemm", "result", rows, net.weight("result_w", 8, 4, scale=1e-3), net.constant("result_b", [1e6, -3e5, 0.1, 0]))
    return net.model([("x", TensorProto.FLOAT, [2, 3, 8, 8])], [("result", TensorProto.FLOAT, [30, 4])])


def encoder():
    """EmbedLayerNormalization, Attention and LSTM, which only dynamic quantization has."""
    net, width, length, hidden = Net(17), 16, 6, 8
    tables = [net.weight("word", 20, width, scale=4), net.weight("position", length, width), net.weight("segment", 2, width),
              net.constant("gamma", 1 + net.rng.normal(0, 0.2, width)), net.weight("beta", width)]
    net.nodes.append(helper.make_node("EmbedLayerNormalization", ["ids", "segments", *tables], ["embedded", "mask_index"], "embed",
                                      domain="com.microsoft", epsilon=1e-12))
    net.node("Attention", "attended", "embedded", net.weight("qkv_w", width, 3 * width), net.weight("qkv_b", 3 * width),
                        domain="com.microsoft", num_heads=2)
    # Behind Attention the tool knows no types, and so quantizes no LSTM.
    net.nodes.append(helper.make_node(
        "LSTM", ["steps", net.weight("lstm_w", 1, 4 * hidden, width), net.weight("lstm_r", 1, 4 * hidden, hidden), net.weight("lstm_b", 1, 8 * hidden)],
        ["states", "last"], "lstm", hidden_size=hidden))
    rows = net.node("Squeeze", "rows", "last", net.constant("axis", [0], np.int64))
    net.node("MatMul", "logits", rows, net.weight("logits_w", hidden, 3))
    model = net.model([("ids", TensorProto.INT32, [2, length]), ("segments", TensorProto.INT32, [2, length]),
                       ("steps", TensorProto.FLOAT, [length, 2, width])],
                      [("logits", TensorProto.FLOAT, [2, 3]), ("attended", TensorProto.FLOAT, [2, length, width])])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def bodies():
    """Two branches that share a weight with each other and with the graph around them."""
    def branch(name, *nodes):
        return helper.make_graph(list(nodes), name, [], [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [2, 8])])

    net = Net(17)
    tied, own = net.weight("tied", 8, 8), net.weight("own", 8, 8)
    stem = net.node("MatMul", "stem", "x", net.weight("stem_w", 8, 8))
    condition = net.node("Greater", "condition", net.node("ReduceMean", "mean", "x", keepdims=0), net.constant("zero", 0))
    yes = branch("yes", helper.make_node("MatMul", [stem, tied], ["yes_y"], "yes_product"))
    no = branch("no", helper.make_node("MatMul", [stem, own], ["no_h"], "no_first"), helper.make_node("MatMul", ["no_h", tied], ["no_y"], "no_second"))
    net.nodes.append(helper.make_node("If", [condition], ["chosen"], "branch", then_branch=yes, else_branch=no))
    net.node("MatMul", "result", "chosen", tied)
    return net.model([("x", TensorProto.FLOAT, [2, 8])], [("result", TensorProto.FLOAT, [2, 8])])


def flat(model):
    """A model whose graph has the nodes and initializers of its bodies, too."""
    merged = onnx.ModelProto()
    merged.CopyFrom(model)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                merged.graph.node.extend(attribute.g.node)
                merged.graph.initializer.extend(attribute.g.initializer)
    return merged


def operators():
    documents = {}
    model = encoder()
    with tempfile.TemporaryDirectory() as folder:
        source, output = (str(Path(folder) / file) for file in ("float.onnx", "int8.onnx"))
        onnx.save(model, source)
        dynamic = []
        for kind, per_channel in itertools.product(("int8", "uint8"), (False, True)):
            quantize_dynamic(source, output, per_channel=per_channel, weight_type=QUANT_TYPES[kind])
            made = onnx.load(output)
            dynamic.append([{"weightType": kind, "perChannel": per_channel}, digests(made, False), op_counts(made)])
    documents["encoder"] = {"model": base64.b64encode(model.SerializeToString()).decode(), "dynamic": dynamic}
    print("encoder", len(dynamic), "dynamic")
    model = bodies()
    onnx.checker.check_model(model)
    with tempfile.TemporaryDirectory() as folder:
        source, output = (str(Path(folder) / file) for file in ("float.onnx", "int8.onnx"))
        onnx.save(model, source)
        dynamic = []
        for kind, per_channel, inside in itertools.product(("int8", "uint8"), (False, True), (False, True)):
            quantize_dynamic(source, output, per_channel=per_channel, weight_type=QUANT_TYPES[kind], extra_options={"EnableSubgraph": inside})
            made = flat(onnx.load(output))
            dynamic.append([{"weightType": kind, "perChannel": per_channel, "subgraphs": inside}, digests(made, False), op_counts(made)])
    documents["bodies"] = {"model": base64.b64encode(model.SerializeToString()).decode(), "dynamic": dynamic}
    print("bodies", len(dynamic), "dynamic")
    for name, build in (("shapes", shapes), ("residual", residual), ("corners", corners)):
        model, rng = build(), np.random.default_rng(SEED)
        onnx.checker.check_model(model)
        feeds = [{"x": rng.normal(0, 1, (2, 3, 8, 8)).astype(np.float32)} for _ in range(8)]
        with tempfile.TemporaryDirectory() as folder:
            source, output, cache = (str(Path(folder) / file) for file in ("float.onnx", "int8.onnx", "ranges.json"))
            onnx.save(onnx.shape_inference.infer_shapes(model), source)
            ops = sorted({node.op_type for node in model.graph.node} - {"ArgMax"})
            calibrator = create_calibrator(Path(source), ops, str(Path(folder) / "augmented.onnx"), CalibrationMethod.MinMax)
            calibrator.collect_data(Feeds(feeds))
            data = calibrator.compute_data()
            save_tensors_data(data, cache)
            ranges = {tensor: [float(np.squeeze(v)) for v in data[tensor].range_value] for tensor in data.keys()}
            static = []
            for fmt, pair, per_channel in itertools.product(("qoperator", "qdq"), (("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")), (False, True)):
                options = {"format": fmt, "activationType": pair[0], "weightType": pair[1], "perChannel": per_channel}
                quantize_static(source, output, None, quant_format=QuantFormat.QDQ if fmt == "qdq" else QuantFormat.QOperator,
                                per_channel=per_channel, activation_type=QUANT_TYPES[pair[0]], weight_type=QUANT_TYPES[pair[1]],
                                calibration_cache_path=cache)
                made = onnx.load(output)
                static.append([options, digests(made, fmt == "qdq"), op_counts(made)])
                if name == "residual" and fmt == "qoperator" and pair[0] == "int8" and per_channel:
                    session = onnxruntime.InferenceSession(output, providers=["CPUExecutionProvider"])
                    documents["int8"] = {"model": base64.b64encode(made.SerializeToString()).decode(), "x": base64_of(feeds[0]["x"]),
                                         "logits": base64_of(session.run(None, feeds[0])[0])}
        documents[name] = {"model": base64.b64encode(model.SerializeToString()).decode(), "ranges": ranges, "static": static}
        print(name, len(static), "static")
    text = json.dumps({"madeBy": made_by(), **documents}, separators=(",", ":"))
    path = OUTPUT / "operators.json.gz"
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"operators.json.gz: {path.stat().st_size} bytes")


def main():
    logging.disable(logging.WARNING)
    jobs = {"params": params, "weights": weights, "types": types, "compat": compat, "operators": operators, "tiny": tiny,
            "resnet8": lambda: network("resnet8"), "mobilenetv2": lambda: network("mobilenetv2")}
    for name in sys.argv[1:] or jobs:
        jobs[name]()


if __name__ == "__main__":
    main()

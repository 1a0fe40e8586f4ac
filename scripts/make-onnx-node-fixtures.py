#!/usr/bin/env python3
"""Packs the ONNX backend node tests of the operators we have into test/fixtures/onnx-node/cases.json.gz.

    python scripts/make-onnx-node-fixtures.py [output]

Reads the tests from the installed `onnx` package (onnx/backend/test/data/node). See test/fixtures/README.md.
"""
import base64
import gzip
import io
import json
import sys
from collections import Counter
from pathlib import Path

import onnx
from onnx import AttributeProto, TensorProto

OUTPUT = Path(__file__).resolve().parent.parent / "test" / "fixtures" / "onnx-node" / "cases.json.gz"
MAX_BYTES = 60_000  # of model, inputs and outputs together

OPS = set("""
QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger
Conv ConvTranspose Gemm MatMul MaxPool AveragePool GlobalAveragePool GlobalMaxPool
Add Sub Mul Div Pow Sqrt Erf Tanh Sigmoid Relu Clip LeakyRelu HardSigmoid HardSwish Gelu PRelu Elu Softplus
Exp Log Neg Abs Floor Ceil Round Min Max Mod Softmax
ReduceMean ReduceSum ReduceMax ReduceMin ReduceL2 ArgMax TopK CumSum LSTM GRU
BatchNormalization LayerNormalization InstanceNormalization
Concat Split Slice Reshape Flatten Transpose Squeeze Unsqueeze Expand Tile Pad Resize DepthToSpace SpaceToDepth
Gather GatherElements GatherND ScatterND ScatterElements OneHot NonZero Where Trilu
Shape Size Cast Constant ConstantOfShape Identity Range Equal Greater Less And Or Not
""".split())
TYPES = {TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL}


def refusal(model):
    """Why a test is left out, or None."""
    graph = model.graph
    if len(graph.node) != 1:
        return "several nodes"
    node = graph.node[0]
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPS:
        return "operator"
    for value in [*graph.input, *graph.output]:
        if not value.type.HasField("tensor_type") or value.type.tensor_type.elem_type not in TYPES:
            return "type"
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR and attribute.t.data_type not in TYPES:
            return "type"
        if attribute.type not in (AttributeProto.TENSOR, AttributeProto.INT, AttributeProto.INTS,
                                  AttributeProto.FLOAT, AttributeProto.FLOATS, AttributeProto.STRING):
            return "attribute"
        if node.op_type == "BatchNormalization" and attribute.name == "training_mode" and attribute.i:
            return "training"
        if node.op_type == "Resize" and attribute.name == "mode" and attribute.s == b"cubic":
            return "cubic"
    return None


def numbered(folder, kind):
    return [folder / f"{kind}_{i}.pb" for i in range(len(list(folder.glob(f"{kind}_*.pb"))))]


def main():
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    root = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
    if not root.is_dir():
        sys.exit(f"onnx {onnx.__version__} comes without backend/test/data/node; install onnx==1.22.0")
    cases, left_out, by_op = [], Counter(), Counter()
    for folder in sorted(root.iterdir()):
        if "_expanded" in folder.name or not (folder / "model.onnx").exists():
            continue
        model = onnx.load(str(folder / "model.onnx"))
        reason = refusal(model)
        if reason is None:
            sets = [{"inputs": numbered(data, "input"), "outputs": numbered(data, "output")}
                    for data in sorted(folder.glob("test_data_set_*"))]
            files = [folder / "model.onnx", *(f for s in sets for files in s.values() for f in files)]
            size = sum(file.stat().st_size for file in files)
            reason = f"larger than {MAX_BYTES} bytes" if size > MAX_BYTES else None
        if reason is not None:
            left_out[reason] += 1
            continue
        encode = lambda file: base64.b64encode(file.read_bytes()).decode()  # noqa: E731
        cases.append({"name": folder.name, "model": encode(folder / "model.onnx"),
                      "sets": [{kind: [encode(f) for f in files] for kind, files in s.items()} for s in sets]})
        by_op[model.graph.node[0].op_type] += 1

    raw = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as file:
        file.write(b"[\n" + b",\n".join(json.dumps(c, separators=(",", ":")).encode() for c in cases) + b"\n]\n")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(raw.getvalue())
    print(f"onnx {onnx.__version__}: {len(cases)} cases, {len(raw.getvalue())} bytes")
    print("cases:", ", ".join(f"{op} {n}" for op, n in sorted(by_op.items())))
    print("left out:", dict(left_out))
    print("without a case:", sorted(OPS - set(by_op)))


if __name__ == "__main__":
    main()

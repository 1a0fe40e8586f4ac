#!/usr/bin/env python3
"""Trains the two Fashion-MNIST networks of this example, exports them to ONNX and writes the data files.

    python train.py resnet8 mobilenetv2     train, export and check these networks
    python train.py data                    only write the calibration and test images
    python train.py check                   only check the committed files with ONNX Runtime

TRAINING.md tells which packages this needs and what came out.
"""
import argparse
import gzip
import io
import struct
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
DATASET = Path("/usr/share/datasets/fashion-mnist")  # where Debian's dataset-fashion-mnist puts it
MEAN, STD = 0.2860, 0.3530
SEED = 20240
CLASSES = 10
CALIBRATION_IMAGES = 256
TEST_IMAGES = 2000
OPSET = 13

# Epochs and peak learning rate of each network; everything else is common to both.
SCHEDULE = {"resnet8": (10, 0.15), "mobilenetv2": (7, 0.15)}
BATCH, WEIGHT_DECAY, LABEL_SMOOTHING, MAX_SHIFT = 128, 3e-4, 0.05, 1


# ---- data ------------------------------------------------------------------------------------

def read_idx(path):
    """Reads a gzip'd IDX file of unsigned bytes (the MNIST file format)."""
    data = gzip.decompress(Path(path).read_bytes())
    zero, kind, rank = struct.unpack_from(">HBB", data)
    if zero != 0 or kind != 8:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes")
    shape = struct.unpack_from(f">{rank}I", data, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def write_idx(path, array):
    """Writes a gzip'd IDX file; like `gzip -9n`: no name, no time, so the bytes are reproducible."""
    raw = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    out = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=out, mtime=0) as file:
        file.write(raw)
    Path(path).write_bytes(out.getvalue())


def dataset(part):
    return (read_idx(DATASET / f"{part}-images-idx3-ubyte.gz"), read_idx(DATASET / f"{part}-labels-idx1-ubyte.gz"))


def normalise(images):
    return ((images.astype(np.float32) / 255 - MEAN) / STD)[:, None].astype(np.float32)


def write_data():
    """256 calibration images out of the training set, balanced over the classes, and the first 2 000 test images."""
    images, labels = dataset("train")
    rng = np.random.default_rng(SEED)
    order = rng.permutation(len(images))
    by_class = [order[labels[order] == c] for c in range(CLASSES)]
    chosen = [by_class[i % CLASSES][i // CLASSES] for i in range(CALIBRATION_IMAGES)]
    write_idx(HERE / "calibration-images.idx.gz", images[chosen])
    images, labels = dataset("t10k")
    write_idx(HERE / "test-images.idx.gz", images[:TEST_IMAGES])
    write_idx(HERE / "test-labels.idx.gz", labels[:TEST_IMAGES])


# ---- networks --------------------------------------------------------------------------------

def build(name):
    import torch
    from torch import nn

    class ConvBN(nn.Module):
        def __init__(self, cin, cout, kernel, stride=1, groups=1):
            super().__init__()
            self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
            self.bn = nn.BatchNorm2d(cout)

        def forward(self, x):
            return self.bn(self.conv(x))

    class Residual(nn.Module):
        def __init__(self, cin, cout, stride):
            super().__init__()
            self.a = ConvBN(cin, cout, 3, stride)
            self.b = ConvBN(cout, cout, 3)
            self.shortcut = ConvBN(cin, cout, 1, stride) if stride > 1 or cin != cout else None
            self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

        def forward(self, x):
            y = self.b(self.relu1(self.a(x)))
            return self.relu2(y + (x if self.shortcut is None else self.shortcut(x)))

    class InvertedResidual(nn.Module):
        def __init__(self, cin, cout, stride, expansion):
            super().__init__()
            hidden = cin * expansion
            self.expand = ConvBN(cin, hidden, 1) if expansion > 1 else None
            self.depthwise = ConvBN(hidden, hidden, 3, stride, groups=hidden)
            self.project = ConvBN(hidden, cout, 1)
            self.act1, self.act2 = nn.ReLU6(), nn.ReLU6()
            self.residual = stride == 1 and cin == cout

        def forward(self, x):
            y = x if self.expand is None else self.act1(self.expand(x))
            y = self.project(self.act2(self.depthwise(y)))
            return x + y if self.residual else y

    class Classifier(nn.Module):
        """Stem, blocks, an optional 1x1 head, global average pool, one fully connected layer."""

        def __init__(self, stem, blocks, head, activation):
            super().__init__()
            self.stem, self.act = ConvBN(1, stem, 3), activation()
            width, layers = stem, []
            for make, cout, stride, *rest in blocks:
                layers.append(make(width, cout, stride, *rest))
                width = cout
            self.blocks = nn.Sequential(*layers)
            self.head, self.head_act = (ConvBN(width, head, 1), activation()) if head else (None, None)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(head or width, CLASSES)

        def forward(self, x):
            x = self.blocks(self.act(self.stem(x)))
            if self.head is not None:
                x = self.head_act(self.head(x))
            return self.fc(torch.flatten(self.pool(x), 1))

    if name == "resnet8":
        return Classifier(16, [(Residual, 16, 1), (Residual, 32, 2), (Residual, 64, 2)], None, nn.ReLU)
    if name == "mobilenetv2":
        ir = InvertedResidual
        return Classifier(16, [(ir, 16, 1, 1), (ir, 24, 2, 4), (ir, 24, 1, 4), (ir, 40, 2, 4), (ir, 40, 1, 4), (ir, 40, 1, 4)],
                          160, nn.ReLU6)
    raise ValueError(f"unknown network {name}")


# ---- training --------------------------------------------------------------------------------

def augmented(images, rng):
    """One epoch of images, each flipped and shifted at random."""
    n, size, _ = images.shape
    padded = np.pad(images, ((0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT)))
    span = np.arange(size)
    rows = rng.integers(0, 2 * MAX_SHIFT + 1, (n, 1)) + span
    columns = rng.integers(0, 2 * MAX_SHIFT + 1, (n, 1)) + np.where(rng.random((n, 1)) < 0.5, span, span[::-1])
    return padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def train(name, epochs=None):
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    rng = np.random.default_rng(SEED)
    images, labels = dataset("train")
    test_images, test_labels = dataset("t10k")
    model = build(name).to(memory_format=torch.channels_last)
    default_epochs, peak = SCHEDULE[name]
    epochs = epochs or default_epochs
    steps = len(images) // BATCH
    decay = [p for p in model.parameters() if p.ndim > 1]
    keep = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD([{"params": decay, "weight_decay": WEIGHT_DECAY}, {"params": keep, "weight_decay": 0}],
                                lr=peak, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=epochs * steps, pct_start=0.15,
                                                   cycle_momentum=False, final_div_factor=1e3)
    loss_of = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, {epochs} epochs", flush=True)
    start = time.time()
    for epoch in range(epochs):
        model.train()
        order = rng.permutation(len(images))
        x = augmented(images[order], rng)
        y = torch.from_numpy(labels[order].astype(np.int64))
        total = 0.0
        for step in range(steps):
            part = slice(step * BATCH, (step + 1) * BATCH)
            batch = torch.from_numpy(normalise(x[part])).contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            loss = loss_of(model(batch), y[part])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"  epoch {epoch + 1}/{epochs}  loss {total / steps:.4f}  {time.time() - start:.0f} s", flush=True)
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(torch.from_numpy(normalise(test_images[i:i + 1000]))) for i in range(0, 10000, 1000)])
    print(f"  test accuracy {np.mean(logits.argmax(1).numpy() == test_labels):.4f}", flush=True)
    return model.to(memory_format=torch.contiguous_format)


# ---- export ----------------------------------------------------------------------------------

def export(model, path):
    """Writes the ONNX file: batch dimension free, BatchNormalization kept as nodes, nothing but the graph in it."""
    import onnx
    import torch

    raw = io.BytesIO()
    torch.onnx.export(model.eval(), torch.zeros(1, 1, 28, 28), raw, opset_version=OPSET,
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False, export_params=True,
                      input_names=["input"], output_names=["logits"],
                      dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}})
    proto = onnx.load_from_string(raw.getvalue())
    proto.doc_string = ""
    proto.graph.doc_string = ""
    proto.graph.name = Path(path).stem
    for node in proto.graph.node:
        node.doc_string = ""
    del proto.graph.value_info[:]
    # The exporter stores equal weights once and adds an Identity; every name gets its own copy instead.
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in [node for node in proto.graph.node if node.op_type == "Identity" and node.input[0] in weights]:
        copy = proto.graph.initializer.add()
        copy.CopyFrom(weights[node.input[0]])
        copy.name = node.output[0]
        proto.graph.node.remove(node)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))


def check(names):
    """Top-1 of the exported files in ONNX Runtime: on the whole test set and on the 2 000 images of this example."""
    import onnxruntime

    subset, subset_labels = read_idx(HERE / "test-images.idx.gz"), read_idx(HERE / "test-labels.idx.gz")
    for name in names:
        session = onnxruntime.InferenceSession(str(HERE / f"{name}.onnx"), providers=["CPUExecutionProvider"])

        def top1(images, labels):
            logits = [session.run(["logits"], {"input": normalise(images[i:i + 500])})[0]
                      for i in range(0, len(images), 500)]
            return np.mean(np.concatenate(logits).argmax(1) == labels)

        full = f"{top1(*dataset('t10k')):.4f}" if DATASET.exists() else "-"
        print(f"{name}.onnx: test set {full}, first {len(subset)} images {top1(subset, subset_labels):.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="+", choices=[*SCHEDULE, "data", "check"])
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    if "data" in options.what:
        write_data()
    trained = [name for name in SCHEDULE if name in options.what]
    for name in trained:
        export(train(name, options.epochs), HERE / f"{name}.onnx")
    check(list(SCHEDULE) if "check" in options.what else trained)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Exports small networks with random weights by PyTorch into test/fixtures/torch.

    python scripts/make-torch-fixtures.py

Which transformers are exported depends on the version of the `transformers` package: masks and positions are written in other
words by each. Weights are multiples of 1/64, so that files pack well. See test/fixtures/README.md.
"""
import gzip
import io
import warnings
from pathlib import Path

import onnx
import timm
import torch
import transformers
from torch import nn

OUTPUT = Path(__file__).resolve().parent.parent / "test" / "fixtures" / "torch"
MAJOR = int(transformers.__version__.split(".")[0])
SIZE, LAYERS, HEADS, INNER, VOCABULARY, POSITIONS = 32, 2, 4, 64, 40, 24
IMAGE = (2, 3, 16, 16)


class Outputs(nn.Module):
    """The first output of a network whose inputs have names."""

    def __init__(self, network, names):
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs):
        return self.network(**dict(zip(self.names, inputs)), return_dict=False)[0]


class Residual(nn.Module):
    """Convolutions as in a ResNet and a MobileNet, with batch normalization."""

    def __init__(self):
        super().__init__()
        def unit(inputs, outputs, kernel, **options):
            conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options)
            return nn.Sequential(conv, nn.BatchNorm2d(outputs))

        self.stem = unit(3, 8, 3, stride=2)
        self.first, self.second = unit(8, 8, 3), unit(8, 8, 3)
        self.expand, self.depthwise, self.project = unit(8, 16, 1), unit(16, 16, 3, groups=16), unit(16, 8, 1)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        x = (x + self.second(self.first(x).relu())).relu()
        x = x + self.project(nn.functional.hardswish(self.depthwise(nn.functional.relu6(self.expand(x)))))
        return self.head(x.mean((2, 3)))


def text(model, config, names, attention="sdpa", **options):
    sizes = {
        "distilbert": dict(dim=SIZE, n_layers=LAYERS, n_heads=HEADS, hidden_dim=INNER, max_position_embeddings=POSITIONS),
        "gpt2": dict(n_embd=SIZE, n_layer=LAYERS, n_head=HEADS, n_positions=POSITIONS, use_cache=False, bos_token_id=0,
                     eos_token_id=0),
    }.get(config.model_type, dict(hidden_size=SIZE, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                                  intermediate_size=INNER, max_position_embeddings=POSITIONS))
    network = model(config(vocab_size=VOCABULARY, attn_implementation=attention, **sizes), **options)
    return Outputs(network, names), names


def networks():
    """Name, exporter, network, names of its inputs (none: a picture)."""
    ids = ["input_ids", "attention_mask"]
    plain = dict(add_pooling_layer=False)
    bert = (transformers.BertModel, transformers.BertConfig, [*ids, "token_type_ids"])
    distilbert = (transformers.DistilBertModel, transformers.DistilBertConfig, ids)
    roberta = (transformers.RobertaModel, transformers.RobertaConfig, ids)
    gpt2 = (transformers.GPT2Model, transformers.GPT2Config, ids)
    if MAJOR == 4:
        yield "bert-v4-eager", "script", *text(*bert, attention="eager", **plain)
        # As sentence embedders are often exported: without segments.
        yield "minilm-v4-sdpa", "script", *text(*bert[:2], ids, **plain)
        yield "distilbert-v4-eager", "script", *text(*distilbert, attention="eager")
        yield "distilbert-v4-sdpa", "script", *text(*distilbert)
        yield "roberta-v4-sdpa", "script", *text(*roberta, **plain)
        yield "gpt2-v4-eager", "script", *text(*gpt2, attention="eager")
        yield "gpt2-v4-sdpa", "dynamo", *text(*gpt2)
        return
    for exporter in ("script", "dynamo"):
        yield "bert-v5-sdpa", exporter, *text(*bert, **plain)
        yield "gpt2-v5-sdpa", exporter, *text(*gpt2)
    yield "distilbert-v5-eager", "dynamo", *text(*distilbert, attention="eager")
    yield "roberta-v5-sdpa", "dynamo", *text(*roberta, **plain)
    vit = transformers.ViTConfig(hidden_size=SIZE, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                                 intermediate_size=INNER, image_size=IMAGE[2], patch_size=4)
    yield "vit-v5-sdpa", "script", Outputs(transformers.ViTModel(vit, add_pooling_layer=False), ["pixel_values"]), None
    for exporter, fused in (("script", True), ("dynamo", True), ("script", False)):
        timm.layers.set_fused_attn(fused)
        network = timm.models.vision_transformer.VisionTransformer(
            img_size=IMAGE[2], patch_size=4, embed_dim=SIZE, depth=LAYERS, num_heads=HEADS, mlp_ratio=2, num_classes=10)
        yield f"timm-vit-{'sdpa' if fused else 'eager'}", exporter, network, None
    # One item of one length.
    yield "bert-v5-fixed", "script", *text(*bert[:2], ids, **plain)
    for exporter in ("script", "dynamo"):
        yield "residual", exporter, Residual(), None


def fill(network, generator):
    """Weights that keep the size of activations; scales of normalizations around 1."""
    with torch.no_grad():
        for module in network.modules():
            is_norm = isinstance(module, (nn.LayerNorm, nn.BatchNorm2d))
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.dim() == 1:
                    values = 0.2 * torch.randn(parameter.shape, generator=generator) + (is_norm and name == "weight")
                else:
                    spread = 0.5 if isinstance(module, nn.Embedding) else parameter[0].numel() ** -0.5
                    values = spread * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(torch.round(values * 64) / 64)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.round(16 * torch.randn(module.num_features, generator=generator)) / 64)
                module.running_var.copy_(torch.arange(module.num_features) / 16 + 0.5)


def export(name, exporter, network, names):
    generator = torch.Generator().manual_seed(7)
    fill(network, generator)
    network.eval()
    if names is None:
        names, inputs, axes = ["pixel_values"], (torch.randn(IMAGE, generator=generator),), {0: "batch"}
    else:
        ids = torch.randint(3, VOCABULARY, (2, 7), generator=generator)
        mask = torch.ones_like(ids)
        mask[1, 5:] = 0
        inputs, axes = (ids, mask, torch.zeros_like(ids))[: len(names)], {0: "batch", 1: "sequence"}
    if name.endswith("-fixed"):
        inputs, axes = tuple(tensor[:1] for tensor in inputs), {}
    file = io.BytesIO()
    if exporter == "script":
        torch.onnx.export(network, inputs, file, input_names=names, output_names=["y"], opset_version=17, dynamo=False,
                          dynamic_axes={**{key: axes for key in names}, "y": {0: "batch"}} if axes else {})
        model = onnx.load_from_string(file.getvalue())
    else:
        sizes = {"batch": torch.export.Dim("batch"), "sequence": torch.export.Dim("sequence", max=POSITIONS)}
        shapes = tuple({axis: sizes[size] for axis, size in axes.items()} for _ in names)
        program = torch.onnx.export(network, inputs, input_names=names, output_names=["y"], dynamo=True,
                                    dynamic_shapes=(shapes,) if isinstance(network, Outputs) else shapes)
        model = program.model_proto
    onnx.checker.check_model(model)
    # Stack traces of the exporter, many times the size of the graph.
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    path = OUTPUT / f"{name}-{exporter}.onnx.gz"
    path.write_bytes(gzip.compress(model.SerializeToString(deterministic=True), mtime=0))
    print(f"{path.name}: {path.stat().st_size} bytes, opset {model.opset_import[0].version}, {len(model.graph.node)} nodes")


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    OUTPUT.mkdir(parents=True, exist_ok=True)
    for arguments in networks():
        export(*arguments)

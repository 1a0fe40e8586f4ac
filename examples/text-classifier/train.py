#!/usr/bin/env python3
"""Trains the text classifier of this example and writes its data files.

    python3 train.py            writes text-classifier.onnx, test.tsv and calibration.tsv

Needs Debian's python3-torch (1.13) and a Debian system with package lists (`apt-get update`): the texts are the one-line
descriptions of Debian 12's packages, the classes the archive sections that the packages are in. README.md tells more.
"""
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).resolve().parent
SECTIONS = ["doc", "fonts", "games", "graphics", "net", "perl", "python", "science", "sound", "web"]
SEED = 20240
TOKENS, LENGTH = 2048, 24
WIDTH, HEADS, HIDDEN, LAYERS = 64, 4, 128, 2
PER_SECTION = 1000  # no section counts for more than this
TEST_TEXTS, CALIBRATION_TEXTS = 1000, 200
EPOCHS, BATCH, PEAK = 8, 64, 2e-3


def tokens_of(text):
    """Words of a text as hashes (FNV-1a) in 1..TOKENS-1, padded with 0 to LENGTH. classifier.ts does the same."""
    ids = np.zeros(LENGTH, np.int64)
    for i, word in enumerate(re.findall(r"[a-z0-9]+", text.lower())[:LENGTH]):
        value = 0x811C9DC5
        for byte in word.encode():
            value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
        ids[i] = 1 + value % (TOKENS - 1)
    return ids


def read_texts():
    """(description, class) of the packages, shuffled; each description once."""
    fields = {}
    found = {}
    for line in subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout.splitlines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if fields.get("Section") in SECTIONS and fields.get("Description"):
            found.setdefault(fields["Description"].replace("\t", " "), SECTIONS.index(fields["Section"]))
        fields = {}
    texts = sorted(found.items())
    order = np.random.default_rng(SEED).permutation(len(texts))
    counts, kept = [0] * len(SECTIONS), []
    for i in order:
        label = texts[i][1]
        counts[label] += 1
        if counts[label] <= PER_SECTION:
            kept.append(texts[i])
    return kept


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.gelu, self.down = nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH)
        self.drop = nn.Dropout(0.2)

    def forward(self, x, mask):
        def heads(t):
            return t.reshape(-1, LENGTH, HEADS, WIDTH // HEADS).transpose(1, 2)

        y = self.norm1(x)
        q, k, v = heads(self.query(y)), heads(self.key(y)), heads(self.value(y))
        scores = torch.matmul(q, k.transpose(2, 3)) * (WIDTH // HEADS) ** -0.5 + mask
        y = torch.matmul(torch.softmax(scores, -1), v).transpose(1, 2).reshape(-1, LENGTH, WIDTH)
        x = x + self.drop(self.out(y))
        return x + self.drop(self.down(self.gelu(self.up(self.norm2(x)))))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(TOKENS, WIDTH), nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm, self.head, self.drop = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(SECTIONS)), nn.Dropout(0.3)

    def forward(self, ids):
        present = (ids > 0).float()
        mask = ((1 - present) * -50.0)[:, None, None, :]
        x = self.drop(self.words(ids) + self.places)
        for block in self.blocks:
            x = block(x, mask)
        weights = (present / present.sum(1, keepdim=True))[:, :, None]
        return self.head(self.drop((self.norm(x) * weights).sum(1)))


def train(ids, labels, test_ids, test_labels):
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    model = Classifier()
    print(sum(p.numel() for p in model.parameters()), "parameters,", len(ids), "texts", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.05)
    steps = len(ids) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=EPOCHS * steps, pct_start=0.2)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    start = time.time()
    for epoch in range(EPOCHS):
        model.train()
        order = torch.randperm(len(ids))
        for step in range(steps):
            part = order[step * BATCH:(step + 1) * BATCH]
            optimizer.zero_grad()
            loss = loss_of(model(ids[part]), labels[part])
            loss.backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(test_ids).argmax(1) == test_labels).float().mean().item()
        print(f"epoch {epoch + 1}  loss {loss.item():.3f}  test {accuracy:.3f}  {time.time() - start:.0f} s", flush=True)
    return model.eval()


def main():
    texts = read_texts()
    test, rest = texts[:TEST_TEXTS], texts[TEST_TEXTS:]
    for name, part in [("test.tsv", test), ("calibration.tsv", rest[:CALIBRATION_TEXTS])]:
        (HERE / name).write_text("".join(f"{SECTIONS[label]}\t{text}\n" for text, label in part))

    def tensors(part):
        return torch.tensor(np.stack([tokens_of(t) for t, _ in part])), torch.tensor([label for _, label in part])

    model = train(*tensors(rest), *tensors(test))
    torch.onnx.export(model, tensors(test)[0][:2], str(HERE / "text-classifier.onnx"), opset_version=17,
                      input_names=["ids"], output_names=["logits"],
                      dynamic_axes={"ids": {0: "batch"}, "logits": {0: "batch"}})


if __name__ == "__main__":
    main()

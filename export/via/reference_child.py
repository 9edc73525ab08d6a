"""Computes reference logits or vectors with transformers; runs in a tool's own environment.

A script of its own: it must run where ondevice is not installed. Reads a checkpoint folder and
a JSON file, writes one .npy file. Never runs code of the checkpoint, never reads pickles.

    python reference_child.py logits  FOLDER WINDOWS.json OUT.npy
    python reference_child.py encoder FOLDER BATCH.json   OUT.npy

WINDOWS.json: lists of token ids, each with a context of its own; OUT.npy: float32 (tokens, vocab).
BATCH.json: {"task": ..., "output": ..., "texts": lists of token ids}; OUT.npy: float32 (tokens,
width) of all texts one after the other, or (texts, width) for an output of one row a text.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

_CLASSES = {
    "text-generation-with-past": transformers.AutoModelForCausalLM,
    "feature-extraction": transformers.AutoModel,
    "text-classification": transformers.AutoModelForSequenceClassification,
}


def logits(folder: str, windows: list[list[int]], out: str) -> None:
    """Next-token logits of every position, window by window."""
    model = _model("text-generation-with-past", folder)
    shape = (sum(len(window) for window in windows), int(model.config.vocab_size))
    rows = np.lib.format.open_memmap(out, mode="w+", dtype=np.float32, shape=shape)
    done = 0
    for window in windows:
        found = model(torch.tensor([window]), use_cache=False).logits[0]
        rows[done : done + len(window)] = found.numpy()
        done += len(window)
    rows.flush()


def encoder(folder: str, batch: dict[str, Any], out: str) -> None:
    """Outputs for each text by itself, so that nothing is padded."""
    model = _model(batch["task"], folder)
    parts = []
    for ids in batch["texts"]:
        given = torch.tensor([ids])
        found = model(input_ids=given, attention_mask=torch.ones_like(given))[batch["output"]]
        parts.append(found.numpy().reshape(-1, found.shape[-1]))
    np.save(out, np.concatenate(parts).astype(np.float32), allow_pickle=False)


def _model(task: str, folder: str) -> Any:
    # Attention as written, in float32: the reference is the formula, not a kernel.
    model = _CLASSES[task].from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        trust_remote_code=False,
        use_safetensors=True,
        local_files_only=True,
    )
    return model.eval()


def main() -> None:
    """Run what the command line says."""
    what, folder, given, out = sys.argv[1:]
    data = json.loads(Path(given).read_text(encoding="utf-8"))
    with torch.inference_mode():
        if what == "encoder":
            encoder(folder, data, out)
        else:
            logits(folder, data, out)


if __name__ == "__main__":
    main()

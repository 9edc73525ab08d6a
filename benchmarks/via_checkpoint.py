"""Makes one tiny random checkpoint; runs in the environment of the tool that will read it.

A script of its own, because that environment has transformers and torch but not ondevice:

    python via_checkpoint.py CLASS CONFIG.json FOLDER

CONFIG.json: {"model_type": ..., and the configuration's fields}. CLASS: causal, encoder or
classifier. Writes config.json and model.safetensors, no tokenizer.
"""

import json
import sys
from pathlib import Path

import torch
import transformers

_CLASSES = {
    "causal": transformers.AutoModelForCausalLM,
    "encoder": transformers.AutoModel,
    "classifier": transformers.AutoModelForSequenceClassification,
}


def main() -> None:
    """Write the checkpoint that the command line describes."""
    kind, described, folder = sys.argv[1:]
    fields = json.loads(Path(described).read_text(encoding="utf-8"))
    config = transformers.AutoConfig.for_model(**fields)
    torch.manual_seed(0)
    model = _CLASSES[kind].from_config(config).float()
    for name, weight in model.named_parameters():
        if weight.ndim == 2:  # activations near one, attention uneven
            spread = 1.0 if "embed" in name else 1.5 / weight.shape[1] ** 0.5
            torch.nn.init.normal_(weight, std=spread)
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()

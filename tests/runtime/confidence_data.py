"""Made-up answered examples whose chance of being right is known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ondevice.runtime.confidence import features
from ondevice.runtime.evaluate.checkers import Exact
from ondevice.runtime.evaluate.collect import question_hash
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.records import Record

TASKS = ("Add the numbers", "Name the colour", "Turn this into JSON", "Translate the word")
EASE = (-1.5, 1.0, 0.0, 0.5)  # logit of being right by task
SPLITS = ("train", "threshold", "certify")


@dataclass(frozen=True)
class World:
    """Examples, their records, and the true probability of each record to be right."""

    examples: list[Example]
    records: list[Record]
    chance: np.ndarray


def world(
    n: int = 600, seed: int = 0, *, signal: float = 2.0, hidden: int = 0, max_tokens: int = 96
) -> World:
    """`n` examples over four tasks and 24 templates.

    The logit of being right is the task's ease plus `signal` times a latent number that the
    features (and the first hidden dimension) show with noise.
    """
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=n)
    tasks = rng.integers(0, len(TASKS), n)
    chance = 1 / (1 + np.exp(-(np.array(EASE)[tasks] + signal * latent)))
    right = rng.random(n) < chance
    examples, found = [], []
    for i in range(n):
        template = f"{TASKS[tasks[i]]}, wording {rng.integers(6)}"
        prompt = f"{template}: item {rng.integers(10_000)}"
        answer = f"yes {i}"
        examples.append(
            Example(
                id=f"e{i}",
                prompt=prompt,
                check=Exact((answer,)),
                template=template,
                split=SPLITS[i * 3 // n],
                max_tokens=max_tokens,
            )
        )
        record = Record(
            id=f"e{i}",
            subject="device:tiny",
            text=answer if right[i] else f"not {i}",
            right=bool(right[i]),
            score=float(right[i]),
            compliant=True,
            prompt_tokens=9,
            output_tokens=5,
            finish_reason="stop",
            ttft_s=0.1,
            latency_s=0.2,
            features=_features(latent[i], rng),
            question=question_hash(examples[-1]),
        )
        found.append(replace(record, **_hidden(latent[i], hidden, rng)))
    return World(examples, found, chance)


def _features(latent: float, rng: np.random.Generator) -> tuple[float, ...]:
    certainty = latent + rng.normal(0, 0.3)
    values = dict.fromkeys(features.NAMES, 0.0)
    values["logprob_mean"] = -math.exp(-certainty)
    values["entropy_mean"] = math.exp(-certainty + rng.normal(0, 0.2))
    values["margin_mean"] = certainty + rng.normal(0, 0.2)
    values["log_length"] = math.log(5)
    return tuple(values.values())


def _hidden(latent: float, size: int, rng: np.random.Generator) -> dict[str, tuple[float, ...]]:
    if not size:
        return {}
    states = rng.normal(size=(2, size))
    states[:, 0] += 2 * latent
    return {"prompt_hidden": tuple(states[0]), "answer_hidden": tuple(states[1])}


def write_encoder(folder: Path, dimensions: int = 4, *, rank: int = 3) -> Path:
    """A tiny random encoder as a feature-extraction export has it: embeddings, no layers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir()
    words = ["[UNK]", "add", "two", "numbers", "translate"]
    table = np.random.default_rng(0).normal(size=(len(words), dimensions)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["raw"])]
    nodes.append(helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]))
    nodes.append(helper.make_node("Mul", ["raw", "wide"], ["last_hidden_state"]))
    output = "last_hidden_state"
    if rank == 2:
        nodes.append(
            helper.make_node("ReduceMax", [output, "middle"], ["sentence_embedding"], keepdims=0)
        )
        output = "sentence_embedding"
    shape = ["batch", "tokens", dimensions] if rank == 3 else ["batch", dimensions]
    ids = ["batch", "tokens"]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ids),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ids),
        ],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder

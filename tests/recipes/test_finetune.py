"""The fine-tuning recipe on tiny models: what is learnt, and that a killed training goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import EOS, tiny, tokens, write_checkpoint

from ondevice.errors import OndeviceError, RequestError
from ondevice.export.lora import AdapterSource
from ondevice.export.safetensors_file import read_safetensors
from ondevice.export.source import open_source
from ondevice.runtime.evaluate import dataset
from ondevice.runtime.model import load
from recipes.finetune import base, evaluate, run
from recipes.finetune.base import LoraShape
from recipes.finetune.examples import Lesson, Lessons, batches
from recipes.finetune.state import Progress
from recipes.finetune.train import Schedule, answer_losses, mean_loss, train

ROOT = Path(__file__).parents[2]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LORA = LoraShape(rank=4, alpha=8)
SCHEDULE = Schedule(steps=12, batch=3, rate=1e-2, bf16=False, save_every=2, held_out_every=6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune") / "base"
    architecture = tiny(tied_embeddings=True, context_length=4096)
    return write_checkpoint(folder, architecture, template=TEMPLATE)


def lessons(count: int = 8) -> list[Lesson]:
    chance = np.random.default_rng(5)
    return [
        Lesson(
            tuple(int(i) for i in chance.integers(0, 200, 4 + number)),
            tuple(int(i) for i in chance.integers(0, 200, 1 + number % 3)),
        )
        for number in range(count)
    ]


def model_of(checkpoint: Path) -> Any:
    import torch

    torch.manual_seed(1)
    return base.load(open_source(checkpoint), LORA, "tiny")


def trained(
    checkpoint: Path,
    path: Path,
    schedule: Schedule = SCHEDULE,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> tuple[dict[str, bytes], Progress]:
    model = model_of(checkpoint)
    progress = train(model, lessons(), lessons(3), schedule, path, {"of": "test"}, tell)
    weights = {n: v.detach().numpy().tobytes() for n, v in model.named_parameters()}
    return weights, progress


def test_the_torch_model_has_the_logits_of_transformers_own_reading(checkpoint: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([list(range(5, 40))])
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        difference = model_of(checkpoint).eval()(ids).logits - theirs(ids).logits
    assert float(difference.abs().max()) < 1e-5


def test_prompts_have_the_ids_that_the_model_is_asked_with(
    checkpoint: Path, tmp_path: Path
) -> None:
    from ondevice.export.convert import convert

    asked = dataset.read(run.LEARNT)[:40]
    make = Lessons(open_source(checkpoint).tokenizer)
    with load(convert(checkpoint, "cpu-fp32", tmp_path / "package")) as model:
        for example in asked:
            from ondevice.runtime.model import conversation

            expected = model.prepare(conversation(example.prompt, example.system)).tokens
            assert make.lesson(example).prompt == expected
    answer = make.lesson(asked[0]).answer
    assert answer[-1] == tokens().index(EOS)


def test_an_epoch_has_every_lesson_once_and_begins_anywhere() -> None:
    every = lessons(30)
    drawn = batches(every, 3, seed=7)
    epoch = [next(drawn) for _ in range(10)]
    drawn_once = [one for batch in epoch for one in batch]
    assert sorted(drawn_once, key=repr) == sorted(every, key=repr)
    second = [next(drawn) for _ in range(10)]
    assert second != epoch
    later = batches(every, 3, seed=7, first_step=15)
    assert [next(later) for _ in range(5)] == second[5:]


def test_only_answers_count_and_padding_changes_nothing(checkpoint: Path) -> None:
    import torch

    model, some = model_of(checkpoint).eval(), lessons(5)
    with torch.no_grad():
        together = answer_losses(model, some, False)
        for one, found in zip(some, together, strict=True):
            ids = torch.tensor([[*one.prompt, *one.answer]])
            scores = model(ids).logits[0, len(one.prompt) - 1 : -1].log_softmax(-1)
            expected = -scores[range(len(one.answer)), list(one.answer)].mean()
            assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_training_lowers_the_loss_and_leaves_the_base_alone(
    checkpoint: Path, tmp_path: Path
) -> None:
    model = model_of(checkpoint)
    before = {n: v.detach().clone() for n, v in model.named_parameters() if "lora" not in n}
    first = mean_loss(model, lessons(), SCHEDULE)
    train(model, lessons(), [], SCHEDULE, tmp_path / "state", {}, lambda progress: None)
    assert mean_loss(model, lessons(), SCHEDULE) < 0.8 * first
    assert all(value.equal(dict(model.named_parameters())[name]) for name, value in before.items())


def test_a_stopped_training_ends_with_the_weights_it_would_have_had(
    checkpoint: Path, tmp_path: Path
) -> None:
    expected, whole = trained(checkpoint, tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step >= 4:
            raise StopError

    with pytest.raises(StopError):
        trained(checkpoint, tmp_path / "parts", tell=stop)
    found, parts = trained(checkpoint, tmp_path / "parts")
    assert found == expected
    assert parts.losses == whole.losses and parts.held_out == whole.held_out
    assert [step for step, _ in whole.held_out] == [0, 6, 12]
    assert trained(checkpoint, tmp_path / "parts")[0] == expected  # done: nothing more is learnt


def test_the_state_of_another_training_is_not_taken_over(checkpoint: Path, tmp_path: Path) -> None:
    trained(checkpoint, tmp_path / "state")
    model = model_of(checkpoint)
    with pytest.raises(RequestError, match="another --out"):
        train(model, lessons(), [], SCHEDULE, tmp_path / "state", {"of": "other"}, print)
    (tmp_path / "state").write_bytes(b"damaged")
    with pytest.raises(RequestError, match="not the state of a training"):
        trained(checkpoint, tmp_path / "state")


def test_another_family_than_llama_is_refused(tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "qwen", tiny("qwen2"))
    with pytest.raises(RequestError, match="not qwen2"):
        base.load(open_source(other), LORA, "tiny")


# `python -m recipes.finetune`, where the installed package comes before the folder of its name.
COMMAND = """
import runpy, sys
sys.path.append(sys.argv.pop(1))
runpy.run_module("recipes.finetune", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_the_command_killed_and_called_again_gives_the_same_adapter(
    checkpoint: Path, tmp_path: Path
) -> None:
    command = [
        *(sys.executable, "-c", COMMAND, str(ROOT), "train", "--base", str(checkpoint)),
        *("--steps", "12", "--batch", "2", "--rank", "2", "--threads", "1", "--out"),
    ]
    subprocess.run([*command, str(tmp_path / "whole")], cwd=ROOT, check=True, capture_output=True)
    out = tmp_path / "killed"
    with subprocess.Popen(
        [*command, str(out)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run_:
        assert run_.stdout is not None
        while "step 10/" not in run_.stdout.readline():
            assert run_.poll() is None
        run_.send_signal(signal.SIGKILL)
    assert not (out / run.ADAPTER).exists()
    again = subprocess.run([*command, str(out)], cwd=ROOT, check=True, capture_output=True)
    assert b"step 0/" not in again.stdout
    adapters = [tmp_path / name / run.ADAPTER for name in ("whole", "killed")]
    files = [{path.name: path.read_bytes() for path in sorted(a.iterdir())} for a in adapters]
    assert files[0]["adapter_model.safetensors"] == files[1]["adapter_model.safetensors"]
    merged = AdapterSource(open_source(checkpoint), adapters[1])
    assert len(read_safetensors(adapters[1] / "adapter_model.safetensors")) == 2 * 2 * 7
    name = "model.layers.1.mlp.down_proj.weight"
    assert not np.array_equal(merged.read(name), open_source(checkpoint).read(name))


def test_base_and_fine_tuned_are_asked_the_same_and_answers_are_kept(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(OndeviceError, match="let `train` come to its end"):
        evaluate.packages(checkpoint, tmp_path)
    run.train_adapter(checkpoint, tmp_path, Schedule(steps=2, batch=2, bf16=False), LORA, 1)
    options = {"splits": ("test",), "limit": 3, "threads": 1, "target": "cpu-fp32"}
    found = evaluate.compare(checkpoint, tmp_path, **options)["test"]
    assert [s.name for s in found.subjects] == [
        "device:base-cpu-fp32",
        "device:fine-tuned-cpu-fp32",
    ]
    assert found.comparisons[0].n == 3 and found.comparisons[0].by_family
    start = time.monotonic()
    again = evaluate.compare(checkpoint, tmp_path, **options)["test"]
    assert again.subjects == found.subjects and time.monotonic() - start < 5
    said: list[str] = []
    evaluate.told({"test": found}, said.append)
    assert any("fine-tuned" in text for text in said)

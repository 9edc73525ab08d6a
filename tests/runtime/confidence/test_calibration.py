from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from confidence_data import write_encoder

from ondevice.errors import CalibrationError
from ondevice.package import Package, open_package
from ondevice.runtime.answer import Answer, Options, Signals
from ondevice.runtime.confidence import calibration as stored
from ondevice.runtime.confidence import features, texts
from ondevice.runtime.confidence.calibration import (
    NAMES,
    Calibration,
    Evidence,
    Linear,
    calibration_key,
)
from ondevice.runtime.confidence.certificate import Certificate
from ondevice.runtime.confidence.gate import failed_check
from ondevice.runtime.confidence.kernel import Block, Kernel, Probe
from ondevice.runtime.confidence.ngrams import ngrams
from ondevice.runtime.confidence.rival import Kept, Rival
from ondevice.runtime.confidence.router import Router, encoder_identity

PROMPT = "Extract the name as JSON: Ann is here."
SCHEMA = '{"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}'


def linear(**weights: float) -> Linear:
    zeros = (0.0,) * len(NAMES)
    return Linear(NAMES, zeros, (1.0,) * len(NAMES), tuple(weights.get(n, 0.0) for n in NAMES))


def calibration(**changes: object) -> Calibration:
    buckets = tuple(ngrams(PROMPT).tolist())
    values = {
        "key": "k",
        "linear": linear(logprob_mean=1.0),
        "intercept": 0.5,
        "slope": 2.0,
        "offset": -0.25,
        "kernel": None,
        "router": Router((0.5,) * len(buckets), -1.0, 1.5, 0.25, 0.0, buckets),
        "threshold": 0.75,
        "certificate": Certificate(0.05, 0.95, 100, 1, 0.0466, 0.5, 200),
        "reason": "",
        "evidence": Evidence(10, 10, 10, 0.5, None, 0.1, 0.2),
    }
    return Calibration(**{**values, **changes})  # type: ignore[arg-type]


def rival(**changes: object) -> Rival:
    router = replace(calibration().router, weight=2.0)  # type: ignore[type-var]
    made = Rival("cloud:c", "large", 0.5, (), (), router, 2.0, 0.25, 0.125, 0.025)
    return replace(made, **changes)  # type: ignore[arg-type]


def answer(text: str = "Ann", reason: str = "stop", **signals: object) -> Answer:
    given = {"logprobs": (-0.5, -1.5), "entropies": (0.5, 1.0), "margins": (1.0, 2.0)} | signals
    return Answer(
        text=text,
        tokens=(1, 2),
        prompt_tokens=3,
        finish_reason=reason,  # type: ignore[arg-type]
        model="m",
        signals=Signals(**given),  # type: ignore[arg-type]
    )


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_the_probability_is_the_scaled_sum_of_the_features() -> None:
    assert calibration().probability(answer(), PROMPT) == pytest.approx(
        sigmoid(2 * (0.5 - 1) - 0.25)
    )


def test_features_are_standardized_first() -> None:
    at = NAMES.index("logprob_mean")
    mean, scale = [0.0] * len(NAMES), [1.0] * len(NAMES)
    mean[at], scale[at] = -2.0, 0.5
    made = calibration(
        linear=replace(linear(logprob_mean=1.0), mean=tuple(mean), scale=tuple(scale))
    )
    assert made.probability(answer(), PROMPT) == pytest.approx(sigmoid(2 * (0.5 + 2) - 0.25))


SIGNALS, TEXTS = len(features.NAMES), len(texts.NAMES)


def block(width: int, *rows: float, gamma: float = 0.5, share: float = 1.0) -> Block:
    """Landmarks whose first column is given and whose others are 0."""
    return Block(tuple((row, *[0.0] * (width - 1)) for row in rows), gamma, share)


def kernel(probe: Probe | None = None) -> Kernel:
    return Kernel(block(SIGNALS, -1.0, 3.0), block(TEXTS, 0.0, 9.0, gamma=0.0), (2.0, -1.0), probe)


def test_the_kernel_weighs_landmarks_by_their_likeness() -> None:
    """Signals: the first of them is 1 less and 4 less; text: gamma 0, always alike."""
    found = kernel().logit(np.zeros(SIGNALS + TEXTS), (None, None))
    first, second = np.exp(-0.5 * 1), np.exp(-0.5 * 9)
    assert found == pytest.approx(2 * ((1 + first) * 2 - 1) - ((1 + second) * 2 - 1))
    made = calibration(kernel=kernel(), linear=linear())
    values = np.array([-1.0, *[0.0] * (SIGNALS + TEXTS - 1)])
    expected = 2 * (2 * 2 - 1) - ((1 + np.exp(-0.5 * 16)) * 2 - 1)
    assert made.probability_of(values) == pytest.approx(sigmoid(2 * (0.5 + expected) - 0.25))


def test_the_probe_adds_what_the_hidden_states_say() -> None:
    probe = Probe(
        projection=((1.0, 0.0, 0.0, 2.0),),
        centre=(0.5, 0.0, 0.0, 0.0),
        block=block(1, 2.0, 0.0, share=0.5),
    )
    states = (np.array([1.5, 7], np.float32), np.array([7, 0.5], np.float32))
    found = kernel(probe).logit(np.zeros(SIGNALS + TEXTS), states)
    near = 0.5 * np.exp(-0.5 * np.array([0.0, 4.0]))  # the component is 1 + 1 = 2
    like = (1 + np.exp(-0.5 * np.array([1.0, 9.0]))) * 2 * (1 + near) - 1
    assert found == pytest.approx(2 * like[0] - like[1])


def test_without_the_hidden_states_that_it_needs_it_says_so_instead_of_guessing() -> None:
    probe = Probe(((1.0, 1.0),), (0.0, 0.0), block(1, 1.0, 2.0))
    made = calibration(kernel=kernel(probe))
    with pytest.raises(CalibrationError, match="engine gives 0"):
        made.probability(answer(), PROMPT)
    with pytest.raises(CalibrationError, match="engine gives 4"):
        made.probability(answer(prompt_hidden=np.ones(2), answer_hidden=np.ones(2)), PROMPT)


def test_the_router_counts_by_its_weight_and_gives_the_prior() -> None:
    made = calibration(router=replace(calibration().router, weight=2.0))
    assert made.router is not None
    logit = made.router.logit(PROMPT)
    assert made.prior(PROMPT) == pytest.approx(sigmoid(1.5 * logit + 0.25))
    expected = sigmoid(2 * (0.5 - 1 + 2 * logit) - 0.25)
    assert made.probability(answer(), PROMPT) == pytest.approx(expected)
    assert made.assess(answer(), PROMPT).router == made.prior(PROMPT)


def test_the_rivals_probability_is_the_scaled_sum_of_its_own_parts() -> None:
    own = calibration(kernel=kernel())
    assert own.router is not None and own.kernel is not None
    given, logit = answer(), own.router.logit(PROMPT)
    assert own.assess(given, PROMPT).cloud is None
    made = replace(own, rival=rival())
    assert made.assess(given, PROMPT).cloud == pytest.approx(sigmoid(2 * (0.5 + 2 * logit) + 0.25))
    assert made.probability(given, PROMPT) == own.probability(given, PROMPT)
    at = NAMES.index("logprob_mean")
    weights = tuple(3.0 if i == at else 0.0 for i in range(len(NAMES)))
    made = replace(own, rival=rival(weights=weights, router=None))
    assert made.assess(given, PROMPT).cloud == pytest.approx(sigmoid(2 * (0.5 - 3) + 0.25))
    made = replace(own, rival=rival(kernel_weights=own.kernel.weights, router=None))
    similar = own.assess(given, PROMPT).probability  # 2 * (0.5 - 1 + kernel) - 0.25
    kernel_logit = (np.log(similar / (1 - similar)) + 0.25) / 2 + 0.5
    assert made.assess(given, PROMPT).cloud == pytest.approx(
        sigmoid(2 * (0.5 + kernel_logit) + 0.25)
    )


def test_without_a_router_there_is_no_prior() -> None:
    assert calibration(router=None).prior(PROMPT) is None
    assert 0 < calibration(router=None).probability(answer(), PROMPT) < 1


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("", "stop", "empty"),
        (" \n", "stop", "empty"),
        ("Ann and then", "length", "cut off"),
        ("Ann", "cancelled", "cancelled"),
    ],
)
def test_an_answer_that_fails_a_check_has_probability_0_and_says_why(
    text: str, reason: str, said: str
) -> None:
    found = calibration().assess(answer(text, reason), PROMPT)
    assert found.probability == 0 and said in found.failed
    assert calibration().probability(answer(text, reason), PROMPT) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "Ann"}', ""),
        ('{"name": 3}', "does not follow"),
        ("{}", "does not follow"),
        ("Ann", "no JSON"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_the_schema_that_was_asked_for_is_a_check(text: str, said: str) -> None:
    found = failed_check(text, "stop", SCHEMA)
    assert said in found and bool(found) == bool(said)
    assert (calibration().assess(answer(text), PROMPT, SCHEMA).probability == 0) == bool(said)


def test_all_probabilities_together_take_less_than_a_millisecond() -> None:
    size, count = 896, 500
    rng = np.random.default_rng(0)

    def rows(n: int, width: int) -> tuple[tuple[float, ...], ...]:
        return tuple(map(tuple, rng.normal(size=(n, width)).tolist()))

    made = calibration(
        kernel=Kernel(
            Block(rows(count, SIGNALS), 0.1),
            Block(rows(count, TEXTS), 0.1),
            (0.5,) * count,
            Probe(rows(32, 2 * size), (0.0,) * (2 * size), Block(rows(count, 32), 0.1, 0.5)),
        ),
        router=replace(calibration().router, weight=1.0),
        rival=rival(weights=(0.5,) * len(NAMES), kernel_weights=(0.5,) * count),
    )
    given = answer(
        "an answer of some words " * 12,
        logprobs=tuple((-rng.random(96)).tolist()),
        entropies=tuple(rng.random(96).tolist()),
        margins=tuple(rng.random(96).tolist()),
        prompt_hidden=rng.normal(size=size).astype(np.float32),
        answer_hidden=rng.normal(size=size).astype(np.float32),
    )
    prompt = "Read the text and answer the question. " * 30
    times = []
    for _ in range(300):
        start = time.process_time()  # not the wall clock: other processes run here
        made.prior(prompt)
        made.probability(given, prompt)
        times.append(time.process_time() - start)
    assert np.quantile(times, 0.5) < 0.001


def test_what_is_written_is_read_back_equal(tmp_path: Path, tiny_package: Package) -> None:
    package = copied(tiny_package, tmp_path)
    for made in (
        calibration(kernel=kernel(Probe(((1e-7, 3.0),), (0.0, 1.0), block(1, 1.0, 2.0)))),
        calibration(router=None, threshold=None, certificate=None, reason="cannot", evidence=None),
        calibration(rival=rival(kept=Kept(10, 0.5, 0.6, 0.7, 0.1))),
        calibration(kernel=kernel(), rival=rival(kernel_weights=(1.0, 2.0), router=None)),
    ):
        stored.write(package, made)
        assert stored.read(package) == made
        first = (package.folder / stored.FILE).read_bytes()
        stored.write(package, made)
        assert (package.folder / stored.FILE).read_bytes() == first
    assert open_package(package.folder).manifest == package.manifest  # still a sound package


def test_a_package_without_a_calibration_has_none(tiny_package: Package, tmp_path: Path) -> None:
    assert stored.read(copied(tiny_package, tmp_path)) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.pop("slope"), "slope is missing"),
        (lambda d: d.update(slope="steep"), "slope has to be a number"),
        (lambda d: d.update(slope=True), "slope has to be a number"),
        (lambda d: d.update(key=3), "key has to be text"),
        (lambda d: d.update(extra=1), "extra is not known"),
        (lambda d: d["linear"].update(weights=[1.0]), "linear: names"),
        (lambda d: d["linear"]["weights"].__setitem__(2, None), r"linear\.weights\[2\] has to be"),
        (lambda d: d["linear"].update(mean="0"), r"linear\.mean has to be a list"),
        (lambda d: d["linear"]["scale"].__setitem__(0, 0), r"linear\.scale has to be above 0"),
        (lambda d: d["router"]["index"].__setitem__(0, 1.5), r"router\.index\[0\] has to be a who"),
        (lambda d: d["router"]["index"].__setitem__(0, -1), r"router\.index has a bucket outside"),
        (lambda d: d["router"].update(weights=[]), r"router\.index has"),
        (lambda d: d.update(kernel=[]), "kernel has to be a JSON object"),
        (lambda d: d["kernel"].update(weights=[1.0]), "kernel: points and weights differ"),
        (lambda d: d["kernel"]["text"]["points"].pop(), "kernel: points and weights differ"),
        (lambda d: d["kernel"]["text"]["points"][1].pop(), "kernel: points has to be rows of 18"),
        (lambda d: [row.pop() for row in d["kernel"]["text"]["points"]], "another number of feat"),
        (
            lambda d: d["kernel"]["signals"]["points"][1].__setitem__(3, "x"),
            r"kernel\.signals\.points\[1\]\[3\] has to be a number",
        ),
        (lambda d: d.update(threshold=7), "threshold has to be from 0 to 1"),
        (lambda d: d.update(certificate=None), "go together"),
        (lambda d: d["certificate"].pop("errors"), r"certificate\.errors is missing"),
        (lambda d: d.update(format_version=2), "upgrade ondevice"),
        (lambda d: d["rival"].update(advantage=1.5), r"rival\.advantage has to be from -1 to 1"),
        (lambda d: d["rival"].update(weights=[1.0]), r"rival\.weights has 1 entries instead of"),
        (lambda d: d["rival"].update(kernel_weights=[1.0]), r"rival\.kernel_weights has 1 entr"),
        (lambda d: d["rival"].pop("model"), r"rival\.model is missing"),
        (lambda d: d["rival"]["router"].update(encoder="e"), r"rival\.router\.encoder has to be e"),
    ],
)
def test_a_damaged_file_is_an_error_that_names_the_field(
    change: object, said: str, tiny_package: Package, tmp_path: Path
) -> None:
    package = copied(tiny_package, tmp_path)
    stored.write(package, calibration(kernel=kernel(), rival=rival()))
    path = package.folder / stored.FILE
    data = json.loads(path.read_text())
    change(data)  # type: ignore[operator]
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match=said) as error:
        stored.read(package)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"slope": NaN}', "[" * 99_999, "\udcff"])
def test_a_file_that_is_no_calibration_is_an_error(
    text: str, tiny_package: Package, tmp_path: Path
) -> None:
    package = copied(tiny_package, tmp_path)
    (package.folder / stored.FILE).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(CalibrationError, match=stored.FILE):
        stored.read(package)


def test_a_calibration_of_another_version_of_the_features_is_not_applied() -> None:
    other = replace(linear(), names=("other", *NAMES[1:]))
    with pytest.raises(CalibrationError, match="calibrate"):
        calibration(linear=other).probability(answer(), PROMPT)


def test_an_encoder_in_the_package_is_opened_and_checked(
    tiny_package: Package, tmp_path: Path
) -> None:
    package = copied(tiny_package, tmp_path)
    folder = write_encoder(package.folder / stored.ENCODER_FOLDER)
    router = Router((1.0, 2.0, 3.0, 4.0), 0.0, 1.0, 0.0, 0.5, encoder=encoder_identity(folder))
    stored.write(package, calibration(router=router))
    read = stored.read(package)
    assert read is not None and read.prior("add two") is not None
    assert read.probability(answer(), "add two") != read.probability(answer(), "numbers")
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n")
    with pytest.raises(CalibrationError, match="not the one that was calibrated"):
        stored.read(package)


def test_the_key_tells_apart_what_shapes_an_answer(tiny_package: Package) -> None:
    key = calibration_key(tiny_package, Options())
    manifest = tiny_package.manifest
    others = [
        calibration_key(tiny_package, Options(temperature=0.7)),
        calibration_key(tiny_package, Options(temperature=0.7, top_p=0.5)),
        calibration_key(tiny_package, Options(repetition_penalty=1.1)),
        calibration_key(tiny_package, Options(stop=("\n",))),
        calibration_key(tiny_package, Options(), schema=True),
        *(
            calibration_key(
                replace(tiny_package, manifest=replace(manifest, files=changed)), Options()
            )
            for name in manifest.files
            for changed in [manifest.files | {name: replace(manifest.files[name], sha256="0" * 64)}]
        ),
    ]
    assert len({key, *others}) == len(others) + 1


def test_the_key_ignores_what_does_not_shape_an_answer(tiny_package: Package) -> None:
    key = calibration_key(tiny_package, Options())
    assert key == calibration_key(tiny_package, Options(max_tokens=7, seed=3, top_p=0.5, top_k=2))
    elsewhere = replace(tiny_package, folder=Path("elsewhere"))
    assert key == calibration_key(elsewhere, Options())


def copied(package: Package, folder: Path) -> Package:
    shutil.copytree(package.folder, folder / "package")
    return open_package(folder / "package")


def test_applying_a_calibration_imports_no_heavy_library() -> None:
    code = (
        "import sys, ondevice.runtime.confidence.calibration, ondevice.cli.calibrate\n"
        "print(*sorted({'sklearn', 'scipy', 'matplotlib', 'onnxruntime', 'tokenizers'}"
        " & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""

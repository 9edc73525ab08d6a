"""The adapter_config.json of a PEFT LoRA adapter: what it scales by, and whether it can be merged.

Knows PEFT's names of options; nothing about tensors or checkpoints.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ondevice.errors import SourceError
from ondevice.export.architectures.fields import Fields
from ondevice.export.json_files import read_json

CONFIG_FILE = "adapter_config.json"
_MAX_RANK = 1 << 14
_LONGEST_PATTERN = 200
_MOST_REPETITIONS = 3  # in one pattern: more could take for ever on a long name

# How it was trained or is to be loaded; the tensors say which modules it has.
_TRAINING = (
    "peft_version auto_mapping base_model_name_or_path revision task_type inference_mode "
    "lora_dropout target_modules exclude_modules layers_to_transform layers_pattern megatron_core "
    "megatron_config qalora_group_size eva_config corda_config lora_ga_config loftq_config"
)
_READ = (
    "peft_type r lora_alpha use_rslora rank_pattern alpha_pattern modules_to_save bias "
    "init_lora_weights ensure_weight_tying"
)
_KNOWN = frozenset(f"{_TRAINING} {_READ}".split())
_REFUSED = {
    "use_dora": "DoRA normalizes the merged weights",
    "lora_bias": "biases are trained too",
    "fan_in_fan_out": "its base has transposed matrices",
    "use_qalora": "QA-LoRA pools the inputs",
    "layer_replication": "layers are repeated",
    "trainable_token_indices": "single rows of the embedding are trained",
    "target_parameters": "parameters outside linear layers are trained",
    "alora_invocation_tokens": "it is active for a part of the text only",
}
_UNCHANGED_BASE = (None, True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter's tensors mean.

    base: the name of the model it was trained on, a hint only; may be empty.
    rank, alpha: those of modules that no pattern names. rank_patterns, alpha_patterns: regular
    expressions on the end of a module's path, the first that matches holds.
    saved: modules whose full weights come with the adapter.
    tied: an embedding or head that it trains stays one matrix with the other.
    """

    where: str
    base: str
    rank: int
    alpha: float
    rank_stabilized: bool
    rank_patterns: Mapping[str, int]
    alpha_patterns: Mapping[str, float]
    saved: tuple[str, ...]
    tied: bool

    def rank_of(self, module: str) -> int:
        """The rank r of a module's two matrices."""
        pattern = _matching(self.rank_patterns, module)
        return self.rank if pattern is None else self.rank_patterns[pattern]

    def scale_of(self, module: str) -> float:
        """What a module's product is multiplied by.

        alpha / r (Hu et al., 2021), or alpha / sqrt(r) (Kalajdzievski, 2023).
        """
        pattern = _matching(self.alpha_patterns, module)
        alpha = self.alpha if pattern is None else self.alpha_patterns[pattern]
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Read and check; raises `SourceError` for what is missing, damaged or cannot be merged."""
    fields = read_json(folder / CONFIG_FILE)
    _check_kind(fields)
    ranks, alphas = _patterns(fields, "rank_pattern"), _patterns(fields, "alpha_pattern")
    return AdapterConfig(
        where=str(folder),
        base=fields.text("base_model_name_or_path", default=""),
        rank=fields.integer("r", high=_MAX_RANK),
        alpha=fields.number("lora_alpha"),
        rank_stabilized=fields.flag("use_rslora"),
        rank_patterns={key: ranks.integer(key, high=_MAX_RANK) for key in ranks.values},
        alpha_patterns={key: alphas.number(key) for key in alphas.values},
        saved=tuple(fields.texts("modules_to_save")) if fields.present("modules_to_save") else (),
        tied=fields.flag("ensure_weight_tying"),
    )


def _check_kind(fields: Fields) -> None:
    kind = fields.text("peft_type")
    if kind != "LORA":
        raise SourceError(
            f"{fields.where} is of an adapter of the kind {kind[:40]!r}; only LORA can be merged"
        )
    for name, reason in _REFUSED.items():
        if fields.value(name):
            raise _refusal(fields, name, reason)
    if fields.text("bias", default="none") != "none":
        raise _refusal(fields, "bias", "biases are trained too")
    if fields.value("init_lora_weights") not in _UNCHANGED_BASE:
        raise _refusal(fields, "init_lora_weights", "such a beginning changes the base as well")
    unknown = [name for name in fields.values if name not in _KNOWN and fields.value(name)]
    if unknown:
        raise _refusal(fields, unknown[0], "what that does to the weights is not known here")


def _refusal(fields: Fields, name: str, reason: str) -> SourceError:
    return SourceError(
        f"{fields.where} sets {name[:40]} to {str(fields.value(name))[:40]!r}: {reason}; merge it "
        "with peft and export the merged checkpoint"
    )


def _patterns(fields: Fields, name: str) -> Fields:
    """The section, its keys checked to be regular expressions that come to an end."""
    section = fields.section(name) or Fields({}, fields.where)
    for pattern in section.values:
        if not _is_sound(pattern):
            raise SourceError(
                f"{pattern[:60]!r} in {section.where} is no pattern of module names that this "
                "version reads; write the modules' names there"
            )
    return section


def _is_sound(pattern: str) -> bool:
    repeats_group = re.search(r"\)[*+{?]", pattern)
    repetitions = sum(pattern.count(sign) for sign in "*+{")
    if len(pattern) > _LONGEST_PATTERN or repeats_group or repetitions > _MOST_REPETITIONS:
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _matching(patterns: Iterable[str], module: str) -> str | None:
    """The first pattern that a module's path, or the end of it after a dot, matches as a whole."""
    for pattern in patterns:
        if re.match(rf"(.*\.)?({pattern})$", module):
            return pattern
    return None

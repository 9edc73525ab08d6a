"""The policy file: strict, readable, and every mistake named with its line and its remedy."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.errors import PolicyError
from ondevice.runtime.cloud.endpoint import Endpoint
from ondevice.runtime.cloud.ledger import Caps
from ondevice.runtime.fallback.needs import NEEDS, needs_of
from ondevice.runtime.fallback.policy import REDACTIONS, EarlyAbort, Policy, TokenPrice
from ondevice.runtime.fallback.policy_file import (
    default_text,
    home_path,
    parse_policy,
    read_policy,
)

FILE = Path("policy.toml")
EXAMPLES = re.sub(r"(?m)^#(?=[a-z\[])", "", default_text())


def policy(text: str) -> Policy:
    return parse_policy(text, FILE)


def test_the_default_file_says_what_the_default_is() -> None:
    assert dataclasses.replace(policy(default_text()), path=None) == Policy()
    assert Policy().consent == "never"
    assert Policy().endpoint is None


def test_every_example_in_the_default_file_can_be_turned_on() -> None:
    found = policy(EXAMPLES)
    assert found.endpoint is not None and found.endpoint.key == "CLOUD_API_KEY"
    assert found.budget == Caps(0.02, 0.5, 5.0)
    assert found.price == TokenPrice(0.0, 0.0)
    assert found.early_abort == EarlyAbort(-2.5)
    assert [rule.name for rule in found.rules] == ["news", "short questions stay"]
    assert found.task("invoice").rules[0].longer_than == 6000
    assert found.class_of("invoice", "") == "personal"


def test_the_default_file_mentions_every_setting() -> None:
    known = set(tomllib.loads(EXAMPLES))
    settings = {f.name for f in dataclasses.fields(Policy)} - {"path", "price", "audit_content"}
    assert settings | {"audit"} == known
    endpoint = set(tomllib.loads(EXAMPLES)["endpoint"]) - {"price"}
    assert endpoint == {f.name for f in dataclasses.fields(Endpoint)}


def test_redaction_classes_are_those_of_the_redactor() -> None:
    from ondevice.runtime.cloud.redact import CLASSES

    assert set(REDACTIONS) == set(CLASSES)


OPEN = '[endpoint]\nbase_url = "https://api.example.com/v1"\nmodel = "m"\n'


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ('consnet = "ask"', 1, "unknown key 'consnet'; did you mean 'consent'?"),
        ('\n# x\nconsent = "alway"', 3, "not 'alway'; did you mean 'always'?"),
        ("consent = 1", 1, "consent must be never or ask or session or always, not 1"),
        ('consent = "ask"', 1, "needs an [endpoint] with base_url and model"),
        ("peek_tokens = 0", 1, "whole number of at least 1, not 0"),
        ("peek_tokens = true", 1, "not True"),
        ("threshold = 70", 1, "number from 0 to 1, not 70"),
        ("threshold = nan", 1, "number from 0 to 1, not nan"),
        ('mode = "stream"', 1, "must be hold or peek or revise"),
        ('default_class = "publik"', 1, "did you mean 'public'?"),
        ("[classes]\nrestricted = true", 2, "restricted data never leaves"),
        ("[classes]\nRestricted = true", 2, "small letters"),
        ('[classes]\nx = "yes"', 2, "must be true or false, not 'yes'"),
        ("classes = 3", 1, "must be a table, not 3; write it as [classes]"),
        (OPEN + 'nmae = "x"', 4, "unknown key 'nmae' in [endpoint]; did you mean 'name'?"),
        (OPEN + "[endpoint.deadlines]\n\nconect_s = 1", 6, "did you mean 'connect_s'?"),
        (OPEN + "deadlines = { total_s = -1 }", 4, "total_s must be a number"),
        (OPEN + "[endpoint.deadlines]\nretries = 99", 4, "retries must be"),
        (OPEN + "[endpoint.price]\ninput_per_million = 1", 4, "add the other"),
        ("[endpoint]\nmodel = 'm'", 1, "base_url is missing; add it"),
        ("[endpoint]\nmodel = 'm'\nbase_url = 'http://a.example'", 1, "unencrypted"),
        ("[endpoint]\nmodel = 'm'\nbase_url = 'ftp://a.example'", 1, "must be like https://HOST"),
        (OPEN + 'limit_field = "tokens"', 4, "did you mean 'max_tokens'?"),
        ("[budget]\nper_dya_usd = 1", 2, "did you mean 'per_day_usd'?"),
        ("[budget]\nper_day_usd = -1", 2, "at least 0, not -1"),
        ('[redaction]\nclasses = [\n  "email",\n  "phon"]', 2, "did you mean 'phone'?"),
        ("[audit]\ncontents = true", 2, "did you mean 'content'?"),
        ("[early_abort]\ntokens = 3", 1, "needs a minimum"),
        ("[early_abort]\nminimum = -1\nwindow = 9\ntokens = 3", 3, "more than the 3 tokens"),
        ('[[rules]]\nsend = "cloud"', 1, "needs a condition"),
        ('[[rules]]\nname = "x"\nneeds = ["code"]', 1, "needs send ="),
        ('[[rules]]\nsend = "clod"\nneeds = ["code"]', 2, "did you mean 'cloud'?"),
        (
            '[[rules]]\nsend = "cloud"\nneeds = ["code"]\n[[rules]]\nsend = "cloud"\nmatches = "["',
            6,
            "is not a regular expression",
        ),
        ('[[rules]]\nsend = "cloud"\nneeds = ["currentevents"]', 3, "'current-events'?"),
        ('[rules]\nsend = "cloud"', 1, "write each as [[rules]]"),
        ('[tasks.mail]\ndraft = "all"', 2, "none or draft or draft+reason"),
        (
            '[tasks.a]\n[tasks.mail]\n[[tasks.mail.rules]]\n\nsned = "cloud"',
            5,
            "unknown key 'sned' in [tasks.mail.rules.0]; did you mean 'send'?",
        ),
        ('[tasks.mail]\nclass = "x"', 2, "unknown class 'x'"),
        ('tasks."a b".draft = 1', 1, "draft must be"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_remedy(text: str, line: int, said: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy(text)
    message = str(caught.value)
    assert message.startswith(f"policy.toml, line {line}: ")
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize("key", ["sk-abcdef", "my key", "Xh3" * 20, "gsk-x", "key=1"])
def test_a_key_in_place_of_its_name_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(PolicyError, match="looks like a key itself") as caught:
        policy(f'{OPEN}key = "{key}"')
    assert key not in str(caught.value)


def test_what_is_no_toml_is_told_with_its_line() -> None:
    with pytest.raises(PolicyError, match="line 2"):
        policy("consent = 'never'\nmode hold")
    with pytest.raises(PolicyError, match="overwrite"):
        policy("consent = 'never'\nconsent = 'ask'")


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot read the policy"):
        read_policy(tmp_path)
    with pytest.raises(PolicyError, match="cannot read the policy"):
        read_policy(tmp_path / "missing.toml")
    bad = tmp_path / "bad.toml"
    bad.write_bytes(b"# caf\xe9")
    with pytest.raises(PolicyError, match="not valid UTF-8"):
        read_policy(bad)


def test_without_a_file_of_ones_own_the_default_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path))
    assert read_policy() == Policy()
    home_path().write_text(f'\ufeffconsent = "ask"\r\n{OPEN}', encoding="utf-8", newline="")
    assert read_policy().consent == "ask"
    assert read_policy().path == home_path()


@settings(max_examples=200)
@given(st.text(max_size=80) | st.text(alphabet='[]="\n#.abc1{}, ', max_size=80))
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    try:
        policy(text)
    except PolicyError as error:
        assert "policy.toml" in str(error)


@pytest.mark.parametrize(
    ("prompt", "need"),
    [
        ("Who won yesterday's final?", "current-events"),
        ("What is the weather in Oslo?", "current-events"),
        ("Refactor this function, please", "code"),
        ("Prove that there are infinitely many primes", "mathematics"),
        ("Give me sources for that", "sources"),
        ("What is a lock file?", ""),
        ("Newsagents sell papers", ""),
        ("Translate 'good morning' into French", ""),
    ],
)
def test_needs_are_told_by_words(prompt: str, need: str) -> None:
    assert needs_of(prompt) == ({need} if need else set())
    assert set(NEEDS) == {"current-events", "code", "mathematics", "sources"}

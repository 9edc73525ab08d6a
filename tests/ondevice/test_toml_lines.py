from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ondevice.toml_lines import key_lines

NAMES = st.sampled_from(["a", "b", "c-d", '"e f"'])


@given(st.lists(st.tuples(NAMES, st.booleans()), max_size=6), st.integers(0, 3))
def test_lines_are_found_whatever_lies_between(entries: list[tuple[str, bool]], blank: int) -> None:
    lines, expected = [], {}
    for number, (name, multi) in enumerate(entries):
        lines += [""] * blank + [f"[t{number}.{name}]", "# [x]"]
        plain = name.strip('"')
        expected[f"t{number}", plain, "k"] = len(lines) + 1
        lines += ['k = """', "[no.header]", 'z = 1"""'] if multi else ["k = [1,", "  2]"]
        expected[f"t{number}", plain, "l"] = len(lines) + 1
        lines.append("l.m = { n = 1 }")
    found = key_lines("\n".join(lines))
    assert {path: found[path] for path in expected} == expected


def test_a_table_that_only_holds_others_stands_where_the_first_of_them_does() -> None:
    assert key_lines("\n[a.b.c]\n[a.d]")["a", "b"] == 2
    assert key_lines("\n[a.b]\n[a]")["a",] == 3

from __future__ import annotations

from ondevice.desktop.layout import running

FULL = "This line is as long as the lines of this page are, more or"


def test_lines_of_a_paragraph_are_joined_and_paragraphs_parted() -> None:
    page = f"{FULL}\nless full.\n{FULL}\nso on."
    assert running([page]) == (f"{FULL} less full.\n\n{FULL} so on.",)


def test_a_word_that_is_parted_at_the_end_of_a_line_is_whole_again() -> None:
    first = f"{FULL[:-8]} obser-"
    assert running([f"{first}\nvatory."]) == (f"{FULL[:-8]} observatory.",)
    assert running([f"{first[:-1]}\u00ad\nvatory."]) == (f"{FULL[:-8]} observatory.",)
    assert running([f"{FULL} Jean-\nPaul."]) == (f"{FULL} Jean- Paul.",)


def test_the_hyphen_of_a_compound_stays() -> None:
    assert running([f"{FULL} state-\nof-the-art."]) == (f"{FULL} state-of-the-art.",)


def test_headings_and_cells_of_a_table_keep_their_lines() -> None:
    page = f"Prices\n{FULL}\nis so.\nAdult\n9 crowns\nChild\n4 crowns\n{FULL}\nit ends."
    assert running([page])[0].split("\n") == [
        "Prices",
        f"{FULL} is so.",
        "",
        "Adult",
        "9 crowns",
        "Child",
        "4 crowns",
        f"{FULL} it ends.",
    ]


def test_a_heading_after_a_full_line_begins_a_paragraph() -> None:
    ended = FULL[:-8] + " so it ends."
    assert running([f"{ended}\nBy car\n{FULL}\nit ends."])[0].startswith(f"{ended}\n\nBy car\n")


def test_headers_and_page_numbers_go_and_what_is_on_one_page_only_stays() -> None:
    def page(letter: str, number: int) -> str:
        body = [f"{FULL} {letter}{line}" for line in range(7)]
        return "\n".join(["The Handbook", f"Page {number} of 9", *body, "Fifth edition"])

    made = running([page(letter, number) for number, letter in enumerate("abcde")])
    assert made[1].startswith(f"{FULL} b0 {FULL} b1")
    assert not [text for text in made if "Page" in text or "Handbook" in text or "Fifth" in text]
    assert all(text.count(FULL) == 7 for text in made)


def test_two_pages_alike_have_no_header() -> None:
    assert running(["The same.", "The same."]) == ("The same.", "The same.")


def test_empty_pages_stay_empty() -> None:
    assert running(["", "\n \n", "Text."]) == ("", "", "Text.")

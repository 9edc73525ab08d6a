from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.stdio.framing import MOST_HEADER_BYTES, Frames, FramingError, frame

HEADERS = st.lists(
    st.sampled_from(
        [
            b"Content-Type: application/vscode-jsonrpc; charset=utf-8\r\n",
            b'content-type: application/json; charset="UTF8"\r\n',
            b"X-Other: anything at all: 1\r\n",
        ]
    ),
    max_size=2,
)


@st.composite
def framed(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A body, and one of the ways to frame it."""
    body = draw(st.binary(max_size=200))
    name = draw(st.sampled_from([b"Content-Length", b"content-length", b"CONTENT-LENGTH"]))
    space = draw(st.sampled_from([b"", b" ", b"\t "]))
    before, after = draw(HEADERS), draw(HEADERS)
    length = b"%b:%b%d\r\n" % (name, space, len(body))
    return body, b"".join([*before, length, *after]) + b"\r\n" + body


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({min(place, len(data)) for place in at} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(places)]


def read(chunks: list[bytes], most: int = 1000) -> tuple[list[bytes], str]:
    """What comes out, and the error it ends with."""
    frames, bodies = Frames(most), list[bytes]()
    try:
        for chunk in chunks:
            bodies.extend(frames.feed(chunk))
    except FramingError as error:
        return bodies, type(error).__name__
    return bodies, ""


@settings(deadline=None)
@given(st.lists(framed(), max_size=5), st.lists(st.integers(0, 2000)))
def test_any_chunking_gives_the_same_messages(
    messages: list[tuple[bytes, bytes]], at: list[int]
) -> None:
    data = b"".join(wire for _, wire in messages)
    assert read(cut(data, at)) == ([body for body, _ in messages], "")


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            framed().map(lambda made: made[1]),
            st.binary(max_size=60),
            st.sampled_from([b"\r\n", b"\n", b"Content-Length: 3\r\n", b"{}", b"a: b\r\n"]),
        ),
        max_size=6,
    ),
    st.lists(st.integers(0, 2000)),
)
def test_any_chunking_of_anything_gives_the_same_messages_and_the_same_end(
    parts: list[bytes], at: list[int]
) -> None:
    data = b"".join(parts)
    whole = read([data])
    assert read(cut(data, at)) == whole
    assert read([data[n : n + 1] for n in range(len(data))]) == whole


@given(st.binary(max_size=300))
def test_what_is_framed_is_read_back(body: bytes) -> None:
    frames = Frames()
    assert list(frames.feed(frame(body))) == [body]
    assert frames.empty


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"Content-Length: 1\n\n", "CR LF"),
        (b"\r\n", "no Content-Length"),
        (b"X: 1\r\n\r\n", "no Content-Length"),
        (b"Content-Length: 1\r\nContent-Length: 1\r\n", "two Content-Length"),
        (b"Content-Length: -1\r\n", "no count of bytes"),
        (b"Content-Length: +1\r\n", "no count of bytes"),
        (b"Content-Length: 1_0\r\n", "no count of bytes"),
        (b"Content-Length: 0x10\r\n", "no count of bytes"),
        (b"Content-Length: \xb2\r\n", "no count of bytes"),
        (b"Content-Length:\r\n", "no count of bytes"),
        (b"Content-Length: 99999999999999999999\r\n", "no count of bytes"),
        (b"Content-Length: 1001\r\n", "at most 1000 are taken"),
        (b"Content-Length 5\r\n", "expected a header line"),
        (b" Content-Length: 5\r\n", "expected a header line"),
        (b'{"jsonrpc"', "expected a header line"),
        (b"\x00\x01\r\n", "expected a header line"),
        (b"Content-Type: text; charset=utf-16\r\n", "messages are UTF-8"),
        (b"x" * (MOST_HEADER_BYTES + 1), "header is longer"),
        (b"x: y\r\n" * 1000, "header is longer"),
    ],
)
def test_a_header_that_is_none_is_an_error_at_once(header: bytes, said: str) -> None:
    with pytest.raises(FramingError, match=said):
        list(Frames(1000).feed(header))


def test_messages_before_a_bad_header_are_given_out() -> None:
    assert read([frame(b"one") + frame(b"two") + b"rubbish\r\n"]) == (
        [b"one", b"two"],
        "FramingError",
    )


def test_an_unfinished_message_is_not_empty() -> None:
    for part in (b"C", b"Content-Length: 2\r\n", b"Content-Length: 2\r\n\r\n", frame(b"ab")[:-1]):
        frames = Frames()
        assert list(frames.feed(part)) == []
        assert not frames.empty


def test_an_empty_message_is_a_message() -> None:
    assert read([frame(b"") + frame(b"a")]) == ([b"", b"a"], "")


def test_a_large_message_in_small_chunks_takes_linear_time() -> None:
    data = frame(bytes(4 << 20))
    frames = Frames()
    bodies = [b for at in range(0, len(data), 512) for b in frames.feed(data[at : at + 512])]
    assert len(bodies[0]) == 4 << 20

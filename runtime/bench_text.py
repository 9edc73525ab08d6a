"""The fixed texts of the benchmark: a short conversation and a page of prose. Nothing else."""

from __future__ import annotations

from ondevice.runtime.answer import Message

CONVERSATION: tuple[Message, ...] = (
    Message(
        "system",
        "You are a careful assistant for people who look after an old house. Answer in plain "
        "words, give the reason for every step, and say so when a job needs a professional.",
    ),
    Message(
        "user",
        "The window in our north bedroom sticks whenever it has rained for some days. It is a "
        "wooden sash window, about ninety years old, painted many times. In summer it moves "
        "without trouble. What is going on, and is it urgent?",
    ),
    Message(
        "assistant",
        "Wood takes up water from damp air and swells across the grain, so after days of rain "
        "the sash grows a little wider than its frame. Many layers of paint leave no room for "
        "that. It is not urgent, but bare or cracked paint lets water in, and wood that stays "
        "wet will rot in a few years.",
    ),
    Message(
        "user",
        "Good. Then write me a full plan for the coming dry week: the tools and materials to "
        "buy, each step in order with the time it takes, how to recognize old lead paint "
        "before I sand anything, and how to check at the end that the window will stay free "
        "when the rain comes back.",
    ),
)

PROSE = """\
The lighthouse at the end of the harbour was built in three summers. The first summer was spent
on the rock alone: at low water the masons had four hours a day to cut a level seat into granite,
and every tide filled their work with sand again. In the second the tower rose to the height of
two men, each course of stone keyed into the one below so that a wave could not lift it. The
third summer brought the lantern, carried over from the mainland in eleven crates.

Keeping the light was mostly a matter of cleaning. Soot settled on the lenses within an hour, and
a dirty lens throws away more light than a smaller lamp. The keeper's log gives, for each night,
the hour at which the lamp was lit, the quantity of oil, the direction and force of the wind, and
the names of ships that passed close enough to be read. On 14 November the entry says only: "Gale
from the south-west. All well. Bread finished."

How far can such a light be seen? The horizon decides before the lamp does. From a height h above
the sea, in metres, the horizon lies about 3.57 times the square root of h kilometres away; a
lantern at 36 metres therefore shows to 21 kilometres, and a sailor whose eye is 4 metres above
the water gains 7 more. Beyond that only the glow on the clouds remains, which sailors call the
loom. A program to print a table of these distances is short:

def horizon(height: float) -> float:
    return 3.57 * height ** 0.5

for lantern in (10, 20, 36, 50):
    print(lantern, round(horizon(lantern) + horizon(4), 1))

When the light was made automatic the tower lost its keeper but not its visitors. A society of
eleven members paints the door each spring, oils the hinges, and counts the nests of terns on the
ledge below the gallery; last year there were forty-two. They are often asked whether the light
is still needed, now that every boat knows its own position to within a few metres. Their answer
is that a position is a number, and a light is a thing one can see.
"""

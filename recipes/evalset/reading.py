"""Answer a question from a given text, or say that the text does not tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recipes.evalset import pools
from recipes.evalset.kinds import Case, Kind, Make, Pen, money, phrase

_ABSENT_SHARE = 0.25
NOT_GIVEN = ("not given", "not stated", "the text does not say", "it does not say")


def _listing(pen: Pen, facts: Sequence[str]) -> str:
    facts = list(facts)
    pen.rng.shuffle(facts)
    return " ".join(facts)


def _lookup(
    pen: Pen,
    subjects: Sequence[str],
    values: Sequence[str],
    sentence: Callable[[str, str], str],
    lure: Callable[[str, str], str],
    also: Callable[[str], tuple[str, ...]] = lambda value: (value,),
) -> Case:
    """The value of one subject; in a quarter of the cases the subject is not in the text.

    The last subject and value are kept out of the text: for absent questions and for the lure.
    """
    told = list(zip(subjects[:-1], values[:-1], strict=True))
    # Wrong is also a value that only the lure names.
    every = [one for value in values for one in also(value)]
    text = _listing(pen, [sentence(subject, value) for subject, value in told])
    if pen.chance(_ABSENT_SHARE):
        fields = {"subject": subjects[-1]}
        lured = lure(told[0][0], values[-1])
        return phrase(text, *NOT_GIVEN, none=every, fields=fields, lure=lured)
    subject, value = pen.pick(told)
    others = [one for one in every if one not in also(value)]
    lured, fields = lure(subject, values[-1]), {"subject": subject}
    return phrase(text, *also(value), none=[*others, *NOT_GIVEN], fields=fields, lure=lured)


def _count(pen: Pen) -> int:
    return pen.whole(5, 7) if pen.hard else pen.whole(3, 4)


def _hours(pen: Pen) -> Case:
    count = _count(pen)
    pattern = pen.pick(("The {} opens at {}.", "At the {}, doors open at {}."))
    return _lookup(
        pen,
        pen.some(pools.SHOPS, count),
        pen.clocks(count),
        lambda shop, clock: pattern.format(shop, clock),
        lambda shop, clock: f"Until last year the {shop} used to open at {clock}.",
        lambda clock: (clock, f"at {clock}", clock.lstrip("0")),
    )


def _prices(pen: Pen) -> Case:
    count = _count(pen)
    cents = [money(100 * pen.whole(3 + 7 * place, 9 + 7 * place) + 45) for place in range(count)]
    pen.rng.shuffle(cents)
    pattern = pen.pick(("The {} costs {}.", "For the {} we ask {}."))
    return _lookup(
        pen,
        pen.some(pools.ITEMS, count),
        cents,
        lambda item, price: pattern.format(item, price),
        lambda item, price: f"A year ago the {item} still cost {price}.",
        lambda price: (price, price.strip("$"), f"{price.strip('$')} dollars"),
    )


def _duties(pen: Pen) -> Case:
    count = _count(pen)
    pattern = pen.pick(("{1} takes care of the {0}.", "The {0} will be done by {1}."))
    return _lookup(
        pen,
        pen.some(pools.TASKS, count),
        pen.firsts(count),
        lambda task, name: pattern.format(task, name),
        lambda task, name: f"{name} had offered to do the {task}, but that was not accepted.",
    )


def _places(pen: Pen) -> Case:
    count = _count(pen)
    pattern = pen.pick(("The {} is in the {}.", "You find the {} in the {}."))
    return _lookup(
        pen,
        pen.some(pools.OBJECTS, count),
        pen.some(pools.ROOMS, count),
        lambda thing, room: pattern.format(thing, room),
        lambda thing, room: f"The {thing} was once kept in the {room}.",
        lambda room: (room, f"in the {room}", f"the {room}"),
    )


def _hobbies(pen: Pen) -> Case:
    count = _count(pen)
    pattern = pen.pick(("{} has taken up {}.", "{} likes {} best."))
    return _lookup(
        pen,
        pen.firsts(count),
        pen.some(pools.HOBBIES, count),
        lambda name, hobby: pattern.format(name, hobby),
        lambda name, hobby: f"As a child {name} preferred {hobby}.",
    )


def _homes(pen: Pen) -> Case:
    count = _count(pen)
    pattern = pen.pick(("{} lives in {}.", "The home of {} is {}."))
    return _lookup(
        pen,
        pen.firsts(count),
        pen.cities(count),
        lambda name, city: pattern.format(name, city),
        lambda name, city: f"{name} had lived in {city} before.",
        lambda city: (city, f"in {city}"),
    )


def _trains(pen: Pen) -> Case:
    count = _count(pen)
    pattern = pen.pick(("The train to {} leaves from platform {}.", "To {}: platform {}."))
    return _lookup(
        pen,
        pen.cities(count),
        [str(one) for one in pen.some(range(1, 30), count)],
        lambda city, platform: pattern.format(city, platform),
        lambda city, platform: f"Yesterday the train to {city} left from platform {platform}.",
        lambda platform: (platform, f"platform {platform}"),
    )


def _dates(pen: Pen) -> Case:
    count = _count(pen)
    days = [f"{pen.whole(1, 28)} {one}" for one in pen.some(pools.MONTHS, count)]
    pattern = pen.pick(("The {} is on {}.", "The date of the {} is {}."))
    return _lookup(
        pen,
        pen.some(pools.EVENTS, count),
        days,
        lambda event, day: pattern.format(event, day),
        lambda event, day: f"The {event} was first planned for {day}.",
        lambda day: (day, f"on {day}", " ".join(reversed(day.split()))),
    )


def _cheapest(pen: Pen) -> Case:
    items = pen.some(pools.ITEMS, pen.whole(4, 6))
    costs = sorted(pen.some(range(5, 95), len(items)))
    lure = f"The {items[-1]} was on sale last week for ${costs[0] - 2}."
    facts = [f"The {item} costs ${cost}." for item, cost in zip(items, costs, strict=True)]
    return phrase(_listing(pen, facts), items[0], none=items[1:], lure=lure)


def _oldest(pen: Pen) -> Case:
    names = pen.firsts(pen.whole(4, 6))
    years = sorted(pen.some(range(1945, 2012), len(names)))
    lure = f"{names[-1]} lives in a house built in {years[0] - 30}."
    facts = [f"{name} was born in {year}." for name, year in zip(names, years, strict=True)]
    return phrase(_listing(pen, facts), names[0], none=names[1:], lure=lure)


def _reverse(pen: Pen) -> Case:
    count = pen.whole(4, 6)
    names, hobbies = pen.firsts(count), pen.some(pools.HOBBIES, count)
    told = list(zip(names, hobbies, strict=True))
    name, hobby = told.pop() if pen.chance(_ABSENT_SHARE) else (None, "")
    facts = [f"{who} is in the {what} club." for who, what in told]
    if name is not None:
        return phrase(_listing(pen, facts), *NOT_GIVEN, none=names, fields={"subject": hobby})
    name, hobby = pen.pick(told)
    others = [who for who, _ in told if who != name]
    lure = f"{others[0]} thought about joining the {hobby} club, but never did."
    return phrase(
        _listing(pen, facts), name, none=[*others, *NOT_GIVEN], fields={"subject": hobby}, lure=lure
    )


def _weather(pen: Pen) -> Case:
    count = _count(pen)
    skies = pen.some(
        ("rain", "snow", "fog", "sunshine", "hail", "storms", "drizzle", "sleet"), count
    )
    return _lookup(
        pen,
        pen.cities(count),
        skies,
        lambda city, sky: f"{city} can expect {sky}.",
        lambda city, sky: f"Last week {city} had {sky}.",
    )


def _seats(pen: Pen) -> Case:
    count = _count(pen)
    seats = [f"{row}{pen.pick('ABCDEF')}" for row in pen.some(range(1, 40), count)]
    return _lookup(
        pen,
        pen.firsts(count),
        seats,
        lambda name, seat: f"{name} sits in {seat}.",
        lambda name, seat: f"{name} gave up seat {seat}.",
        lambda seat: (seat, f"seat {seat}", f"in {seat}"),
    )


def _latest(pen: Pen) -> Case:
    names = pen.firsts(pen.whole(4, 6))
    clocks = sorted(pen.clocks(len(names)))
    lure = f"{names[0]} had been expected much later, at 22:30."
    facts = [f"{name} arrived at {clock}." for name, clock in zip(names, clocks, strict=True)]
    return phrase(_listing(pen, facts), names[-1], none=names[:-1], lure=lure)


_BOTH = ("easy", "hard")


def _kind(
    name: str, make: Make, *asks: str, levels: tuple[str, ...] = _BOTH, ood: bool = False
) -> Kind:
    first, second, third, fourth = asks
    # A superlative needs no "not given"; it would only be a false way out.
    form = "phrase" if name in ("cheapest", "oldest", "latest") else "reading"
    return Kind("reading", name, form, (first, second, third, fourth), make, levels, ood=ood)


KINDS = (
    _kind(
        "hours",
        _hours,
        "When does the {subject} open now?",
        "From what time on is the {subject} open?",
        "At what time can one enter the {subject}?",
        "What is the opening time of the {subject}?",
    ),
    _kind(
        "prices",
        _prices,
        "How much is the {subject} now?",
        "What does the {subject} cost today?",
        "What is the present price of the {subject}?",
        "How many dollars do you pay for the {subject}?",
    ),
    _kind(
        "duties",
        _duties,
        "Who is responsible for the {subject}?",
        "Which person does the {subject}?",
        "Whose job is the {subject}?",
        "Name the one in charge of the {subject}.",
    ),
    _kind(
        "places",
        _places,
        "Where is the {subject} now?",
        "In which room do I have to look for the {subject}?",
        "Where can the {subject} be found?",
        "Which room holds the {subject}?",
    ),
    _kind(
        "hobbies",
        _hobbies,
        "What is the hobby of {subject} now?",
        "Which activity does {subject} enjoy?",
        "What does {subject} like to do these days?",
        "Name the pastime of {subject}.",
    ),
    _kind(
        "homes",
        _homes,
        "Where does {subject} live?",
        "In which city is {subject} at home?",
        "What is the home town of {subject} at present?",
        "Which city does {subject} live in now?",
    ),
    _kind(
        "trains",
        _trains,
        "Which platform does the train to {subject} use?",
        "From what platform do I travel to {subject}?",
        "I need to go to {subject}. Which platform is it?",
        "What is the platform for {subject} today?",
    ),
    _kind(
        "dates",
        _dates,
        "When is the {subject}?",
        "On what date does the {subject} take place?",
        "Which day was fixed for the {subject}?",
        "What is the date of the {subject} now?",
    ),
    _kind(
        "cheapest",
        _cheapest,
        "Which of the things has the lowest price now?",
        "What is the cheapest thing today?",
        "Which item costs the least?",
        "Name the thing that is currently least expensive.",
        levels=("hard",),
    ),
    _kind(
        "oldest",
        _oldest,
        "Who is the oldest?",
        "Which person was born first?",
        "Name the person with the most years behind them.",
        "Who of these people has the earliest year of birth?",
        levels=("hard",),
    ),
    _kind(
        "reverse",
        _reverse,
        "Who is in the {subject} club?",
        "Which person belongs to the {subject} club?",
        "Name the member of the {subject} club.",
        "Whom would you meet in the {subject} club?",
        levels=("hard",),
    ),
    _kind(
        "weather",
        _weather,
        "What weather is forecast for {subject}?",
        "What will it be like outside in {subject}?",
        "What does {subject} have to expect?",
        "Which weather is coming to {subject}?",
        ood=True,
    ),
    _kind(
        "seats",
        _seats,
        "Which seat does {subject} have?",
        "Where is {subject} sitting?",
        "What is the seat of {subject}?",
        "In which seat do I find {subject}?",
        ood=True,
    ),
    _kind(
        "latest",
        _latest,
        "Who came last?",
        "Which person was the last to arrive?",
        "Name the person who turned up latest.",
        "Who arrived after all the others?",
        levels=("hard",),
        ood=True,
    ),
)

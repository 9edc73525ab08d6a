"""Write a date, a measure, a number or a small table in another form."""

from __future__ import annotations

import json

from ondevice.runtime.evaluate.checkers import JsonEquals
from recipes.evalset import pools
from recipes.evalset.kinds import (
    Case,
    Kind,
    Make,
    Pen,
    month,
    number,
    phrase,
    record,
    spoken,
    table,
)

_ONES = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ROMAN = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
          (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))  # fmt: skip


def words(value: int) -> str:
    """0 to 9,999 in English words, without "and"."""
    if value < 20:
        return _ONES[value]
    if value < 100:
        rest = f"-{_ONES[value % 10]}" if value % 10 else ""
        return _TENS[value // 10 - 2] + rest
    size, name = (100, "hundred") if value < 1000 else (1000, "thousand")
    rest = f" {words(value % size)}" if value % size else ""
    return f"{words(value // size)} {name}{rest}"


def roman(value: int) -> str:
    written = ""
    for size, letters in _ROMAN:
        written += letters * (value // size)
        value %= size
    return written


def _iso_date(pen: Pen) -> Case:
    day, other = pen.day(1950, 2040), pen.day()
    lure = f"(The form itself was printed on {spoken(other)}.)"
    if pen.hard:  # ambiguous as it stands; the text defines the order
        order = pen.pick(("day/month/year", "month/day/year"))
        first, second = (day.day, day.month) if order[0] == "d" else (day.month, day.day)
        text = f"{first:02}/{second:02}/{day.year} ({order})"
    else:
        text = pen.pick((spoken(day), f"{month(day)} {day.day}, {day.year}"))
    return phrase(text, day.isoformat(), lure=lure)


def _long_date(pen: Pen) -> Case:
    day, other = pen.day(1950, 2040), pen.day()
    lure = f"(Printed on {other.isoformat()}.)"
    text = f"{day.day:02}.{day.month:02}.{day.year % 100:02}" if pen.hard else day.isoformat()
    if pen.hard:
        text += " (day.month.year, all in the years 1950 to 2049)"
    answers = (spoken(day), f"{day.day:02} {month(day)} {day.year}")
    return phrase(text, *answers, lure=lure)


def _length(pen: Pen) -> Case:
    if pen.hard:
        km, rest = pen.whole(1, 40), pen.whole(5, 950)
        text, metres = f"{km} km and {rest} m", km * 1000 + rest
    else:
        km = pen.whole(2, 90)
        text, metres = f"{km} km", km * 1000
    lure = f"(The map shows a stretch of {pen.whole(3, 99)} km.)"
    return number(text, metres, ("m", "meters", "metres", "meter"), lure=lure)


def _weight(pen: Pen) -> Case:
    if pen.hard:
        tonnes, kilos = pen.whole(1, 20), pen.whole(3, 900)
        text, value = f"{tonnes} t and {kilos} kg", tonnes * 1000 + kilos
    else:
        grams = pen.whole(2, 90) * 1000
        text, value = f"{grams} g", grams // 1000
    lure = f"(The empty box weighs {pen.whole(3, 99)} kg.)"
    return number(text, value, ("kg", "kilograms", "kilogram", "kilos"), lure=lure)


def _clock24(pen: Pen) -> Case:
    hour, minute = pen.whole(0, 23) if pen.hard else pen.whole(13, 23), pen.whole(0, 59)
    half = "a.m." if hour < 12 else "p.m."
    text = f"{hour % 12 or 12}:{minute:02} {half}"
    lure = f"(The clock in the hall showed {pen.whole(1, 11)}:{pen.whole(10, 59)} p.m. then.)"
    return phrase(text, f"{hour:02}:{minute:02}", f"{hour}:{minute:02}", lure=lure)


def _number_words(pen: Pen) -> Case:
    value = pen.whole(1001, 9999) if pen.hard else pen.whole(21, 99)
    lure = f"(Page {words(pen.whole(2, 19))})"
    return number(words(value), value, lure=lure)


def _roman(pen: Pen) -> Case:
    value = pen.whole(140, 2900) if pen.hard else pen.whole(2, 39)
    return number(roman(value), value, lure=f"(see chapter {roman(pen.whole(2, 30))} for more)")


def _minutes(pen: Pen) -> Case:
    hours, rest = pen.whole(1, 9), pen.whole(1, 59)
    if pen.hard:
        text, value = f"{hours + 12} hours and {rest} minutes", (hours + 12) * 60 + rest
    else:
        text, value = f"{hours} hours", hours * 60
        text = text.replace("1 hours", "1 hour")
    lure = f"(The break of {pen.whole(5, 55)} minutes is not part of this.)"
    return number(text, value, ("minutes", "minute", "min"), lure=lure)


def _csv_to_json(pen: Pen) -> Case:
    name, city, age = pen.first(), pen.city(), pen.whole(18, 90)
    if not pen.hard:
        return record(f"name,city\n{name},{city}", {"name": name, "city": city})
    item, price = pen.pick(pools.ITEMS), pen.cents(5, 90) / 100
    text = f"name;city;age;item;price\n{name};{city};{age};{item};{price:.2f}".replace(".", ",")
    expected = {"name": name, "age": age, "item": item, "price": price}
    return record(text, expected)


def _to_csv(pen: Pen) -> Case:
    count = pen.whole(3, 4) if pen.hard else 2
    names, cities = pen.firsts(count), pen.cities(count)
    ages = [pen.whole(18, 90) for _ in names]
    pairs = list(zip(names, ages, cities, strict=True))
    if pen.hard:
        text = " ".join(f"{name} is {age} and comes from {city}." for name, age, city in pairs)
        rows = [f"{name},{age},{city}" for name, age, city in pairs]
        fields = {"columns": "name, age, city"}
    else:
        text = "\n".join(f"name: {name}; age: {age}" for name, age, _ in pairs)
        rows, fields = [f"{name},{age}" for name, age, _ in pairs], {"columns": "name, age"}
    return table(text, "\n".join(rows), fields=fields)


def _temperature(pen: Pen) -> Case:
    celsius = pen.whole(-8, 30) * 5
    units = ("°", "f", "fahrenheit", "degrees")
    lure = f"(The thermometer goes up to {pen.whole(151, 250)} °C.)"
    return number(f"{celsius} °C", celsius * 9 // 5 + 32, units, lure=lure)


def _percent(pen: Pen) -> Case:
    percent = pen.whole(1, 99)
    if pen.hard:
        percent = pen.whole(101, 980)
    lure = f"(Printed at {pen.whole(2, 9)}0 % of its size.)"
    shown = f"{percent / 100:g}"
    return number(f"{percent} %", percent / 100, shown=shown, lure=lure)


def _fraction(pen: Pen) -> Case:
    low = pen.pick((2, 4, 5, 10)) if not pen.hard else pen.pick((8, 16, 20, 25, 40))
    high = pen.whole(1, low - 1)
    lure = f"(question 1/{pen.whole(11, 15)} of the test)"
    return number(f"{high}/{low}", high / low * 100, ("%", "percent"), lure=lure)


def _currency(pen: Pen) -> Case:
    euros, rate = pen.whole(2, 20) * 5, pen.pick((1.1, 1.2, 1.5, 2)) if not pen.hard else 1.08
    lure = f"(Yesterday the rate was still {pen.pick((1.3, 1.4, 1.6))}.)"
    text = f"{euros} euros, at {rate:g} dollars for a euro"
    return number(text, round(euros * rate, 2), ("dollars", "usd"), lure=lure)


def _snake(pen: Pen) -> Case:
    parts = [pen.pick(pools.COLOURS), pen.pick(pools.ITEMS).replace(" ", "")]
    parts += [pen.pick(pools.ROOMS).replace(" ", "")] if pen.hard else []
    text = " ".join(part.capitalize() for part in parts)
    return phrase(text.replace(" ", "") if pen.hard else text, "_".join(parts))


def _sizes(pen: Pen) -> Case:
    """A JSON list from a line of values."""
    values = pen.some(range(2, 99), pen.whole(5, 7) if pen.hard else 3)
    text = ("; " if pen.hard else ", ").join(map(str, values))
    if pen.hard:
        values = sorted(values)
    order = "ascending order" if pen.hard else "the order given"
    return Case(text, JsonEquals(list(values)), json.dumps(values), {"order": order})


def _kind(
    name: str,
    form: str,
    make: Make,
    *asks: str,
    levels: tuple[str, ...] = ("easy", "hard"),
    bar: tuple[str, ...] = (),
    ood: bool = False,
) -> Kind:
    first, second, third, fourth = asks
    asked = (first, second, third, fourth)
    return Kind("convert", name, form, asked, make, levels, frozenset(bar), ood)


KINDS = (
    _kind(
        "iso_date",
        "phrase",
        _iso_date,
        "Write the date as YYYY-MM-DD.",
        "Convert the date to the form YYYY-MM-DD.",
        "What is this date in ISO form (YYYY-MM-DD)?",
        "Put the date into the form year-month-day with digits, as in 2001-02-03.",
    ),
    _kind(
        "long_date",
        "phrase",
        _long_date,
        "Write the date as day, name of the month, year, as in 5 May 2001.",
        'Spell the month out, as in "5 May 2001".',
        "Convert the date to a form like this: 5 May 2001.",
        "How is this date written in a letter (for example 5 May 2001)?",
    ),
    _kind(
        "length",
        "number",
        _length,
        "Convert the length to metres.",
        "How many metres is that?",
        "Express this distance in metres.",
        "What is the length in metres?",
    ),
    _kind(
        "weight",
        "number",
        _weight,
        "Convert the weight to kilograms.",
        "How many kilograms is that?",
        "Express this weight in kilograms.",
        "What is the weight in kg?",
    ),
    _kind(
        "clock24",
        "phrase",
        _clock24,
        "Write the time in 24-hour form (HH:MM).",
        "What is that on a 24-hour clock? Use HH:MM.",
        "Convert the time to the 24-hour form HH:MM.",
        "How would a railway timetable print this time (HH:MM, 24 hours)?",
    ),
    _kind(
        "number_words",
        "number",
        _number_words,
        "Write the number in digits.",
        "Which number is spelled out here? Use digits.",
        "Convert the number words to digits.",
        "Put the number down in figures.",
    ),
    _kind(
        "roman",
        "number",
        _roman,
        "Which number does the Roman numeral stand for?",
        "Convert the Roman numeral to an ordinary number.",
        "Write the Roman number in our digits.",
        "What is the value of this Roman numeral?",
    ),
    _kind(
        "minutes",
        "number",
        _minutes,
        "How many minutes is that in all?",
        "Convert the time span to minutes.",
        "Express the duration in minutes.",
        "What is the length of time in minutes?",
    ),
    _kind(
        "csv_to_json",
        "json",
        _csv_to_json,
        "Convert the CSV record to JSON.",
        "Write the record of the CSV text as JSON.",
        "Turn this CSV row into JSON.",
        "Read the CSV and give its row as JSON.",
        bar=("lure", "long", "truncated", "pii"),
    ),
    _kind(
        "to_csv",
        "csv",
        _to_csv,
        "Write the data as CSV with the columns {columns}, in the order given.",
        "Convert the data to CSV, columns {columns}.",
        "Make CSV lines from this; the columns are {columns}.",
        "Put the records into CSV ({columns}), one a line.",
        bar=("lure", "pii"),
    ),
    _kind(
        "temperature",
        "number",
        _temperature,
        "Convert the temperature to degrees Fahrenheit.",
        "How many degrees Fahrenheit is that?",
        "Express the temperature in Fahrenheit.",
        "What would an American thermometer (Fahrenheit) show?",
        levels=("hard",),
    ),
    _kind(
        "percent",
        "number",
        _percent,
        "Write the percentage as a decimal number.",
        "Convert the percentage to a decimal fraction, as in 0.5.",
        "Which decimal number is equal to this percentage?",
        "Express the percentage without a percent sign, as a decimal.",
    ),
    _kind(
        "fraction",
        "number",
        _fraction,
        "What is the fraction in percent?",
        "Convert the fraction to a percentage.",
        "Express the fraction as percent.",
        "How many percent is that?",
        ood=True,
    ),
    _kind(
        "currency",
        "number",
        _currency,
        "Convert the amount to dollars.",
        "How many dollars is that?",
        "What do you get in dollars?",
        "Change the money into dollars.",
        ood=True,
    ),
    _kind(
        "snake",
        "phrase",
        _snake,
        "Write the name in lower case with underscores between the words (snake_case).",
        "Convert the name to snake_case.",
        "What is the name in snake_case?",
        "Make a snake_case name of it.",
        bar=("long", "truncated", "pii", "inject", "unicode"),
        ood=True,
    ),
    _kind(
        "sizes",
        "phrase",
        _sizes,
        "Write the numbers as a JSON list in {order}.",
        "Turn the numbers into a JSON array, in {order}.",
        "Give the numbers as a JSON list ({order}).",
        "Convert the line to a JSON array of numbers; keep to {order}.",
        bar=("long", "truncated", "pii", "unicode"),
        ood=True,
    ),
)

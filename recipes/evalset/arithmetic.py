"""Small sums of everyday life, with money, dates and times."""

from __future__ import annotations

from datetime import date, timedelta

from recipes.evalset import pools
from recipes.evalset.kinds import (
    Case,
    Kind,
    Make,
    Pen,
    article,
    dollars,
    money,
    number,
    phrase,
    spoken,
)


def _basket(pen: Pen) -> Case:
    name = pen.first()
    items = pen.some(pools.ITEMS, 4)
    if pen.hard:
        costs = [pen.cents(2, 40) for _ in range(3)]
        things = ", ".join(
            f"{article(item)} for {money(cost)}" for item, cost in zip(items, costs, strict=False)
        )
        text = f"{name} buys {things}."
    else:
        costs = [100 * pen.whole(2, 30) for _ in range(2)]
        text = (
            f"{name} buys {article(items[0])} for {money(costs[0])} and {article(items[1])} "
            f"for {money(costs[1])}."
        )
    lure = f"A {items[3]} for {money(100 * pen.whole(31, 60))} stays in the shop."
    return dollars(text, sum(costs), lure=lure)


def _change(pen: Pen) -> Case:
    name, item, note = pen.first(), pen.pick(pools.ITEMS), pen.pick((10, 20, 50, 100))
    if pen.hard:
        count, cost = pen.whole(2, 5), pen.cents(1, max(1, note // 6 - 1))
        plural = pen.pick(pools.PLURALS)
        text = f"{name} buys {count} {plural} at {money(cost)} each and pays with a ${note} note."
        total = count * cost
    else:
        total = 100 * pen.whole(2, note - 1)
        text = f"{name} buys {article(item)} for {money(total)} and pays with a ${note} note."
    lure = f"There are {pen.whole(2, 60)} more dollars at home."
    return dollars(text, 100 * note - total, lure=lure)


def _days_between(pen: Pen) -> Case:
    start = pen.day(2021, 2029)
    if pen.hard:
        end = start + timedelta(days=pen.whole(20, 75))
    else:
        start = start.replace(day=pen.whole(1, 12))
        end = start + timedelta(days=pen.whole(2, 15))
    lure = f"It was booked on {spoken(start - timedelta(days=pen.whole(20, 90)))}."
    text = f"{pen.first()} arrives on {spoken(start)} and leaves on {spoken(end)}."
    return number(text, (end - start).days, ("nights", "night", "days", "day"), lure=lure)


def _date_plus(pen: Pen) -> Case:
    start = pen.day(2021, 2029)
    days = pen.whole(20, 60) if pen.hard else pen.whole(2, 9)
    if not pen.hard:
        start = start.replace(day=pen.whole(1, 18))
    end = start + timedelta(days=days)
    text = (
        f"The {pen.pick(pools.ITEMS)} was ordered on {spoken(start)}. It comes {days} days later."
    )
    lure = f"The catalogue is dated {spoken(start - timedelta(days=pen.whole(30, 300)))}."
    return phrase(text, end.isoformat(), lure=lure)


def _discount(pen: Pen) -> Case:
    item, percent = pen.pick(pools.ITEMS), pen.pick((10, 20, 25, 50))
    if pen.hard:
        percent, price = pen.pick((5, 15, 30, 35, 40, 60)), 100 * pen.whole(3, 45)
        price = price * 4
    else:
        price = 100 * pen.pick((20, 40, 60, 80, 100, 200))
    text = f"{article(item).capitalize()} costs {money(price)}. Today there is {percent}% off."
    lure = f"Last week it was {percent + 5}% off."
    return dollars(text, price * (100 - percent) // 100, lure=lure)


def _split(pen: Pen) -> Case:
    people = pen.whole(3, 9) if pen.hard else pen.pick((2, 4, 5))
    share = pen.whole(405, 2900) if pen.hard else 100 * pen.whole(3, 25)
    text = f"{people} friends share a bill of {money(people * share)} equally."
    lure = f"The waiter has served {people + pen.whole(2, 5)} tables tonight."
    return dollars(text, share, lure=lure)


def _tip(pen: Pen) -> Case:
    bill = 100 * pen.whole(11, 95) if pen.hard else 100 * pen.pick((10, 20, 30, 40, 50, 60, 80))
    percent = pen.pick((5, 15, 20)) if pen.hard else 10
    text = f"The meal of {pen.first()} is {money(bill)}. A tip of {percent}% is added."
    lure = f"The table next to it gave {money(100 * pen.whole(2, 9))}."
    return dollars(text, bill + bill * percent // 100, lure=lure)


def _duration(pen: Pen) -> Case:
    hour, minute = pen.whole(6, 18), pen.pick((0, 10, 15, 20, 30, 45))
    length = pen.whole(61, 290) if pen.hard else pen.pick((20, 30, 40, 60, 90, 120))
    end = hour * 60 + minute + length
    text = (
        f"The {pen.pick(pools.EVENTS)} begins at {hour:02}:{minute:02} and ends at "
        f"{end // 60:02}:{end % 60:02}."
    )
    lure = f"Doors open at {hour - 1:02}:{minute:02}."
    return number(text, length, ("minutes", "minute", "min"), lure=lure)


def _age(pen: Pen) -> Case:
    name, birth = pen.first(), pen.day(1935, 2012)
    if pen.hard:
        today = date(pen.whole(2020, 2029), pen.whole(1, 12), pen.whole(1, 28))
        years = today.year - birth.year
        years -= (today.month, today.day) < (birth.month, birth.day)
        text = f"{name} was born on {spoken(birth)}. Today is {spoken(today)}."
    else:
        year = pen.whole(2020, 2029)
        years = year - birth.year
        text = f"{name} was born on 1 January {birth.year}. It is now December {year}."
    lure = f"The sister of {name} is {years + pen.whole(2, 6)}."
    return number(text, years, ("years", "year"), lure=lure)


def _savings(pen: Pen) -> Case:
    name, weeks = pen.first(), pen.whole(6, 26) if pen.hard else pen.whole(2, 10)
    each, start = pen.whole(6, 35), pen.whole(15, 150)
    text = f"{name} puts ${each} aside every week for {weeks} weeks"
    text += f" and had ${start} at the start." if pen.hard else "."
    lure = f"A friend has already saved ${pen.whole(200, 400)}."
    return dollars(text, 100 * (each * weeks + (start if pen.hard else 0)), lure=lure)


def _left(pen: Pen) -> Case:
    name, food = pen.first(), pen.pick(pools.FOODS)
    have, gone = pen.whole(30, 90), pen.whole(3, 15)
    text = f"{name} has {have} {food} and gives {gone} of them away."
    left = have - gone
    if pen.hard:
        days, eaten = pen.whole(2, 5), pen.whole(2, 4)
        text += f" On each of the next {days} days {eaten} are eaten."
        left -= days * eaten
    lure = f"The neighbour has {have + pen.whole(5, 30)} {food}."
    return number(text, left, lure=lure)


def _area(pen: Pen) -> Case:
    long, wide = (
        (pen.whole(11, 40), pen.whole(6, 19)) if pen.hard else (pen.whole(3, 10), pen.whole(2, 5))
    )
    text = f"The {pen.pick(pools.ROOMS)} is {long} m long and {wide} m wide."
    if pen.hard:
        corner = pen.whole(2, 4)
        text += f" A square corner of {corner} m by {corner} m gets no carpet."
        return number(text, long * wide - corner * corner, lure="The ceiling is 3 m high.")
    return number(text, long * wide, lure="The ceiling is 3 m high.")


def _fuel(pen: Pen) -> Case:
    usage, hundreds = pen.whole(4, 9), pen.whole(2, 9)
    km = hundreds * 100 + (50 if pen.hard else 0)
    litres = usage * km / 100
    text = f"A car uses {usage} litres of fuel for 100 km. {pen.first()} drives {km} km."
    units = ("litres", "liters", "l", "litre")
    return number(text, litres, units, lure=f"The tank holds {pen.whole(40, 80)} litres.")


def _rent(pen: Pen) -> Case:
    rent, months = 50 * pen.whole(8, 30), pen.whole(3, 6)
    text = f"The rent of {pen.first()} is ${rent} a month."
    if pen.hard:
        fee = pen.whole(2, 9) * 10
        text += f" Moving in costs a single fee of ${fee}. The stay is {months} months."
        return dollars(text, 100 * (rent * months + fee), lure="The garage would be $75 more.")
    text += " The stay is 2 months."
    return dollars(text, 200 * rent, lure="The garage would be $75 more.")


def _kind(name: str, form: str, make: Make, *asks: str, ood: bool = False) -> Kind:
    first, second, third, fourth = asks
    asked = (first, second, third, fourth)
    return Kind("arithmetic", name, form, asked, make, ood=ood)


KINDS = (
    _kind(
        "basket",
        "number",
        _basket,
        "How many dollars are paid in all?",
        "What is the total in dollars?",
        "How much money is spent (in dollars)?",
        "Add up the purchase, in dollars.",
    ),
    _kind(
        "change",
        "number",
        _change,
        "How many dollars come back as change?",
        "What is the change in dollars?",
        "How much money does the cashier return (in dollars)?",
        "Work out the change, in dollars.",
    ),
    _kind(
        "days_between",
        "number",
        _days_between,
        "How many nights is the stay?",
        "For how many nights is a bed needed?",
        "Count the nights of this visit.",
        "How many nights does the guest spend here?",
    ),
    _kind(
        "date_plus",
        "phrase",
        _date_plus,
        "On what date does it come? Use the form YYYY-MM-DD.",
        "Give the date of delivery as YYYY-MM-DD.",
        "What is the day of arrival (YYYY-MM-DD)?",
        "Work out when it arrives, in the form YYYY-MM-DD.",
    ),
    _kind(
        "discount",
        "number",
        _discount,
        "What is the price today, in dollars?",
        "How many dollars does it cost after the discount?",
        "Work out the reduced price in dollars.",
        "How much do you pay today (dollars)?",
    ),
    _kind(
        "split",
        "number",
        _split,
        "How many dollars does each of them pay?",
        "What is one person's share in dollars?",
        "How much is it for each (in dollars)?",
        "Work out the share of one friend, in dollars.",
    ),
    _kind(
        "tip",
        "number",
        _tip,
        "How many dollars are paid together with the tip?",
        "What is the full amount in dollars, tip included?",
        "Meal and tip: how much is that in dollars?",
        "Work out the sum to pay, in dollars.",
    ),
    _kind(
        "duration",
        "number",
        _duration,
        "How many minutes does it last?",
        "What is the length in minutes?",
        "How long does it take, in minutes?",
        "Work out the duration in minutes.",
    ),
    _kind(
        "age",
        "number",
        _age,
        "How old is this person in full years?",
        "What is the age in completed years?",
        "Work out the person's present age in years.",
        "How many birthdays has the person had since being born?",
    ),
    _kind(
        "savings",
        "number",
        _savings,
        "How many dollars are there at the end?",
        "How much money is it in the end, in dollars?",
        "What is the final sum in dollars?",
        "Work out how many dollars have been collected.",
    ),
    _kind(
        "left",
        "number",
        _left,
        "How many are left?",
        "What number remains?",
        "How many are there at the end?",
        "Work out how many remain.",
    ),
    _kind(
        "area",
        "number",
        _area,
        "How many square metres of carpet are needed?",
        "What area does the carpet cover, in square metres?",
        "Work out the carpet needed in square metres.",
        "For a carpet: how many square metres is that?",
        ood=True,
    ),
    _kind(
        "fuel",
        "number",
        _fuel,
        "How many litres of fuel are used?",
        "What is the amount of fuel in litres?",
        "Work out the fuel used, in litres.",
        "How much fuel does this take (litres)?",
        ood=True,
    ),
    _kind(
        "rent",
        "number",
        _rent,
        "What does the stay cost in dollars?",
        "How many dollars are paid for the whole stay?",
        "Work out the cost of the stay in dollars.",
        "How much is the stay in all (dollars)?",
        ood=True,
    ),
)

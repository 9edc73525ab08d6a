"""Extract facts from a short text to a JSON object."""

from __future__ import annotations

from recipes.evalset import pools
from recipes.evalset.kinds import Case, Kind, Make, Pen, amount, article, money, record, spoken


def _contact(pen: Pen) -> Case:
    name, email, phone = pen.name(), pen.email(), pen.phone()
    other = pen.name()
    lure = f"{other} used to answer under {pen.email()} or {pen.phone()}, but has left."
    facts = {"contact": name, "email": email}
    if not pen.hard:
        text = pen.pick(
            (
                f"Please contact {name} at {email}.",
                f"Your contact is {name}, e-mail {email}.",
                f"For questions write to {name} ({email}).",
            )
        )
        return record(text, facts, lure)
    text = pen.pick(
        (
            f"{other} is away until Monday. Until then your contact is {name}, who can be called "
            f"on {phone} or written to at {email}.",
            f"Write to {email} or ring {phone}. Your contact there is {name}; {other} no longer "
            "works with us.",
        )
    )
    return record(text, {**facts, "phone": phone}, lure)


def _appointment(pen: Pen) -> Case:
    name, day, clock = pen.name(), pen.pick(pools.WEEKDAYS), pen.clock()
    where = pen.pick(pools.ROOMS)
    old = pen.pick([one for one in pools.WEEKDAYS if one != day])
    lure = f"An earlier plan with {pen.first()} for {old} at {pen.clock()} was dropped."
    facts = {"name": name, "day": day, "time": clock}
    if not pen.hard:
        text = pen.pick(
            (
                f"Appointment: {name}, {day}, {clock}.",
                f"{name} is coming on {day} at {clock}.",
                f"On {day} at {clock} we see {name}.",
            )
        )
        return record(text, facts, lure)
    text = pen.pick(
        (
            f"We first said {old}, but {name} can only come on {day}, so it is {clock} then, "
            f"in the {where}.",
            f"The visit of {name} has been moved from {old} to {day}. It takes place in the "
            f"{where} and begins at {clock}.",
        )
    )
    return record(text, {**facts, "room": where}, lure)


def _order(pen: Pen) -> Case:
    item, colour, count = pen.pick(pools.PLURALS), pen.pick(pools.COLOURS), pen.whole(2, 60)
    other = pen.pick([one for one in pools.PLURALS if one != item])
    lure = f"Last year it was {pen.whole(61, 99)} {other}, which have all been delivered."
    if not pen.hard:
        text = pen.pick(
            (
                f"I would like to order {count} {item}.",
                f"Please send us {count} {item}.",
                f"New order: {count} {item}.",
            )
        )
        return record(text, {"item": item, "quantity": count}, lure)
    price = pen.cents(2, 40)
    text = pen.pick(
        (
            f"We don't need the {other} any more. Instead we order {count} {item} in {colour}, "
            f"at {money(price)} each.",
            f"Not {other}, as I wrote before, but {item}: {count} pieces, {colour}, each at "
            f"{money(price)}.",
        )
    )
    facts = {"item": item, "quantity": count, "colour": colour, "price": price / 100}
    return record(text, facts, lure)


def _address(pen: Pen) -> Case:
    name, street, city = pen.name(), pen.street(), pen.city()
    code = str(pen.whole(10000, 99999))
    lure = f"The old address, {pen.street()} in {pen.city()}, is no longer in use."
    if not pen.hard:
        text = pen.pick(
            (
                f"Please deliver to {street} in {city}.",
                f"The new address is {street}, {city}.",
                f"Send it to this address: {street}, {city}.",
            )
        )
        return record(text, {"street": street, "city": city}, lure)
    text = pen.pick(
        (
            f"{name} moved away from {pen.city()} in spring and now lives at {street}, "
            f"{code} {city}.",
            f"The parcel for {name} goes to {city}, postcode {code}, {street}, and not to the "
            f"office in {pen.pick(pools.STREETS)}.",
        )
    )
    return record(text, {"name": name, "street": street, "postcode": code, "city": city}, lure)


def _invoice(pen: Pen) -> Case:
    code, total = f"{pen.pick('ABDFKRX')}{pen.whole(1000, 9999)}", pen.cents(15, 900)
    company, due = pen.pick(pools.COMPANIES), spoken(pen.day(2024, 2027))
    lure = f"The invoice before it, B{pen.whole(100, 999)} over {money(pen.cents(5, 14))}, is paid."
    facts = {"invoice": code, "total": float(amount(total))}
    if not pen.hard:
        text = pen.pick(
            (
                f"Invoice {code}: total {money(total)}.",
                f"The total of invoice {code} is {money(total)}.",
                f"Please pay {money(total)} for invoice {code}.",
            )
        )
        return record(text, facts, lure)
    tax = pen.cents(1, 12)
    text = pen.pick(
        (
            f"{company} sent invoice {code}. The total is {money(total)}, of which {money(tax)} "
            f"is tax; it has to be paid by {due}.",
            f"By {due} we owe {company} a total of {money(total)} (tax of {money(tax)} included), "
            f"see invoice {code}.",
        )
    )
    return record(text, {"company": company, **facts, "due": due}, lure)


def _trip(pen: Pen) -> Case:
    start, end, over = pen.cities(3)
    day, clock = spoken(pen.day(2024, 2028)), pen.clock()
    lure = f"The way back, from {end} to {start}, has not been booked yet."
    if not pen.hard:
        text = pen.pick(
            (
                f"Ticket from {start} to {end}.",
                f"We travel from {start} to {end} by train.",
                f"One way: from {start} to {end}, second class.",
            )
        )
        return record(text, {"from": start, "to": end}, lure)
    text = pen.pick(
        (
            f"On {day} the bus to {end} leaves {start} at {clock}; it stops in {over} for lunch.",
            f"Booked: {start} to {end} with a change in {over}, on {day}. Departure from {start} "
            f"at {clock}.",
        )
    )
    return record(text, {"from": start, "to": end, "date": day, "departure": clock}, lure)


def _event(pen: Pen) -> Case:
    title, city = pen.pick(pools.EVENTS), pen.city()
    day = pen.pick(pools.WEEKDAYS)
    other = pen.pick([one for one in pools.EVENTS if one != title])
    lure = f"The {other} on the day after has been called off."
    if not pen.hard:
        text = pen.pick(
            (
                f"The {title} is in {city} this year.",
                f"Come to the {title} in {city}!",
                f"Tickets for the {title} in {city} are on sale.",
            )
        )
        return record(text, {"event": title, "city": city}, lure)
    price = pen.whole(3, 45)
    text = pen.pick(
        (
            f"Unlike the {other}, the {title} costs something: ${price}. It is held in {city} "
            f"on {day}.",
            f"On {day} there is a {title} in {city}. Tickets are ${price}; the {other} on the "
            "same evening is free.",
        )
    )
    return record(text, {"event": title, "city": city, "day": day, "price": price}, lure)


def _product(pen: Pen) -> Case:
    item, colour, weight = pen.pick(pools.ITEMS), pen.pick(pools.COLOURS), pen.whole(2, 80) / 10
    other = pen.pick([one for one in pools.COLOURS if one != colour])
    lure = f"The model of last season was {other} and weighed {pen.whole(9, 20)} kg."
    if not pen.hard:
        text = pen.pick(
            (
                f"The {item} is {colour} and weighs {weight} kg.",
                f"For sale: {article(item)}, {colour}, {weight} kg.",
                f"{colour.capitalize()} {item}, weight {weight} kg.",
            )
        )
        return record(text, {"colour": colour, "weight_kg": weight}, lure)
    price, years = pen.cents(8, 190), pen.whole(2, 10)
    text = pen.pick(
        (
            f"This {item} comes in {colour} only ({other} is sold out). It weighs {weight} kg, "
            f"has a guarantee of {years} years and costs {money(price)}.",
            f"At {money(price)}, the {item} in {colour} weighs only {weight} kg; the guarantee is "
            f"{years} years, twice as long as for the one in {other}.",
        )
    )
    facts = {"colour": colour, "weight_kg": weight, "price": price / 100, "guarantee_years": years}
    return record(text, facts, lure)


def _review(pen: Pen) -> Case:
    item, stars = pen.pick(pools.ITEMS), pen.whole(1, 5)
    noun = "star" if stars == 1 else "stars"
    name = pen.name()
    lure = f"On average other buyers gave {pen.pick((2.5, 3.5, 4.5))} stars."
    if not pen.hard:
        text = pen.pick(
            (
                f"{stars} {noun} for this {item}.",
                f"My rating for the {item}: {stars} {noun}.",
                f"I give the {item} {stars} {noun}.",
            )
        )
        return record(text, {"product": item, "stars": stars}, lure)
    months, city = pen.whole(2, 11), pen.city()
    first = 5 if stars < 4 else 2
    text = pen.pick(
        (
            f"I first wanted to give it {first} stars, but after "
            f"{months} months with this {item} it is {stars} {noun}. {name}, {city}",
            f"{name} from {city} has used the {item} for {months} months and rates it with "
            f"{stars} of 5 stars.",
        )
    )
    return record(text, {"author": name, "product": item, "stars": stars, "months": months}, lure)


def _ingredient(pen: Pen) -> Case:
    food, grams = pen.pick(pools.FOODS), pen.whole(3, 40) * 25
    lure = f"In the other recipe it was {grams + 35} g of {pen.pick(['flour', 'rice', 'sugar'])}."
    if not pen.hard:
        text = pen.pick((f"Peel {grams} g of {food}.", f"You need {grams} g of {food}."))
        return record(text, {"ingredient": food, "grams": grams}, lure)
    minutes, people = pen.whole(10, 90), pen.whole(2, 8)
    text = (
        f"For {people} people, wash {grams} g of {food}, cut them up and let them cook for "
        f"{minutes} minutes without a lid."
    )
    facts = {"ingredient": food, "grams": grams, "minutes": minutes, "people": people}
    return record(text, facts, lure)


def _vacancy(pen: Pen) -> Case:
    job = pen.pick(
        ("cook", "nurse", "driver", "teacher", "gardener", "welder", "plumber", "tailor")
    )
    city, pay = pen.city(), pen.whole(18, 60) * 100
    lure = f"The job in {pen.city()} for {article('assistant')} has already been filled."
    if not pen.hard:
        text = pen.pick((f"Wanted: {job} in {city}.", f"We look for a {job} in {city}."))
        return record(text, {"job": job, "city": city}, lure)
    hours = pen.whole(15, 40)
    text = (
        f"Our branch in {city} is growing. From autumn we offer a {job} {hours} hours a week at "
        f"${pay:,} a month; housing is not included."
    )
    return record(text, {"job": job, "city": city, "hours": hours, "salary": pay}, lure)


def _booking(pen: Pen) -> Case:
    name, people, clock = pen.name(), pen.whole(2, 14), pen.clock()
    lure = f"The party of {people + 3} at {pen.clock()} has cancelled."
    if not pen.hard:
        text = pen.pick((f"A table for {people}, name {name}.", f"{name}, {people} people."))
        return record(text, {"name": name, "people": people}, lure)
    children = pen.whole(1, people - 1)
    noun = "child" if children == 1 else "children"
    text = (
        f"Could {name} have a table at {clock}? They are {people} people in all, {children} "
        f"{noun} among them."
    )
    return record(text, {"name": name, "people": people, "children": children, "time": clock}, lure)


def _kind(name: str, make: Make, *asks: str, bar: tuple[str, ...] = (), ood: bool = False) -> Kind:
    first, second, third, fourth = asks
    return Kind(
        "extract",
        name,
        "json",
        (first, second, third, fourth),
        make,
        bar=frozenset(bar),
        ood=ood,
    )


KINDS = (
    _kind(
        "contact",
        _contact,
        "Who is the contact, and how can they be reached?",
        "Extract the contact details from the text.",
        "Pull out how to get in touch with our contact.",
        "Note down the contact named here.",
        bar=("pii",),
    ),
    _kind(
        "appointment",
        _appointment,
        "Extract the appointment.",
        "Put the appointment that holds into a record.",
        "Which appointment is agreed here?",
        "Turn this into a calendar entry.",
    ),
    _kind(
        "order",
        _order,
        "Extract what is ordered.",
        "Fill in the order form from the message.",
        "What does the customer order?",
        "Record the order.",
    ),
    _kind(
        "address",
        _address,
        "Extract the current address.",
        "Which address should be used? Copy it.",
        "Take the valid address from the text.",
        "Make an address record out of this.",
        bar=("pii",),
    ),
    _kind(
        "invoice",
        _invoice,
        "Extract the data of the open invoice.",
        "Enter the unpaid invoice into the books.",
        "Which invoice has to be paid?",
        "Take down the invoice that is still open.",
    ),
    _kind(
        "trip",
        _trip,
        "Extract the trip that was booked.",
        "Where does the booked trip go?",
        "Make a travel record from the text.",
        "Find the details of the journey out.",
    ),
    _kind(
        "event",
        _event,
        "Extract the event that takes place.",
        "Which event is announced?",
        "Write an entry for the events page.",
        "Collect the facts of the advertised event.",
    ),
    _kind(
        "product",
        _product,
        "Extract the data of the product now on offer.",
        "Fill in the product sheet.",
        "What are the properties of this product?",
        "List the product facts given for the present model.",
    ),
    _kind(
        "review",
        _review,
        "Extract the reviewer's final rating.",
        "Turn the review into a record.",
        "How was the product rated by this person in the end?",
        "Save this customer review.",
    ),
    _kind(
        "ingredient",
        _ingredient,
        "Extract the recipe step.",
        "Which ingredient is used in this recipe?",
        "Write the recipe line as data.",
        "Take the ingredient data from the recipe.",
        ood=True,
    ),
    _kind(
        "vacancy",
        _vacancy,
        "Extract the open job.",
        "What job is offered?",
        "Turn the vacancy into a record.",
        "Take the facts from the job advertisement.",
        ood=True,
    ),
    _kind(
        "booking",
        _booking,
        "Extract the table reservation.",
        "Enter the reservation into the system.",
        "What has been reserved?",
        "Make a booking record.",
        ood=True,
    ),
)

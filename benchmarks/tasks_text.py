"""Tasks about a given text: extraction, classification, reading, grammar, strings."""

from __future__ import annotations

from benchmarks.checks import (
    exact_case,
    in_order,
    json_array,
    json_object,
    label,
    letter,
    matches,
    no,
    number,
    says,
    says_all,
    yes,
)
from benchmarks.tasks import kind

_FEELINGS = ("positive", "negative", "neutral")
_TOPICS = ("sports", "politics", "science", "cooking")
_LANGUAGES = ("French", "Spanish", "German", "Italian", "English")
_SPEECH = ("question", "request", "complaint")
_THINGS = ("animal", "plant", "object")
_TONES = ("formal", "informal")
_HOURS = "Opening hours: Monday to Friday 9:00 to 18:00, Saturday 10:00 to 14:00, Sunday closed."
_NOTE = (
    "Grandma's sixtieth birthday party is on 12 May at the Blue Lantern restaurant. Peter brings "
    "the cake, Lucy brings flowers, and Omar takes the photos. Dinner starts at 19:00."
)
_TRIP = (
    "Last summer the Novak family travelled to Norway by camper van. They stayed for sixteen days "
    "and came back early because the engine was losing oil. Their dog, Biscuit, came along."
)
_PLANTS = (
    "Water the fern twice a week and the cactus once a month. The orchid stands in the bathroom, "
    "because it likes damp air. The basil died in June."
)

EXTRACTION = (
    kind(
        "json-person",
        'Extract the name and the city as JSON with the keys "name" and "city". Text: {}',
        ("Maria Lopez moved to Lisbon in 2019.", json_object(name="Maria Lopez", city="Lisbon")),
        (
            "Our new colleague Tom Becker lives in Hamburg.",
            json_object(name="Tom Becker", city="Hamburg"),
        ),
    ),
    kind(
        "json-order",
        'Turn this order into a JSON object with keys "item" (string) and "quantity" (number): {}',
        ("I would like 3 lamps, please.", json_object(item="lamps", quantity=3)),
        ("Please send me twelve pencils.", json_object(item="pencils", quantity=12)),
    ),
    kind(
        "json-list",
        "Return a JSON array with the fruits named in this sentence, in order: {}",
        ("She bought apples, pears and bread.", json_array("apples", "pears")),
        ("The cake has cherries, sugar, and plums in it.", json_array("cherries", "plums")),
    ),
    kind(
        "json-stock",
        'Answer with JSON, keys "product", "price" (number) and "in_stock" (true or false). {}',
        (
            "The kettle costs 24.50 dollars and is available.",
            json_object(product="kettle", price=24.5, in_stock=True),
        ),
        (
            "The toaster, at 39 dollars, is sold out.",
            json_object(product="toaster", price=39, in_stock=False),
        ),
    ),
    kind(
        "iso-date",
        "Write this date in the format YYYY-MM-DD: {}",
        ("March 5, 2021", says("2021-03-05")),
        ("17 October 1998", says("1998-10-17")),
        ("the first of July 2030", says("2030-07-01")),
    ),
    kind(
        "email",
        "Which e-mail address is in this text? {}",
        ("Write to Anna at anna.k@example.org before noon.", says("anna.k@example.org")),
        (
            "For returns use returns@shop.example, not the phone number 555-0101.",
            says("returns@shop.example"),
        ),
    ),
    kind(
        "phone",
        "Give me only the telephone number in this message: {}",
        ("Hi, it's Jo. My new number is 555-0199, the office is closed.", says("555-0199")),
    ),
    kind(
        "time",
        "At what time does it start? Answer with the time only. {}",
        (
            "The concert, with two intervals, begins at 19:30 in the town hall.",
            says("19:30", "7:30 pm"),
        ),
        (
            "Doors open at 8:15; the lecture starts at 9:00.",
            matches(r"^\D*0?9(:00)?( ?a\.?m)?\W*$"),
        ),
    ),
    kind(
        "price",
        "How much does the ticket cost? Answer with the number only. {}",
        ("Adults pay 14 euros for a ticket, a drink is 3 euros.", number(14)),
        ("The ticket is 8.50, and parking is free.", number(8.5)),
    ),
    kind(
        "order-number",
        "Find the order number in this mail and write only the number: {}",
        ("Hello, my order 88213 from 4 May has not arrived.", says("88213", but_not=("4 May",))),
        ("Regarding order A-5540: two of the 6 cups were broken.", says("A-5540")),
    ),
    kind(
        "colours",
        "List the colours that are mentioned: {}",
        ("The red boat lay beside a green one.", says_all("red", "green")),
    ),
)

CLASSIFICATION = (
    kind(
        "sentiment",
        "Is this review positive, negative or neutral? Answer with one word. {}",
        ("The soup was cold and the waiter was rude.", label("negative", _FEELINGS)),
        ("Best hotel I have ever stayed in!", label("positive", _FEELINGS)),
        ("The parcel contains a cable and a manual.", label("neutral", _FEELINGS)),
        ("I waited two hours and nobody came.", label("negative", _FEELINGS)),
    ),
    kind(
        "topic",
        "Choose the topic: sports, politics, science or cooking. Headline: {}",
        ("Striker scores twice in cup final", label("sports", _TOPICS)),
        ("Parliament votes on the new tax law", label("politics", _TOPICS)),
        ("Telescope finds water on a distant planet", label("science", _TOPICS)),
        ("Ten ways to make a better tomato sauce", label("cooking", _TOPICS)),
    ),
    kind(
        "spam",
        "Is this message spam? Answer yes or no. {}",
        ("CONGRATULATIONS!!! You won $1,000,000. Click here to claim now!", yes()),
        ("Hi Mum, I'll be home at six, shall I bring bread?", no()),
    ),
    kind(
        "language",
        "In which language is this sentence written? Answer with the name of the language. {}",
        ("Où est la gare, s'il vous plaît ?", label("French", _LANGUAGES)),
        ("Wo ist der Schlüssel für den Keller?", label("German", _LANGUAGES)),
        ("Dove posso comprare il biglietto?", label("Italian", _LANGUAGES)),
    ),
    kind(
        "urgent",
        'Classify this message as "urgent" or "not urgent": {}',
        (
            "The cellar is under water, please come at once!",
            label("urgent", ("urgent", "not urgent")),
        ),
        (
            "When you have time one day, send me the photos.",
            label("not urgent", ("urgent", "not urgent")),
        ),
    ),
    kind(
        "speech-act",
        "Is this a question, a request or a complaint? Answer with one word. {}",
        ("How old is the bridge?", label("question", _SPEECH)),
        ("Please close the window.", label("request", _SPEECH)),
        ("The heating has been broken for a week and nobody cares!", label("complaint", _SPEECH)),
    ),
    kind(
        "animal-plant-object",
        "Is it an animal, a plant or an object? Answer with one word. {}",
        ("oak", label("plant", _THINGS)),
        ("hammer", label("object", _THINGS)),
        ("salmon", label("animal", _THINGS)),
    ),
    kind(
        "tone",
        "Is this text formal or informal? One word. {}",
        ("hey dude, wanna grab a coffee l8r?", label("informal", _TONES)),
        ("We hereby confirm receipt of your application.", label("formal", _TONES)),
    ),
)

READING = (
    kind(
        "read-who",
        f"{_NOTE}\n\nQuestion: {{}} Answer with one name.",
        ("Who brings the cake?", says("Peter", but_not=("Lucy", "Omar"))),
    ),
    kind(
        "read-party",
        f"Read the text and answer briefly.\n{_NOTE}\n{{}}",
        ("How old will Grandma be?", says("60", "sixty")),
        ("Where is the party?", says("Blue Lantern")),
        ("What does Lucy bring?", says("flowers", but_not=("cake",))),
    ),
    kind(
        "read-trip",
        f"Text: {_TRIP}\n\n{{}}",
        ("Which country did they visit?", says("Norway")),
        ("For how many days did they stay?", says("16", "sixteen")),
        ("Why did they come back early?", says("oil", "engine")),
    ),
    kind(
        "read-plants",
        f"Use only this text to answer: {_PLANTS} Question: {{}}",
        ("Which plant is in the bathroom?", says("orchid", but_not=("fern", "cactus"))),
        ("How often is the cactus watered?", says("once a month", but_not=("twice a week",))),
    ),
    kind(
        "read-hours",
        f"{_HOURS} {{}} Answer yes or no.",
        ("Is the shop open on Sunday?", no()),
        ("Is the shop open on Saturday at 11:00?", yes()),
        ("Is the shop open on Tuesday at 20:00?", no()),
    ),
    kind(
        "read-larger",
        "{} Who is older? Answer with one name.",
        ("Ben is 34 years old and Carla is 29.", says("Ben", but_not=("Carla",))),
        ("Dora is 41. Emil is 57.", says("Emil", but_not=("Dora",))),
    ),
    kind(
        "title",
        "Which of these titles fits the text best: A) Cooking rice, B) A broken car, C) A day at "
        "the beach? Answer with the letter only. Text: {}",
        ("We swam, built a castle of sand and ate ice cream.", letter("C")),
        (
            "Rinse the grains, add water and salt, and simmer for 15 minutes.",
            letter("A"),
        ),
        (
            "The motor stopped on the motorway and we had to call for help.",
            letter("B"),
        ),
    ),
)

GRAMMAR = (
    kind(
        "correct",
        "Correct the grammar of this sentence: {}",
        ("She go to school every day.", says("She goes to school every day")),
        ("He don't like coffee.", says("He doesn't like coffee", "He does not like coffee")),
        ("Yesterday I see a film.", says("Yesterday I saw a film", "Yesterday, I saw a film")),
        ("There is three cats in the garden.", says("There are three cats in the garden")),
    ),
    kind(
        "spelling",
        "Correct the spelling mistake in this sentence: {}",
        ("I recieved your letter.", says("I received your letter")),
        ("The wether is nice today.", says("The weather is nice today")),
        ("This is definately my coat.", says("This is definitely my coat")),
    ),
    kind(
        "plural",
        'What is the plural of the English word "{}"?',
        ("child", says("children")),
        ("mouse", says("mice")),
    ),
    kind(
        "past",
        'What is the simple past of the verb "{}"?',
        ("to go", says("went")),
        ("to write", says("wrote")),
    ),
    kind(
        "article",
        'Does "{}" take the article "a" or "an"? Answer with the article and the word.',
        ("apple", says("an apple")),
        ("bicycle", says("a bicycle")),
    ),
    kind(
        "gap",
        "Fill in the gap with one word and write the whole sentence: {}",
        ("The opposite of hot is ___.", says("The opposite of hot is cold")),
        ("My mother's sister is my ___.", says("is my aunt")),
    ),
    kind(
        "capitals",
        "Write this sentence with correct capital letters and a full stop: {}",
        ("my brother lives in london", exact_case("My brother lives in London.")),
        ("on monday we met anna", exact_case("On Monday we met Anna.", "On Monday, we met Anna.")),
    ),
)

STRINGS = (
    kind(
        "upper",
        "Write this in capital letters: {}",
        ("good morning", exact_case("GOOD MORNING")),
        ("exit", exact_case("EXIT")),
    ),
    kind(
        "reverse",
        'Spell the word "{}" backwards.',
        ("cat", matches(r"\btac\b|t-a-c|t a c")),
        ("lamp", matches(r"\bpmal\b|p-m-a-l|p m a l")),
    ),
    kind(
        "letters",
        'How many letters has the word "{}"? Answer with a number.',
        ("tree", number(4)),
        ("banana", number(6)),
    ),
    kind(
        "sort",
        "Put these words in alphabetical order: {}",
        ("pear, apple, melon", in_order("apple", "melon", "pear")),
        ("winter, summer, autumn, spring", in_order("autumn", "spring", "summer", "winter")),
    ),
    kind(
        "replace",
        "Rewrite the sentence and replace the word {}",
        ('"dog" by "horse": The dog sleeps in the barn.', says("The horse sleeps in the barn")),
        ('"red" by "green": My red scarf is new.', says("My green scarf is new")),
    ),
    kind(
        "join",
        "Join these words with hyphens: {}",
        ("mother in law", says("mother-in-law")),
        ("north south line", says("north-south-line")),
    ),
    kind(
        "last-word",
        "What is the last word of this sentence? {}",
        ("The train arrives at noon.", matches(r"(?<!at )\bnoon\b")),
        ("Nobody had fed the ducks.", matches(r"(?<!the )\bducks\b")),
    ),
    kind(
        "initials",
        "What are the initials of {}? Write two letters.",
        ("Nina Torres", matches(r"\bN\.? ?T\b")),
        ("Paul Quincy", matches(r"\bP\.? ?Q\b")),
    ),
)

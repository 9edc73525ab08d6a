"""Tasks that need knowledge or thought: facts, numbers, code, words."""

from __future__ import annotations

from benchmarks.checks import (
    exact_case,
    in_order,
    label,
    matches,
    members,
    no,
    number,
    says,
    yes,
)
from benchmarks.tasks import kind

FACTS = (
    kind(
        "capital",
        "What is the capital of {}? Answer with the name of the city.",
        ("France", says("Paris")),
        ("Japan", says("Tokyo")),
        ("Canada", says("Ottawa")),
    ),
    kind(
        "continent",
        "On which continent is {}?",
        ("Kenya", says("Africa")),
        ("Brazil", says("South America")),
    ),
    kind(
        "how-many",
        "How many {}? Answer with a number.",
        ("days are there in a week", number(7)),
        ("legs does a spider have", number(8)),
        ("sides does a hexagon have", number(6)),
    ),
    kind(
        "young",
        "What do you call a young {}? One word.",
        ("cat", says("kitten")),
        ("dog", says("puppy", "pup")),
        ("cow", says("calf")),
        ("sheep", says("lamb")),
    ),
    kind(
        "symbol",
        "What is the chemical symbol of {}?",
        ("oxygen", exact_case("O")),
        ("gold", exact_case("Au")),
    ),
    kind(
        "currency",
        "Which currency is used in {}?",
        ("Japan", says("yen")),
        ("Germany", says("euro", "euros")),
    ),
    kind(
        "mixing",
        "Which colour do you get when you mix {} paint?",
        ("blue and yellow", says("green")),
        ("red and white", says("pink")),
    ),
    kind(
        "planet",
        "{} Answer with one name.",
        ("Which planet is closest to the sun?", says("Mercury")),
        ("Which is the largest planet of our solar system?", says("Jupiter")),
    ),
    kind(
        "tool",
        "Which tool do I use to {}? One word.",
        ("drive a nail into a wall", says("hammer")),
        ("measure the temperature", says("thermometer")),
        ("see very small things such as bacteria", says("microscope")),
    ),
    kind(
        "inventor",
        "Who {}? Answer with the name only.",
        ("wrote the play Romeo and Juliet", says("Shakespeare")),
        ("painted the Mona Lisa", says("Leonardo", "da Vinci")),
    ),
)

NUMBERS = (
    kind(
        "convert",
        "Convert: {} Answer with the number.",
        ("3 kilometres in metres.", number(3000)),
        ("2 hours in minutes.", number(120)),
        ("5 kilograms in grams.", number(5000)),
        ("3 weeks in days.", number(21)),
        ("250 centimetres in metres.", number(2.5)),
    ),
    kind(
        "clock",
        "Write this time on the 24-hour clock: {}",
        ("3 pm", says("15:00", "15.00", "1500")),
        ("9:45 pm", says("21:45")),
        ("quarter past seven in the evening", says("19:15")),
    ),
    kind(
        "add",
        "What is {}?",
        ("17 + 25", number(42)),
        ("48 + 36", number(84)),
        ("105 + 297", number(402)),
    ),
    kind(
        "subtract",
        "Calculate {}. Give only the result.",
        ("90 - 34", number(56)),
        ("71 - 48", number(23)),
    ),
    kind(
        "multiply",
        "How much is {}?",
        ("7 times 8", number(56)),
        ("15 times 14", number(210)),
    ),
    kind(
        "divide",
        "Divide {}. Answer with a number.",
        ("144 by 12", number(12)),
        ("10 by 4", number(2.5)),
    ),
    kind(
        "percent",
        "What is {}?",
        ("10% of 250", number(25)),
        ("25% of 80", number(20)),
        ("half of 68", number(34)),
    ),
    kind(
        "word-problem",
        "{} Answer with the number only.",
        ("I have 12 eggs and use 5 of them. How many are left?", number(7)),
        ("A book costs 9 dollars. How much do 4 books cost?", number(36)),
        ("20 sweets are shared equally among 5 children. How many does each get?", number(4)),
        ("Ana has 15 stamps, Bob has twice as many. How many does Bob have?", number(30)),
        ("A bus with 18 people lets 6 out and 4 in. How many people are in it now?", number(16)),
    ),
    kind(
        "change",
        "I pay with a {}. How much change do I get? Number only.",
        ("10 dollar note for something that costs 7 dollars", number(3)),
        ("20 euro note for something that costs 12.50 euros", number(7.5)),
    ),
    kind(
        "larger",
        "Which number is larger, {}? Answer with that number only.",
        ("345 or 354", says("354", but_not=("345",))),
        ("0.7 or 0.65", says("0.7", but_not=("0.65",))),
    ),
    kind(
        "parity",
        "Is {} an even or an odd number? One word.",
        ("27", label("odd", ("even", "odd"))),
        ("114", label("even", ("even", "odd"))),
    ),
    kind(
        "sequence",
        "Which number comes next? {} Answer with the number only.",
        ("2, 4, 6, 8,", says("10")),
        ("5, 10, 15, 20,", says("25")),
        ("1, 2, 4, 8, 16,", says("32")),
    ),
    kind(
        "digits",
        "Write this number in digits: {}",
        ("forty-seven", number(47)),
        ("three hundred and twelve", number(312)),
    ),
)

CODE = (
    kind(
        "python-output",
        "What does this Python code print? Answer with the output only.\n\n{}",
        ("print(3 + 4 * 2)", number(11)),
        ("print(len([5, 6, 7, 8]))", number(4)),
        ('print("ab" * 3)', says("ababab")),
        ("x = [1, 2, 3]\nprint(x[-1])", number(3)),
    ),
    kind(
        "python-method",
        "Which method of a Python string {}? Answer with its name.",
        ("makes all letters lower case", matches(r"\blower\b")),
        ("removes white space at both ends", matches(r"(?<![lr])strip\b")),
    ),
    kind(
        "python-function",
        "Write a Python function {} Only the code.",
        (
            "add(a, b) that returns the sum of a and b.",
            matches(r"def add\(.*return\s+\(?a\s*\+\s*b"),
        ),
        (
            "square(x) that returns the square of x.",
            matches(r"def square\(.*return\s+\(?(x\s*\*\s*x|x\s*\*\*\s*2|pow\(x, 2\))"),
        ),
        ("is_even(n).", matches(r"def is_even\(.*return\s+(not\s+)?\(?n\s*(%\s*2|&\s*1)")),
    ),
    kind(
        "sql",
        "Write an SQL query: {} Only the query.",
        ("all columns of the table users.", matches(r"select\s+\*\s+from\s+[`\"]?users")),
        (
            "the names of the customers in Rome; table customers, columns name and city.",
            matches(r"select\s+name\s+from\s+customers\s+where\s+city\s*=\s*['\"]rome['\"]"),
        ),
    ),
    kind(
        "shell",
        "Which Linux command {}? Answer with the command only.",
        ("lists the files of a folder", says("ls")),
        ("shows the current folder", says("pwd")),
        ("copies a file", says("cp")),
        ("makes a new folder", says("mkdir")),
    ),
    kind(
        "html",
        "Which HTML tag {}?",
        ("makes a link", matches(r"<a\b|\ba\b tag")),
        ("shows a picture", matches(r"<img\b|\bimg\b")),
    ),
    kind(
        "which-language",
        "Which programming language is this? One word.\n{}",
        ('fn main() { println!("hi"); }', says("Rust")),
        ('System.out.println("hi");', says("Java")),
        ("SELECT name FROM pets WHERE age > 3;", says("SQL")),
    ),
    kind(
        "big-o",
        "What is the time complexity of {} in big O notation?",
        ("binary search", matches(r"O\(\s*\\?log[ _]?\(?(n|2)")),
        ("looping once over a list of n items", matches(r"O\(n\)")),
    ),
)

WORDS = (
    kind(
        "to-french",
        'Translate "{}" into French.',
        ("thank you", says("merci")),
        ("the house", says("la maison")),
    ),
    kind(
        "to-spanish",
        'What is "{}" in Spanish?',
        ("water", says("agua")),
        ("good morning", says("buenos días", "buenos dias", "buen día")),
    ),
    kind(
        "to-german",
        'Translate the English word "{}" into German. One word.',
        ("dog", says("Hund")),
        ("bread", says("Brot")),
    ),
    kind(
        "to-english",
        "What does this word mean in English? {}",
        ("Schule (German)", says("school")),
        ("gato (Spanish)", says("cat")),
    ),
    kind(
        "antonym",
        'What is the opposite of "{}"? One word.',
        ("big", says("small", "little", "tiny")),
        ("early", says("late")),
        ("empty", says("full", "filled")),
    ),
    kind(
        "odd-one-out",
        "Which word does not belong with the others: {}? Answer with that word only.",
        ("apple, banana, chair, pear", says("chair", but_not=("apple", "banana", "pear"))),
        ("bus, train, car, sandwich", says("sandwich", but_not=("bus", "train", "car"))),
    ),
    kind(
        "category",
        "What do these things have in common? Answer with one word for all of them: {}",
        ("red, blue, green", says("colour", "colours", "color", "colors")),
        (
            "violin, piano, trumpet",
            says("instrument", "instruments", "music", "musical instruments"),
        ),
    ),
    kind(
        "list",
        "Name three {}.",
        (
            "fruits",
            members(
                3,
                (
                    "apple",
                    "apples",
                    "banana",
                    "bananas",
                    "orange",
                    "oranges",
                    "pear",
                    "grape",
                    "grapes",
                    "mango",
                    "mangoes",
                    "strawberry",
                    "strawberries",
                    "kiwi",
                    "cherry",
                ),
            ),
        ),
        (
            "countries in Europe",
            members(
                3,
                (
                    "France",
                    "Germany",
                    "Italy",
                    "Spain",
                    "Poland",
                    "Portugal",
                    "Austria",
                    "Sweden",
                    "Norway",
                    "Greece",
                    "Switzerland",
                    "Belgium",
                    "United Kingdom",
                ),
            ),
        ),
    ),
    kind(
        "in-order",
        "List, in order, the {}.",
        ("first three months of the year", in_order("January", "February", "March")),
        ("four seasons, starting with spring", in_order("spring", "summer", "winter")),
    ),
    kind(
        "yes-no",
        "{} Answer yes or no.",
        ("Is a whale a mammal?", yes()),
        ("Can a penguin fly?", no()),
        ("Is ice lighter than water?", yes()),
        ("Is 15 greater than 51?", no()),
    ),
)

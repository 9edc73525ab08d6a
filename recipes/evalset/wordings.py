"""How an item is put into words: frames around the text, and sentences naming the answer's form.

Knows nothing about the content of the items.
"""

from __future__ import annotations

FRAMES = (
    "{ask} {form}{rule}\n\nText: {text}",
    '{ask}\n{form}{rule}\n\n"""\n{text}\n"""',
    "Text:\n{text}\n\n{ask} {form}{rule}",
    'Here is a text: "{text}"\n{ask} {form}{rule}',
    "<text>\n{text}\n</text>\n\n{ask} {form}{rule}",
    "{text}\n\n---\n{ask} {form}{rule}",
    "{ask}{rule}\n\n{text}\n\n{form}",
    "Task: {ask}\nForm: {form}{rule}\nInput: {text}",
)
FORMS: dict[str, tuple[str, ...]] = {
    "json": (
        "Answer with a JSON object only, with the keys {keys}.",
        "Reply with JSON and nothing else. Keys: {keys}.",
        "Give one JSON object with exactly these keys: {keys}. No other text.",
        "Return only JSON; its keys are {keys}.",
        "The answer is a single JSON object (keys: {keys}), without comments.",
        "Write just a JSON object holding {keys}.",
        "Output: JSON only, with {keys} as keys.",
        "Use these JSON keys and no others: {keys}. Write only the JSON.",
    ),
    "label": (
        "Answer with one of these only: {labels}.",
        "Reply with exactly one label from this list: {labels}.",
        "Choose from {labels}. Write only your choice.",
        "Possible answers: {labels}. Give one and nothing else.",
        "One word or label is enough, taken from: {labels}.",
        "Options: {labels}. Answer with the option alone.",
        "Pick one ({labels}) and write nothing more.",
        "Your answer must be one of: {labels}. No explanation.",
    ),
    "number": (
        "Answer with the number only.",
        "Reply with just a number, no words.",
        "Give the number and nothing else.",
        "Write only the number.",
        "No explanation, only the number.",
        "The answer is a single number; write nothing more.",
        "Just the number, please.",
        "Output a number without any working.",
    ),
    "phrase": (
        "Answer in as few words as possible.",
        "Reply with the answer only, not a sentence.",
        "Give just the answer, without a full sentence.",
        "Write only the answer itself.",
        "No explanation, only the answer.",
        "Keep to the bare answer; no sentence.",
        "Just the answer, please.",
        "Output only the answer.",
    ),
    "reading": (
        'Answer in as few words as possible, or "not given" if the text does not say.',
        "Write only the answer. If it is not in the text, write: not given",
        'Give just the answer. When the text does not tell, answer "not given".',
        'Reply with the answer only; "not given" if the text does not mention it.',
        "No full sentence. If the text leaves it open, say: not given",
        'Only the bare answer, please, or "not given" where the text is silent.',
        'Use only the text. Write the answer alone, or "not given" if it isn\'t there.',
        'Answer briefly from the text; if it does not say, the answer is "not given".',
    ),
    "sentence": (
        "Answer with the corrected sentence only.",
        "Write only the corrected sentence.",
        "Give the sentence without the mistake and nothing else.",
        "Reply with just the corrected sentence; change nothing else.",
        "Output the right sentence only.",
        "No explanation, only the corrected sentence.",
        "Change as little as possible and write only the sentence.",
        "Just the corrected sentence, please.",
    ),
    "csv": (
        "Answer with CSV lines only, without a header.",
        "Write only the CSV, no header line.",
        "Give comma-separated lines and nothing else; no header.",
        "Output: CSV without a header, no explanation.",
        "Reply with just the CSV lines (no header).",
        "No header, no comments, only the CSV.",
        "Only comma-separated values, one record a line, no header.",
        "Just the CSV, please, leaving out any header.",
    ),
}
MAX_TOKENS = {
    "json": 96,
    "label": 24,
    "number": 24,
    "phrase": 24,
    "reading": 24,
    "sentence": 48,
    "csv": 64,
}

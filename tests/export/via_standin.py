"""Stands in for the Python of a tool's environment: answers what `ondevice.export.via` asks.

Run as that interpreter is: `via_standin.py -I ...`. Its "builder" copies the toy graph that the
test put beside it, its "reference" runs that graph by onnxruntime. `mode` is what else happens:
"" nothing, "fails" the tool ends with a complaint, "hangs" it does not end, "wrong" the reference
is another model.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    settings = json.loads((HERE / "standin.json").read_text(encoding="utf-8"))
    with (HERE / "asked.jsonl").open("a", encoding="utf-8") as log:
        entry = {
            "arguments": sys.argv[1:],
            "cwd": str(Path.cwd()),
            "environment": dict(os.environ),
            "process": os.getpid(),
        }
        log.write(json.dumps(entry) + "\n")
    isolated, what, *rest = sys.argv[1:]
    assert isolated == "-I"
    if what == "-c":
        print(json.dumps({n: v for n, v in settings["versions"].items() if n in rest}))
    elif what == "-m":
        return build(settings, rest)
    else:
        reference(settings, *rest)
    return 0


def build(settings: dict[str, str], rest: list[str]) -> int:
    if settings["mode"] == "fails":
        print("Traceback: many lines\n\nKeyError: 'rope_type'", file=sys.stderr)
        return 1
    out = Path(rest[rest.index("-o") + 1] if "-o" in rest else rest[-1])
    out.mkdir()
    print("Reading layer 0", flush=True)
    if settings["mode"] == "hangs":
        time.sleep(60)
    shutil.copy(HERE / "toy.onnx", out / "model.onnx")
    if (HERE / "genai_config.json").exists():
        shutil.copy(HERE / "genai_config.json", out)
    return 0


def reference(settings: dict[str, str], what: str, folder: str, given: str, out: str) -> None:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(HERE / "toy.onnx", providers=["CPUExecutionProvider"])
    asked = json.loads(Path(given).read_text(encoding="utf-8"))
    texts = asked if what == "logits" else asked["texts"]
    parts = []
    for tokens in texts:
        ids = np.array([tokens], np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        for value in session.get_inputs():
            if value.name.startswith("past_key_values"):
                feeds[value.name] = np.zeros((1, 1, len(tokens), 16), np.float32)
        wanted = {value.name for value in session.get_inputs()}
        feeds = {name: array for name, array in feeds.items() if name in wanted}
        found = session.run(None, feeds)[0]
        parts.append(found.reshape(-1, found.shape[-1]))
    rows = np.concatenate(parts)
    np.save(out, rows[:, ::-1] if settings["mode"] == "wrong" else rows, allow_pickle=False)


if __name__ == "__main__":
    raise SystemExit(main())

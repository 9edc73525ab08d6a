"""What the scripted model of the page's tests says."""

from __future__ import annotations

MARKDOWN = """Bees make it from **nectar**.

1. They carry it home.
2. They dry it.

| Step | Water |
|---|---|
| Nectar | 70% |

```python
def ripen(water: float) -> float:
    return water * 0.26  # percent
```
"""
LONG = " ".join(f"word{number}" for number in range(60)) + " end."
HOSTILE = """<img src="http://evil.example/a.png" onerror="window.hurt = 1"> <b>bold</b>
<script>window.hurt = 2</script> ![pixel](http://evil.example/b.png)
[a](javascript:window.hurt=3) [fine](https://example.org/) `<i>code</i>`

```html" onmouseover="window.hurt = 4
<script>window.hurt = 5</script>
```
"""


def says(prompt: str) -> str:
    """The answer to the last question of a prompt."""
    asked = prompt.rpartition("<|im_start|>user")[2]
    for word, answer in (
        ("honey", MARKDOWN),
        ("long", LONG),
        ("hostile", HOSTILE),
        ("stone", "It lies under the third stone."),
        ("capital", "Paris is the capital of France."),
    ):
        if word in asked:
            return answer
    return "Yes."

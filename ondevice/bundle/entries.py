"""The .desktop file that puts the program into a Linux desktop's menus."""

from __future__ import annotations

from ondevice.bundle.plan import Plan

COMMENT = "A language model that answers on your own device"


def desktop_file(plan: Plan, command: str) -> str:
    """The file's text; `command` is the program's path or name."""
    lines = [
        "[Desktop Entry]",
        "Type=Application",
        f"Name={plan.name}",
        f"Comment={COMMENT}",
        f'Exec="{command}"' if " " in command else f"Exec={command}",
        f"Icon={plan.unix_name}",
        "Terminal=false",
        "Categories=Utility;Office;",
    ]
    return "\n".join(lines) + "\n"

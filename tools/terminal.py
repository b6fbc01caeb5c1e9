#!/usr/bin/env python3
"""Draws what commands print as SVG: reads lines from standard input and writes the picture to standard output.

    heterodyne models | python3 tools/terminal.py > picture.svg

Lines that start with `$ ` are commands and are drawn brighter. Colours suit light and dark pages.
"""

import sys
from html import escape

SIZE = 14
STEP = 0.602 * SIZE  # advance of a character of common monospace fonts
LEADING = 20
MARGIN = 18
FONT = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"
GROUND, TEXT, COMMAND = "#161b22", "#c9d1d9", "#ffffff"


def drawn(lines: list[str]) -> str:
    width = round(2 * MARGIN + STEP * max(map(len, lines)))
    height = 2 * MARGIN + LEADING * len(lines) - LEADING // 3
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img"'
        f' font-family="{FONT}" font-size="{SIZE}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="{GROUND}"/>',
    ]
    for row, line in enumerate(lines):
        if not line.strip():
            continue
        command = line.startswith("$ ")
        style = f'fill="{COMMAND}" font-weight="600"' if command else f'fill="{TEXT}"'
        # The width is fixed, so columns meet in every font.
        fixed = f'textLength="{STEP * len(line):.1f}" lengthAdjust="spacingAndGlyphs"'
        y = MARGIN + LEADING * row + SIZE
        # Browsers draw several plain spaces as one.
        text = escape(line).replace(" ", "\N{NO-BREAK SPACE}")
        parts.append(f'<text x="{MARGIN}" y="{y}" {style} {fixed}>{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    lines = [line.rstrip() for line in sys.stdin.read().expandtabs().splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        sys.exit("terminal.py: nothing to draw on standard input")
    sys.stdout.write(drawn(lines))


if __name__ == "__main__":
    main()

"""Pictures of the results as SVG text, each in a light and a dark variant.

Drawn 720 wide with large letters: on a phone, 390 wide, the smallest ones are still ten pixels high.
"""

from html import escape

WIDTH = 720
FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"
THEMES = {
    "light": {"text": "#1f2328", "faint": "#59636e", "line": "#d1d9e0", "ours": "#0b6bcb", "other": "#9aa4af"},
    "dark": {"text": "#f0f6fc", "faint": "#9aa4af", "line": "#3d444d", "ours": "#4c9df3", "other": "#6e7781"},
}


class Canvas:
    """Collects SVG elements in the colours of a theme."""

    def __init__(self, theme, height, title):
        self.colour, self.height = THEMES[theme], height
        self.parts = [f"<title>{escape(title)}</title>"]

    def text(self, x, y, text, size=20, colour="text", anchor="start", weight=400):
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{self.colour[colour]}" text-anchor="{anchor}"'
            f' font-weight="{weight}">{escape(text)}</text>'
        )

    def bar(self, x, y, width, height, colour):
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3"'
            f' fill="{self.colour[colour]}"/>'
        )

    def line(self, x1, y1, x2, y2, colour="line", width=1, dash=None):
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{self.colour[colour]}"'
            f' stroke-width="{width}"{dashed}/>'
        )

    def path(self, points, colour="ours"):
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{text}" fill="none" stroke="{self.colour[colour]}" stroke-width="2.5"/>')

    def dot(self, x, y, radius=6, colour="ours", opacity=1.0):
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{self.colour[colour]}" fill-opacity="{opacity}"/>'
        )

    def svg(self):
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 -4 {WIDTH + 24} {self.height + 8}"'
            f' width="{WIDTH}" font-family="{FONT}" role="img">'
        )
        return "\n".join([head, *self.parts, "</svg>"]) + "\n"


def speed(theme, rows, caption):
    """Two bars per pair: `rows` of (label, our ms, PyTorch's ms, ratio)."""
    top, block, thick = 92, 92, 24
    canvas = Canvas(theme, top + block * len(rows) + 6, "Milliseconds per distillation step, heterodyne and PyTorch")
    canvas.text(0, 24, "Time of a distillation step", 24, weight=600)
    canvas.text(0, 52, caption, 18, "faint")
    canvas.bar(0, 66, 16, 14, "ours")
    canvas.text(24, 79, "heterodyne", 18)
    canvas.bar(150, 66, 16, 14, "other")
    canvas.text(174, 79, "PyTorch, best mode", 18)
    canvas.text(WIDTH, 79, "PyTorch / ours", 18, "ours", "end")
    scale = 480 / max(max(ours, peer) for _, ours, peer, _ in rows)
    for i, (label, ours, peer, ratio) in enumerate(rows):
        y = top + i * block
        canvas.text(0, y + 24, label, 20)
        canvas.text(WIDTH, y + 64, f"{ratio:.2f}×", 28, "ours", "end", 700)
        for row, (value, colour) in enumerate([(ours, "ours"), (peer, "other")]):
            low = y + 34 + row * (thick + 2)
            canvas.bar(0, low, value * scale, thick, colour)
            canvas.text(value * scale + 8, low + 19, f"{value:.0f} ms", 19)
    return canvas.svg()


def accuracy(theme, rows, caption):
    """One line per method with a dot per seed and the mean as a bar: `rows` of (method, [accuracy])."""
    left, right, top, step = 110, 606, 78, 48
    values = [value for _, seeds in rows for value in seeds]
    low, high = 5 * (min(values) // 5), 5 * -(-max(values) // 5)
    place = lambda value: left + (value - low) / (high - low) * (right - left)
    bottom = top + step * len(rows)
    canvas = Canvas(theme, bottom + 36, "Test accuracy of the demo's student, per method and seed")
    canvas.text(0, 24, "Accuracy of the demo's student, %", 24, weight=600)
    canvas.text(0, 52, caption, 18, "faint")
    for tick in range(int(low), int(high) + 1, 5):
        canvas.line(place(tick), top, place(tick), bottom)
        canvas.text(place(tick), bottom + 26, f"{tick}", 18, "faint", "middle")
    for i, (method, seeds) in enumerate(rows):
        y, colour = top + step * (i + 0.5), "ours" if i else "faint"
        mean = sum(seeds) / len(seeds)
        canvas.text(0, y + 7, method, 21)
        canvas.line(place(min(seeds)), y, place(max(seeds)), y, colour, 1.5)
        for value in seeds:
            canvas.dot(place(value), y, 7, colour, 0.6)
        canvas.line(place(mean), y - 16, place(mean), y + 16, colour, 5)
        canvas.text(WIDTH, y + 8, f"{mean:.2f}", 23, colour, "end", 700)
    return canvas.svg()


def growth(theme, series, caption):
    """Time and memory against each quantity: `series` of (axis, unit, [(x, ms, MB)]), one panel each."""
    wide, high, top, gap = 304, 130, 116, 84
    canvas = Canvas(theme, top + len(series) * (high + gap) - 10, "Time and memory of a step as it grows")
    canvas.text(0, 24, "How a step grows", 24, weight=600)
    canvas.text(0, 52, caption, 18, "faint")
    for column, (label, index) in enumerate([("ms per step", 1), ("peak memory, MB", 2)]):
        left = 30 + column * (wide + 66)
        canvas.text(left, 84, label, 19, weight=600)
        for i, (axis, unit, points) in enumerate(series):
            y0 = top + i * (high + gap) + high
            largest, end = max(p[index] for p in points) * 1.08, max(p[0] for p in points)
            spots = [(left + p[0] / end * wide, y0 - p[index] / largest * high) for p in points]
            canvas.line(left, y0, left + wide, y0, "faint")
            canvas.line(left, y0, left, y0 - high, "faint")
            canvas.line(*spots[0], *spots[-1], "other", 2, "6 5")
            canvas.path(spots)
            for spot in spots:
                canvas.dot(*spot, 5)
            for value in (points[0], points[-1]):
                anchor = "end" if value is points[-1] else "middle"
                canvas.text(left + value[0] / end * wide, y0 + 22, f"{value[0]}", 17, "faint", anchor)
                y = y0 - value[index] / largest * high
                anchor, x, rise = ("end", left + wide, 14) if value is points[-1] else ("start", left + 8, 26)
                canvas.text(x, y - rise, f"{value[index]:.0f}", 18, anchor=anchor)
            canvas.text(left + wide / 2, y0 + 46, f"{axis}, {unit}", 17, "faint", "middle")
    return canvas.svg()

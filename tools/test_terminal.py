"""What a command prints becomes a well-formed picture."""

import subprocess
import sys
import unittest
from pathlib import Path
from xml.etree import ElementTree

TOOL = Path(__file__).with_name("terminal.py")
SVG = "{http://www.w3.org/2000/svg}"


def draw(text: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, TOOL], input=text, capture_output=True, text=True)


class Terminal(unittest.TestCase):
    def test_every_line_is_there_and_inside(self):
        lines = ["$ a <b> & 'c'", "", "  two  spaces", "x" * 120]
        root = ElementTree.fromstring(draw("\n".join(lines) + "\n\n").stdout)
        texts = root.findall(f"{SVG}text")
        drawn = [text.text.replace("\N{NO-BREAK SPACE}", " ") for text in texts]
        self.assertEqual(drawn, [line for line in lines if line])
        self.assertNotIn("  ", "".join(text.text for text in texts))
        _, _, width, height = map(float, root.get("viewBox").split())
        for text in texts:
            self.assertLessEqual(float(text.get("x")) + float(text.get("textLength")), width)
            self.assertLess(float(text.get("y")), height)
        self.assertNotEqual(texts[0].get("fill"), texts[1].get("fill"))

    def test_nothing_to_draw_is_an_error(self):
        result = draw("\n \n")
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("nothing to draw", result.stderr)

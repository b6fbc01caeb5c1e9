"""The rules of STYLE.md that a script can check: line width, links in Markdown, the length of the README."""

import re
import subprocess
import unittest
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
WIDTH = 120
README_LINES = 80
SUFFIXES = {".rs", ".py", ".cc", ".h", ".md", ".toml", ".sh", ".sbatch", ".yaml"}
NAMES = {"Makefile"}
# Tables of data, one row per line.
GENERATED = {"crates/report/src/published.rs", "crates/data/src/datasets/names.rs"}
# Pages that the binary prints.
GENERATED |= {f"docs/reference/{page}.md" for page in ("recipe", "models", "methods")}
# Rust's raw strings over several lines; in tests they hold data whose lines must stay whole.
RAW_STRING = re.compile(r'\br(#*)"(?:(?!"\1).)*\n.*?"\1', re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|\b(?:src|srcset|href)=\"([^\"\s]+)\"")


@cache
def tracked():
    """Paths of the tracked files, relative to the project; empty outside a git checkout."""
    if not (PROJECT / ".git").exists():
        return []
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [name for name in listed.stdout.split("\0") if name and (PROJECT / name).is_file()]


def text(name):
    return (PROJECT / name).read_text(encoding="utf-8")


def blank(match):
    """The lines of a match without their text."""
    return "\n" * match.group().count("\n")


def without_code(markdown):
    """Markdown without fenced blocks and code spans, its lines where they were."""
    markdown = re.sub(r"^(```+|~~~+).*?^\1`*[ ]*$", blank, markdown, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", blank, markdown, flags=re.DOTALL)


def is_wide_markdown(line):
    """Whether a line of Markdown may be wide: a row of a table, a picture, or nothing but links."""
    rest = LINK.sub("", re.sub(r"^\s*[-*]\s+", "", line))
    return line.lstrip().startswith(("|", "<picture>")) or not rest.strip(" ,.;|")


def wide_lines(name):
    """(line number, columns) of every line that is too wide."""
    content = text(name)
    if name.endswith(".rs") and "/tests/" in name:
        content = RAW_STRING.sub(blank, content)
    for number, line in enumerate(content.split("\n"), 1):
        if len(line) > WIDTH and not (name.endswith(".md") and is_wide_markdown(line)):
            yield number, len(line)


@cache
def anchors(path):
    """The anchors of a page's headings, as GitHub makes them."""
    found = set()
    page = re.sub(r"^(```+|~~~+).*?^\1`*[ ]*$", blank, path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", page, flags=re.MULTILINE):
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number, name = 0, slug
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found


def broken_links(name):
    """Relative links of a page that lead nowhere."""
    for link in LINK.finditer(without_code(text(name))):
        target = link.group(1) or link.group(2)
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        path = (PROJECT / name).parent / path if path else PROJECT / name
        if not path.exists():
            yield f"{target}: not found"
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            yield f"{target}: no such heading"


@unittest.skipUnless(tracked(), "not a git checkout")
class Style(unittest.TestCase):
    def test_no_line_is_wider_than_120_columns(self):
        checked = [n for n in tracked() if Path(n).suffix in SUFFIXES or Path(n).name in NAMES]
        wide = [f"{n}:{i}: {w} columns" for n in checked if n not in GENERATED for i, w in wide_lines(n)]
        self.assertFalse(wide, "\n" + "\n".join(wide))

    def test_every_relative_link_of_a_page_resolves(self):
        # Parts of pages have their links from where the pages are.
        parts = ("docs/templates/", "crates/heterodyne/src/")
        pages = [n for n in tracked() if n.endswith(".md") and not n.startswith(parts)]
        broken = [f"{n}: {problem}" for n in pages for problem in broken_links(n)]
        self.assertFalse(broken, "\n" + "\n".join(broken))

    def test_the_readme_has_at_most_80_lines(self):
        self.assertLessEqual(len(text("README.md").splitlines()), README_LINES)


class Helpers(unittest.TestCase):
    def test_links_in_code_are_not_links(self):
        page = "```\n[a](b)\n```\n[`x`](#y) and `[c](d)`\n"
        self.assertEqual([m.group(1) for m in LINK.finditer(without_code(page))], ["#y"])

    def test_only_tables_and_links_may_be_wide(self):
        self.assertTrue(is_wide_markdown("| a | b |"))
        self.assertTrue(is_wide_markdown("- [a](b), [c](d)."))
        self.assertFalse(is_wide_markdown("See [a](b)."))

    def test_raw_strings_over_several_lines_are_blanked(self):
        source = 'let a = r#"x\n"y" z\n"#;\nlet b = r"one";\n'
        self.assertEqual(RAW_STRING.sub(blank, source), 'let a = \n\n;\nlet b = r"one";\n')


if __name__ == "__main__":
    unittest.main()

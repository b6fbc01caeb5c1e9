"""Makes docs/results.md, docs/ablations.md and the pictures in docs/img from results/ and the texts in docs/templates.

    python3 tools/pages.py                 # after a measurement or a change of a template
    python3 tools/pages.py --check         # exits with 1 and names what is stale

A template holds placeholders. {{table NAME}}, {{table NAME GROUP}}, {{source NAME}} and {{fact NAME KEY}} show the
results files called NAME, the newest of each machine. {{runs NAME}} is the table of results/NAME.toml. {{machines}},
{{methods}}, {{speed METHOD}} and {{picture NAME ALT}} choose their files themselves. A results file that is on no page
must be deleted or listed in results/kept.txt.
"""

import argparse
import json
import re
import statistics
import sys
import textwrap
from pathlib import Path

import pictures

try:
    import results
except SystemExit:
    sys.exit("tools/pages.py needs Python 3.11 or newer")

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["results.md", "ablations.md"]
PLACEHOLDER = re.compile(r"\{\{(\w+)((?: [^\s{}]+)*)\}\}")
NOTICE = "<!-- Made by tools/pages.py from results/ and docs/templates/{}. Do not edit. -->\n"
WIDTH = 120
# Kinds of which a page shows one machine, the one measured last.
SINGLE = {"demo", "costs", "growth", "parts"}
# Columns of the tables of speed, as in bench/pairs.py.
PAIRS = [
    "swin_tiny → resnet18",
    "vit_small → mobilenetv2",
    "convnext_tiny → deit_tiny",
    "mixer_b16 → resnet18",
    "vit_tiny → resnet18, 32 px",
]


class PageError(Exception):
    """A template or a results file that does not fit."""


class Files:
    """The results files, and which of them have been used."""

    def __init__(self, root):
        self.root, self.used = root, set()
        self.machines = json.loads((root / "results/machines.json").read_text())
        paths = sorted(root.glob("results/*/*.json"))
        # The runs of a table are in the folder of its name.
        self.records = [(p, self.read(p)) for p in paths if not p.parent.with_suffix(".toml").exists()]

    def read(self, path):
        try:
            record = json.loads(path.read_text())
            for key in ("what", "command", "commit", "date", "machine", "versions", "values"):
                record[key]
        except (ValueError, KeyError, TypeError) as error:
            raise PageError(f"{path.relative_to(self.root)} is not a results file: {error!r}") from None
        if record["machine"] not in self.machines:
            raise PageError(f"{path.relative_to(self.root)}: results/machines.json has no {record['machine']}")
        return record

    def letter(self, record):
        """A, B, .. in the order of machines.json."""
        return chr(ord("A") + list(self.machines).index(record["machine"]))

    def named(self, name):
        """The newest record of each machine, in the machines' order."""
        newest = {}
        for path, record in self.records:
            old = newest.get(record["machine"])
            if path.stem == name and (old is None or old[1]["date"] <= record["date"]):
                newest[record["machine"]] = (path, record)
        if not newest:
            raise PageError(f"no folder of results/ has {name}.json")
        if any(record["what"] in SINGLE for _, record in newest.values()):
            path, record = max(newest.values(), key=lambda found: found[1]["date"])
            newest = {record["machine"]: (path, record)}
        self.used |= {path for path, _ in newest.values()}
        return [newest[machine][1] for machine in self.machines if machine in newest]

    def speed(self):
        """[(record, row)] of all comparisons with PyTorch: of equal settings on one machine the newest."""
        newest = {}
        for path, record in sorted(self.records, key=lambda found: found[1]["date"]):
            for row in record["values"] if record["what"] == "speed" else []:
                key = (
                    record["machine"],
                    *(row[name] for name in ("device", "precision", "cpu_level", "pair", "method")),
                )
                newest[key] = (path, record, row)
        self.used |= {path for path, _, _ in newest.values()}
        order = list(self.machines)
        found = sorted(newest.values(), key=lambda entry: order.index(entry[1]["machine"]))
        return [(record, row) for _, record, row in found]

    def unused(self):
        kept = self.root / "results/kept.txt"
        known = set(kept.read_text().split()) if kept.exists() else set()
        paths = [path for path, _ in self.records if path not in self.used]
        return [str(path.relative_to(self.root)) for path in paths if str(path.relative_to(self.root)) not in known]


# --- cells


def markdown(head, rows):
    """A table, without the columns that are empty in every row."""
    if not rows:
        raise PageError("the table has no rows")
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    line = lambda cells: "| " + " | ".join(cells[i] for i in kept) + " |"
    return "\n".join([line(head), "|" + "---|" * len(kept), *map(line, rows)])


def number(value, digits=0, sign=""):
    return "" if value is None else f"{value:{sign}.{digits}f}"


def mean(found, digits=2):
    """Mean and sample standard deviation."""
    if not found:
        return ""
    return number(found["mean"], digits) + (f" ± {found['std']:.{digits}f}" if found.get("std") is not None else "")


def difference(found):
    """A mean difference with its standard error, or with the differences themselves if there are few."""
    if not found:
        return ""
    error = found.get("standard_error")
    if error is None and len(found["each"]) > 3:
        error = found["std"] / len(found["each"]) ** 0.5
    if error is not None:
        return f"{found['mean']:+.2f} ± {error:.2f}"
    return f"{found['mean']:+.2f} ({', '.join(f'{value:+.2f}' for value in found['each'].values())})"


def span(low, high, digits=2):
    return f"{low:.{digits}f} to {high:.{digits}f}"


def median(found, digits=0, sign="+"):
    """A median, with its range if there were several rounds."""
    text = number(found["median"], digits, sign)
    low, high = found.get("min"), found.get("max")
    return text if low is None or low == high else f"{text} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def pair(name):
    """A short form of `teacher->student@pixels`."""
    names, _, pixels = name.partition("@")
    parts = [re.sub(r"(_patch\d+)?(_window\d+)?(_224|_100)?$", "", network) for network in names.split("->")]
    return " → ".join(parts) + (f", {pixels} px" if pixels else "")


def precision(row):
    """float format, device if it is a GPU, level of instructions if held to one"""
    device = "" if row.get("device", "cpu") == "cpu" else f", {row['device']}"
    level = row.get("cpu_level", "native")
    return row["precision"] + device + ("" if level == "native" else f", {level}")


def setting(row):
    return f"`{row['variant']}`" if row["variant"] else "recipe"


# --- a table for each kind of results file; `found` is [(letter, record)]


def rows_of(found):
    """(letter, row) of all values; the letter is empty if all are from one machine."""
    several = len(found) > 1
    return [(letter if several else "", row) for letter, record in found for row in record["values"]]


def demo(found):
    [(_, record)] = found
    base = record["values"][0]["test"]["each"]
    rows = []
    for i, row in enumerate(record["values"]):
        each = row["test"]["each"]
        over = sum(value - base[seed] for seed, value in each.items()) / len(each)
        seeds = ", ".join(number(value, 2) for value in each.values())
        rows.append([row["method"], mean(row["test"]), seeds, f"{over:+.2f}" if i else ""])
    return markdown(["method", "test top-1, %", "each seed", "over scratch"], rows)


def evaluation(found):
    head = ["machine", "precision", "top-1, %", "top-5, %", "loss"]
    cells = lambda row: [row["precision"], number(row["top1"], 2), number(row["top5"], 2), number(row["loss"], 4)]
    return markdown(head, [[letter, *cells(row)] for letter, row in rows_of(found)])


def pytorch_precision(found):
    rows = [[row["work"], number(row["fp32_ms"]), number(row["bf16_ms"])] for _, row in rows_of(found)]
    return markdown(["work of PyTorch", "fp32, ms", "bf16, ms"], rows)


def stored_teacher(found):
    """Step times with a stored teacher, and the ratios to a step without a teacher."""
    groups = {}
    for letter, record in found:
        for row in record["values"]:
            key = (letter, row["precision"], record["facts"]["statistic"])
            groups.setdefault(key, {})[row["method"]] = row["rounds_ms"]
    methods = list(next(iter(groups.values())))
    rows = []
    for (letter, kind, statistic), times in groups.items():
        rounds = list(zip(*(times[m] for m in methods), strict=True))
        # Medians belong to their round; of the fastest steps the better round counts.
        bases = rounds if statistic == "median" else [[min(times[m]) for m in methods]]
        cells = []
        for i, method in enumerate(methods):
            ratios = ", ".join(f"{base[i] / base[0]:.2f}" for base in bases)
            cells.append(", ".join(map(number, times[method])) + (f" ({ratios})" if i else ""))
        rows.append([letter, kind, statistic, *cells])
    return markdown(["machine", "precision", "ms", *methods], rows)


def parts(found):
    [(_, record)] = found
    facts, rows = record["facts"], []
    for method in dict.fromkeys(row["method"] for row in record["values"]):
        pieces = [f"{row['part']} {row['ms']:g}" for row in record["values"] if row["method"] == method]
        rows.append([method, f"{facts[method + '_over_ms']}", ", ".join(pieces)])
    return markdown(["method", "over no teacher, ms", "largest parts, ms"], rows)


def fam_grid(found):
    rows = [[row["precision"], number(row["band_ms"]), number(row["full_ms"])] for _, row in rows_of(found)]
    return markdown(["precision", '`"band"`, ms', '`"full"`, ms'], rows)


def stored_against_pytorch(found):
    rows = []
    for _, row in rows_of(found):
        ours = f"{row['ours_ms']:.0f} ({span(row['ours_min'], row['ours_max'], 0)})"
        peer = f"{row['peer_ms']:.0f} ({row['peer_mode']})"
        rows.append([pair(row["pair"]), row["precision"], ours, peer, f"{row['peer_ms'] / row['ours_ms']:.1f}"])
    return markdown(["pair", "precision", "ours, stored teacher, ms", "PyTorch, teacher run, ms", "ratio"], rows)


def costs(found):
    """What each method adds to a step of kd, three methods per line."""
    [(_, record)] = found
    cells = []
    for row in record["values"]:
        if row["method"] == "kd":
            times = row["step_ms"]
            step = f"step {times['median']:.0f} ({span(times['min'], times['max'], 0)})"
            cells.append(["`kd`", step, "", f"peak {row['peak_mb']:.0f}"])
        else:
            over = [median(row["over_kd_ms"]), f"{row['over_kd_percent']:+.0f} %", median(row["over_kd_mb"])]
            cells.append([f"`{row['method']}`", *over])
    height = -(-len(cells) // 3)
    cells += [[""] * 4] * (3 * height - len(cells))
    columns = [cells[i : i + height] for i in (0, height, 2 * height)]
    rows = [left + middle + right for left, middle, right in zip(*columns, strict=True)]
    return markdown(["method", "ms", "of a step", "MB"] * 3, rows)


def growth(found):
    [(_, record)] = found
    rows = {}
    for row in record["values"]:
        rows.setdefault(f"{row['axis']}, {row['unit']}", []).append(row)
    line = lambda group: "; ".join(f"{row['x']}: {row['step_ms']:.1f} ms, {row['peak_mb']:.0f} MB" for row in group)
    return markdown(["against", "step and peak memory"], [[axis, line(group)] for axis, group in rows.items()])


def data(found):
    rows = []
    for _, row in rows_of(found):
        result = f"{row['seconds']} s" if "seconds" in row else f"{row['images_per_second']:,} images/s"
        rows.append([row["work"], str(row["workers"] or ""), result])
    return markdown(["work", "workers", "result"], rows)


def views(found):
    head = ["views", "top-1, %", "top-5, %"]
    return markdown(head, [[str(r["views"]), number(r["top1"], 2), number(r["top5"], 2)] for _, r in rows_of(found)])


def transform(found):
    ratio = lambda r: f"{r['median']:.2f} ({span(r['p10'], r['p90'])})"
    rows = []
    for _, row in rows_of(found):
        plain = [number(row["ours_ms"], 2), number(row["fft_ms"], 2), ratio(row["ratio"])]
        grad = [number(row["grad_ours_ms"], 2), number(row["grad_fft_ms"], 2), ratio(row["grad_ratio"])]
        rows.append([str(row["map"]), row["layout"], *plain, *grad])
    both = ["ours, ms", "FFT, ms", "ratio"]
    return markdown(["map", "layout", *both, *(f"with gradient: {name}" for name in both)], rows)


def study(found, group=None):
    chosen = [row for _, row in rows_of(found) if group is None or row["group"] == int(group)]
    methods = {row["method"] for row in chosen}
    rows = []
    for row in chosen:
        name = [row["method"] if len(methods) > 1 else "", setting(row)]
        differences = [difference(row.get(f"{split}_difference")) for split in ("held_out", "test")]
        rows.append([*name, mean(row.get("held_out")), mean(row["test"]), *differences])
    over = ["over the first, held-out", "over the first, test"]
    return markdown(["method", "setting", "held-out, %", "test, %", *over], rows)


def single(found):
    rows = [[row["method"], setting(row), number(row["test"], 2)] for _, row in rows_of(found)]
    return markdown(["method", "setting", "test, %"], rows)


TABLES = {
    "demo": demo,
    "eval": evaluation,
    "pytorch-precision": pytorch_precision,
    "stored-teacher": stored_teacher,
    "parts": parts,
    "fam-grid": fam_grid,
    "stored-against-pytorch": stored_against_pytorch,
    "costs": costs,
    "growth": growth,
    "data": data,
    "views": views,
    "transform": transform,
    "study": study,
    "single": single,
}


# --- placeholders


def show_table(files, name, *group):
    found = [(files.letter(record), record) for record in files.named(name)]
    return TABLES[found[0][1]["what"]](found, *group)


def show_source(files, name):
    """Command, machines and dates of a results file."""
    found = files.named(name)
    command = found[-1]["command"]
    if command is None:
        raise PageError(f"{name} has no command; write the template without its source")
    place = ", ".join(f"{files.letter(record)} {record['date']}" for record in found)
    if len(command) + len(place) + 5 <= WIDTH:
        return f"`{command}` ({place})"
    if len(command) + 2 <= WIDTH:
        return f"`{command}`\n({place})"
    lines = [""]
    for word in re.split(r" (?=--)", command):
        if len(lines[-1]) + len(word) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append("   ")
        lines[-1] += (" " if lines[-1] else "") + word
    return "\n".join([f"```sh\n# {place}", *lines, "```"])


def show_fact(files, name, key):
    value = files.named(name)[-1]["facts"][key]
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def show_machines(files):
    """What each machine is."""
    rows = [[files.letter({"machine": name}), f"`{name}`", about["what"]] for name, about in files.machines.items()]
    return markdown(["", "id", "what it is"], rows)


def matrix(cells, ratios=None):
    """{(machine, precision, pair): text} as a table with a column for each pair, and one for the mean of all pairs."""
    names = dict.fromkeys(name for _, _, name in cells)
    columns = [name for name in PAIRS if name in names] + [name for name in names if name not in PAIRS]
    groups = dict.fromkeys((letter, kind) for letter, kind, _ in cells)
    rows = []
    for group in groups:
        keys = [(*group, name) for name in columns]
        complete = ratios and all(key in ratios for key in keys)
        overall = f"{statistics.geometric_mean(ratios[key] for key in keys):.2f}" if complete else ""
        rows.append([*group, *(cells.get(key, "") for key in keys), overall])
    return markdown(["machine", "precision", *columns, "geometric mean"], rows)


def where(files, record, row):
    return files.letter(record), precision(row), pair(row["pair"])


def ratio(row):
    return f"{row['ratio_median']:.2f} ({span(row['ratio_min'], row['ratio_max'])})"


def show_speed(files, method):
    """Ratio to PyTorch, both times and PyTorch's mode, memory and start-up, ratio to PyTorch as shipped."""
    as_shipped = {}
    for path, record in files.records:
        for row in record["values"] if record["what"] == "shipped" else []:
            as_shipped[where(files, record, row)] = row["shipped_ratio"]
            files.used.add(path)
    cells, ratios = {}, {}
    for record, row in files.speed():
        if row["method"] != method:
            continue
        key = where(files, record, row)
        times = f"{row['ours_ms']:.0f}, {row['peer_ms']:.0f} ms, " if "ours_ms" in row else ""
        lines = [f"**{ratio(row)}**", times + row["peer_mode"] + (" (eager)" if row.get("eager") else "")]
        if "rss_ratio" in row:
            shipped = row.get("shipped_ratio", as_shipped.get(key))
            lines.append(
                f"{row['rss_ratio']:.2f}, {row['startup_ratio']:.2f}" + (f"; {shipped:.2f}" if shipped else "")
            )
        cells[key], ratios[key] = "<br>".join(lines), row["ratio_median"]
    return matrix(cells, ratios)


def show_methods(files):
    """Ratios of all methods but kd."""
    cells = {}
    for record, row in files.speed():
        if row["method"] != "kd":
            cells.setdefault(where(files, record, row), []).append(f"{row['method']} {ratio(row)}")
    return matrix({key: "<br>".join(lines) for key, lines in cells.items()})


def show_picture(files, name, *alt):
    """The light and the dark variant of a picture."""
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="img/{name}-dark.svg">'
    light = f'<img src="img/{name}-light.svg" width="720" alt="{" ".join(alt)}">'
    return f"<picture>{dark}{light}</picture>"


def show_runs(files, name):
    """A table of results, whose runs are linked."""
    path = files.root / "results" / f"{name}.toml"
    runs = results.Runs(path, results.load(path), path.parent, None)
    return results.table(runs, f"[command](../results/{name}/{{}}.json)")


SHOW = {
    "table": show_table,
    "source": show_source,
    "fact": show_fact,
    "machines": show_machines,
    "speed": show_speed,
    "methods": show_methods,
    "picture": show_picture,
    "runs": show_runs,
}


def fill(files, page):
    """A page: its template with every placeholder resolved."""

    def resolve(match):
        try:
            return SHOW[match[1]](files, *match[2].split())
        except (KeyError, TypeError, IndexError) as error:
            raise PageError(f"docs/templates/{page}: {match[0]} cannot be resolved: {error!r}") from None
        except PageError as error:
            raise PageError(f"docs/templates/{page}: {match[0]}: {error}") from None

    blocks = []
    for block in (files.root / "docs/templates" / page).read_text().split("\n\n"):
        prose, *rest = re.split(r"(?=\n\{\{source|\n`)", block) if "{{fact" in block else [block]
        prose = PLACEHOLDER.sub(resolve, prose)
        if "{{fact" in block:
            # Wrapped again, because a number is shorter than its placeholder.
            prose = textwrap.fill(prose, WIDTH, break_long_words=False, break_on_hyphens=False)
        blocks.append(prose + PLACEHOLDER.sub(resolve, "".join(rest)))
    text = "\n\n".join(blocks).rstrip("\n") + "\n"
    if "{{" in text:
        raise PageError(f"docs/templates/{page}: a placeholder is not of the form {{{{NAME WORD ..}}}}")
    return NOTICE.format(page) + text


def drawings(files):
    """{file name: SVG text} of all pictures in both variants."""
    speed = [
        (pair(row["pair"]), row["ours_ms"], row["peer_ms"], row["ratio_median"])
        for record, row in files.speed()
        if (record["machine"], row["method"], precision(row)) == ("zen4", "kd", "bf16")
    ]
    [shown] = files.named("demo")
    accuracy = [(row["method"], list(row["test"]["each"].values())) for row in shown["values"]]
    series = {}
    for row in files.named("growth")[0]["values"]:
        series.setdefault((row["axis"], row["unit"]), []).append((row["x"], row["step_ms"], row["peak_mb"]))
    series = [(*key, points) for key, points in series.items()]
    found = {}
    for theme in pictures.THEMES:
        found[f"speed-{theme}.svg"] = pictures.speed(theme, speed, "plain KD, bfloat16, 2 cores of an AMD EPYC (Zen 4)")
        caption = f"{shown['facts']['test_images']} test digits; a dot per seed, a bar at the mean"
        found[f"accuracy-{theme}.svg"] = pictures.accuracy(theme, accuracy, caption)
        found[f"growth-{theme}.svg"] = pictures.growth(theme, series, "dashed: a straight line through both ends")
    return found


def outputs(root):
    """({path: text} of everything that is made, [results file that is on no page])."""
    files = Files(root)
    made = {root / "docs" / page: fill(files, page) for page in PAGES}
    made |= {root / "docs/img" / name: text for name, text in drawings(files).items()}
    return made, files.unused()


def main(argv=None, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a page or picture is stale")
    args = parser.parse_args(argv)
    try:
        made, unused = outputs(root)
    except PageError as error:
        sys.exit(f"pages: {error}")
    if unused:
        sys.exit(f"pages: on no page: {', '.join(unused)}\nhint: use, delete or list them in results/kept.txt")
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if args.check and stale:
        names = ", ".join(str(path.relative_to(root)) for path in stale)
        sys.exit(f"pages: stale: {names}\nhint: python3 tools/pages.py")
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[path])
        print(f"written: {path.relative_to(root)}")


if __name__ == "__main__":
    main()

"""The pages and pictures follow the results files, on copies of the real ones."""

import json
import shutil
import sys
import tempfile
import unittest
from pathlib import Path

import record

if sys.version_info >= (3, 11):
    import pages

ROOT = Path(__file__).resolve().parent.parent


@unittest.skipIf(sys.version_info < (3, 11), "needs Python 3.11")
class Pages(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        for part in ("results", "docs/templates"):
            shutil.copytree(ROOT / part, self.root / part)
        pages.main([], self.root)

    def refused(self, *parts):
        with self.assertRaises(SystemExit) as raised:
            pages.main(["--check"], self.root)
        for part in parts:
            self.assertIn(part, str(raised.exception))

    def change(self, name, old, new):
        path = self.root / name
        text = path.read_text()
        self.assertIn(old, text)
        path.write_text(text.replace(old, new, 1))

    def test_the_pages_of_the_repository_are_fresh_and_use_every_file(self):
        made, unused = pages.outputs(ROOT)
        self.assertEqual(unused, [])
        self.assertEqual([str(path) for path, text in made.items() if path.read_text() != text], [])

    def test_what_was_just_made_passes(self):
        pages.main(["--check"], self.root)

    def test_a_changed_number_is_noticed(self):
        self.change("results/2026-11-25-zen4/demo.json", "94.07", "94.17")
        self.refused("docs/results.md")
        self.change("results/2026-11-25-zen4/switches.json", "19.43", "29.43")
        self.refused("docs/results.md", "docs/ablations.md")

    def test_a_stale_picture_is_noticed(self):
        self.change("docs/img/speed-dark.svg", "889 ms", "888 ms")
        self.refused("docs/img/speed-dark.svg")

    def test_every_placeholder_must_resolve(self):
        for text in (
            "{{table nothing}}",
            "{{nothing}}",
            "{{fact demo nothing}}",
            "{{ machines }}",
            "{{table switches 9}}",
        ):
            with self.subTest(text):
                self.change("docs/templates/results.md", "# Results", f"# Results\n\n{text}")
                self.refused("docs/templates/results.md")
                self.change("docs/templates/results.md", f"\n\n{text}", "")

    def test_a_file_on_no_page_is_named_unless_it_is_kept(self):
        old, name = self.root / "results/2026-11-25-zen4/demo.json", "results/2026-11-01-zen4/demo.json"
        (self.root / name).parent.mkdir()
        (self.root / name).write_text(old.read_text().replace("2026-11-25", "2026-11-01"))
        self.refused(name)
        (self.root / "results/kept.txt").write_text(f"{name}\n")
        pages.main(["--check"], self.root)

    def test_a_newer_measurement_replaces_an_older_one(self):
        old = self.root / "results/2026-11-21-zen4/speed-kd-bf16.json"
        found = json.loads(old.read_text())
        found["values"] = [row | {"ratio_median": 9.99} for row in found["values"][:1]]
        new = self.root / "results/2099-01-01-zen4/speed.json"
        new.parent.mkdir()
        new.write_text(record.dump(found | {"date": "2099-01-01"}))
        made, unused = pages.outputs(self.root)
        self.assertEqual(unused, [])
        text = made[self.root / "docs/results.md"]
        self.assertIn("**9.99 (", text)
        self.assertNotIn("**1.16 (1.11 to 1.23)**", text)

    def test_a_file_of_an_unknown_machine_or_without_a_key_is_named(self):
        self.change("results/2026-11-25-zen4/demo.json", '"machine": "zen4"', '"machine": "zen9"')
        self.refused("demo.json", "zen9")
        self.change("results/2026-11-25-zen4/demo.json", '"command"', '"order"')
        self.refused("demo.json", "command")

    def test_means_and_differences_agree_with_the_seeds(self):
        for path in (ROOT / "results").glob("*-*/*.json"):
            for row in json.loads(path.read_text())["values"]:
                for value in row.values():
                    if isinstance(value, dict) and "each" in value:
                        mean = sum(value["each"].values()) / len(value["each"])
                        self.assertAlmostEqual(value["mean"], mean, delta=0.0101, msg=f"{path}: {row}")


class Record(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def test_a_file_says_how_when_and_on_what_it_was_measured(self):
        (self.root / "machines.json").write_text("{}")
        path = record.save("x", "data", [{"a": 1}, {"a": 2}], "make x", root=self.root)
        found = json.loads(path.read_text())
        self.assertEqual((found["what"], found["command"], found["values"]), ("data", "make x", [{"a": 1}, {"a": 2}]))
        self.assertEqual(path.parent.name, f"{found['date']}-{found['machine']}")
        self.assertEqual(set(found["versions"]), {"heterodyne", "libtorch"})
        machines = json.loads((self.root / "machines.json").read_text())
        self.assertEqual(list(machines), [found["machine"]])
        self.assertIn("cores of", machines[found["machine"]]["what"])

    def test_machines_are_named_by_their_processor(self):
        amd = {"vendor_id": "AuthenticAMD", "cpu family": "25", "model": "17", "flags": "avx2 avx512f"}
        self.assertEqual(record.generation(amd), "zen4")
        self.assertEqual(record.generation(amd | {"cpu family": "23", "model": "1"}), "zen1")
        self.assertEqual(record.generation(amd | {"cpu family": "99"}), "amd")
        xeon = {"vendor_id": "GenuineIntel", "model name": "Intel(R) Xeon(R)", "flags": "avx2 avx512f amx_tile"}
        self.assertEqual(record.generation(xeon), "xeon-amx")
        self.assertEqual(record.generation(xeon | {"flags": "avx2 avx512f"}), "xeon-avx512")

    def test_a_command_has_no_absolute_paths(self):
        command = record.portable(["python3", str(ROOT / "tools/results.py"), "--work", "/somewhere/else/runs"])
        self.assertEqual(command, "python3 tools/results.py --work runs")

    def test_a_demo_becomes_a_row_for_each_method(self):
        kd = {"accuracies": {"0": 90.0, "1": 92.0}, "seconds_by_seed": {"0": 1.0, "1": 2.0}}
        summary = {"methods": {"kd": kd}, "seconds": 9.0, "teacher": {"accuracy": 95.8}}
        values, facts = record.demo(summary)
        self.assertEqual((values[0]["method"], values[0]["seconds"]), ("kd", 1.5))
        self.assertEqual((values[0]["test"]["mean"], round(values[0]["test"]["std"], 3)), (91.0, 1.414))
        self.assertEqual((facts["seconds"], facts["teacher"]), (9.0, 95.8))

    def test_a_comparison_becomes_a_study_in_the_order_of_its_file(self):
        def row(position, variant, top1, first):
            each = {"1": top1, "2": top1 + 1} if top1 else {}
            differences = {"test": {"first": {"each": first}} if first else {}, "held_out": {}}
            about = {"position": position, "group": 0, "method": "one", "variant": variant, "differences": differences}
            return about | {"test": {"each": each} if each else None, "held_out": None}

        rows = [row(1, "k=3", 52, {"1": 1.0, "2": 1.5}), row(0, "", 51, None), row(2, "k=9", None, None)]
        (first, second), facts = record.compare({"seeds": [1, 2], "rows": rows})
        self.assertEqual(facts, {"seeds": 2})
        self.assertEqual((first["method"], first["variant"], second["variant"]), ("one", "", "k=3"))
        self.assertEqual(first["test"]["each"], {"1": 51, "2": 52})
        self.assertEqual(first["test"]["mean"], 51.5)
        self.assertNotIn("test_difference", first)
        self.assertEqual(second["test_difference"]["each"], {"1": 1.0, "2": 1.5})
        self.assertNotIn("held_out", second)
        # The pages make a table of it.
        found = [("A", {"values": [first, second]})]
        self.assertIn("k=3", pages.study(found))


if __name__ == "__main__":
    unittest.main()

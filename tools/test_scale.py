"""The model of tools/scale.py against formulas by hand: limits, single collectives, timelines, the normal maximum."""

import contextlib
import csv
import io
import itertools
import json
import math
import shutil
import tempfile
import unittest
from pathlib import Path

import scale

MIB = 2**20
NEEDS_TOML = unittest.skipIf(scale.tomllib is None, "the example is TOML, which needs Python 3.11")


def work(seconds=1.0, backward_share=0.5, **tables):
    """Eight GPUs per node, and gradients in a single bucket unless a table says otherwise."""
    step = {"batch": 100, "seconds": seconds, "backward_share": backward_share, "optimizer_share": 0.1}
    one = {"bytes": 8e9, "first_bucket_bytes": math.inf, "bucket_bytes": math.inf}
    network = {"gpus_per_node": 8, "intra_bandwidth": 100e9, "inter_bandwidth": 10e9}
    given = {"step": step, "gradient": one, "network": network}
    for name, keys in tables.items():
        given[name] = given.get(name, {}) | keys
    return scale.build(given)


def seconds(given, n):
    return scale.model(given, n).seconds


class Collectives(unittest.TestCase):
    def network(self, **keys):
        return work(network=keys).network

    def test_a_ring_in_a_node_sends_twice_n_minus_1_parts(self):
        network = self.network(intra_latency=1e-3)
        for n in (2, 3, 8):
            expected = 2 * (n - 1) / n * 8e9 / 100e9 + 2 * (n - 1) * 1e-3
            self.assertAlmostEqual(network.all_reduce(8e9, n), expected)
            self.assertAlmostEqual(network.all_gather(8e9, n), (n - 1) * (8e9 / 100e9 + 1e-3))

    def test_a_ring_over_nodes_uses_all_adapters_of_a_node(self):
        # Large and without latency, so the ring is the fastest: the eight adapters are slower than a GPU's links.
        self.assertAlmostEqual(self.network().all_reduce(8e9, 32), 2 * 31 / 32 * 8e9 / 80e9)
        faster = self.network(inter_bandwidth=20e9)
        self.assertAlmostEqual(faster.all_reduce(8e9, 32), 2 * 31 / 32 * 8e9 / 100e9)

    def test_two_levels_are_taken_if_hops_within_a_node_are_slow(self):
        # 2 nodes of 8: the ring has 2 * 14 hops within nodes, two levels and the tree have 2 * 7.
        network = self.network(intra_latency=1.0, inter_bandwidth=100e9)
        within, between = 2 * 7 / 8 * 8e9 / 100e9, 2 * 1 / 2 * 1e9 / 100e9
        self.assertAlmostEqual(network.all_reduce(8e9, 16), within + 14 + between)

    def test_the_tree_is_taken_for_small_messages_on_many_nodes(self):
        # 64 nodes: 2 * 6 hops instead of 2 * 63.
        network = self.network(inter_latency=1.0, base_latency=0.5)
        self.assertAlmostEqual(network.all_reduce(8, 512), 0.5 + 12, places=6)

    def test_an_all_gather_takes_the_better_of_ring_and_two_levels(self):
        network = self.network(intra_latency=1.0, inter_latency=2.0)
        # Ring: 14 hops within nodes and 1 between; two levels: 7 and 1.
        self.assertAlmostEqual(network.all_gather(8, 16), 7 + 2, places=6)
        self.assertAlmostEqual(self.network().all_gather(1e9, 16), min(15e9 / 80e9, 1e9 / 10e9 + 7 * 2e9 / 100e9))

    def test_one_gpu_or_no_bytes_take_no_time(self):
        network = self.network(base_latency=1.0)
        self.assertEqual([network.all_reduce(1e9, 1), network.all_reduce(0, 8)], [0, 0])
        self.assertEqual([network.all_gather(1e9, 1), network.all_gather(0, 8)], [0, 0])

    def test_times_rise_with_bytes(self):
        network = self.network(intra_latency=1e-6, inter_latency=1e-5, base_latency=1e-5)
        for n, collective in itertools.product((2, 8, 16, 512), (network.all_reduce, network.all_gather)):
            times = [collective(2**k, n) for k in range(34)]
            self.assertEqual(times, sorted(times))


class NormalMaximum(unittest.TestCase):
    def test_of_few_values_it_has_a_closed_form(self):
        root = math.sqrt(math.pi)
        self.assertEqual(scale.normal_maximum(1), 0)
        self.assertAlmostEqual(scale.normal_maximum(2), 1 / root, places=9)
        self.assertAlmostEqual(scale.normal_maximum(3), 1.5 / root, places=9)
        self.assertAlmostEqual(scale.normal_maximum(4), 6 / root / math.pi * math.atan(math.sqrt(2)), places=9)

    def test_it_rises_slower_than_the_known_bound(self):
        found = [scale.normal_maximum(n) for n in scale.GPUS]
        self.assertEqual(found, sorted(found))
        for n, value in zip(scale.GPUS, found):
            self.assertLessEqual(value, math.sqrt(2 * math.log(n)))


class Buckets(unittest.TestCase):
    def sizes(self, total, first=1, rest=25):
        return [size / MIB for size in scale.bucket_sizes(scale.Gradient(total * MIB, first * MIB, rest * MIB))]

    def test_the_first_is_small_and_the_last_has_the_rest(self):
        self.assertEqual(self.sizes(60), [1, 25, 25, 9])
        self.assertEqual(self.sizes(51), [1, 25, 25])
        self.assertEqual(self.sizes(0.5), [0.5])
        self.assertEqual(self.sizes(60, math.inf, math.inf), [60])

    def test_they_hold_every_byte(self):
        self.assertEqual(sum(scale.bucket_sizes(scale.Gradient(102_228_128))), 102_228_128)


class Timeline(unittest.TestCase):
    def test_one_gpu_takes_its_compute_whatever_the_network(self):
        given = work(gather={"count": 2, "bytes": 1e9}, batch_norm={"layers": 5, "bytes": 1e6})
        row = scale.model(given, 1)
        self.assertEqual(row.seconds, 1.0)
        self.assertEqual(row.images_per_second, 100)
        self.assertEqual(row.limit, "compute")

    def test_a_network_without_cost_scales_perfectly(self):
        free = {"intra_bandwidth": math.inf, "inter_bandwidth": math.inf}
        given = work(network=free, gather={"count": 2, "bytes": 1e9}, batch_norm={"layers": 5, "bytes": 1e6})
        for row in scale.table(given, scale.GPUS):
            self.assertAlmostEqual(row.efficiency, 1)
            self.assertAlmostEqual(row.images_per_second, 100 * row.n)

    def test_a_single_bucket_overlaps_with_nothing(self):
        self.assertAlmostEqual(seconds(work(), 8), 1 + 2 * 7 / 8 * 8e9 / 100e9)

    def test_without_backward_all_buckets_are_reduced_after_it(self):
        buckets = {"first_bucket_bytes": 1e9, "bucket_bytes": 2e9}
        given = work(backward_share=0.0, gradient=buckets, network={"intra_latency": 1e-3, "base_latency": 1e-2})
        # Four buckets of 1, 2, 2, 2 and one with the rest, 1 GB.
        self.assertAlmostEqual(seconds(given, 8), 1 + 2 * 7 / 8 * 8e9 / 100e9 + 5 * (14e-3 + 1e-2))

    def test_with_fast_messages_only_the_last_bucket_shows(self):
        # Backward makes 1 GB in 1/16 s; reducing 1 GB takes 7/400 s.
        given = work(gradient={"first_bucket_bytes": 1e9, "bucket_bytes": 1e9})
        self.assertAlmostEqual(seconds(given, 8), 1 + 7 / 400)

    def test_with_slow_messages_only_the_first_bucket_waits_for_backward(self):
        # 2 GPUs: reducing 2 GB takes 0.2 s, backward makes them in 0.125 s. From 0.125 s on, four follow each other.
        given = work(gradient={"first_bucket_bytes": 2e9, "bucket_bytes": 2e9}, network={"intra_bandwidth": 10e9})
        self.assertAlmostEqual(seconds(given, 2), 0.4 + 0.125 + 4 * 0.2 + 0.1)

    def test_more_bytes_never_take_less_time(self):
        for n in (2, 8, 64, 512):
            times = [seconds(work(gradient={"bytes": k * 1e9, "bucket_bytes": 3e8}), n) for k in range(1, 20)]
            self.assertEqual(times, sorted(times))

    def test_gathers_are_added(self):
        plain, gathered = work(), work(gather={"count": 2, "bytes": 1e9})
        self.assertAlmostEqual(seconds(gathered, 8) - seconds(plain, 8), 2 * 7e9 / 100e9)

    def test_batch_norm_waits_for_the_bucket_before_it(self):
        # Bucket of 4 GB at half of backward, 0.25 s, takes 0.4 s. Layers at 1/4 and 3/4: the second is reached at
        # 0.375 s (+ 0.01 s of the first) but waits until 0.66 s.
        given = work(
            gradient={"first_bucket_bytes": 4e9, "bucket_bytes": 4e9},
            batch_norm={"layers": 2, "bytes": 1e8},
            network={"intra_bandwidth": 10e9},
        )
        gather = reduce = 0.01
        first_bucket = 0.25 + reduce + 0.4
        backward = first_bucket + reduce + 0.125
        self.assertAlmostEqual(seconds(given, 2), 0.4 + 2 * gather + backward + 0.4 + 0.1)

    def test_the_slowest_rank_sets_the_pace(self):
        free = {"intra_bandwidth": math.inf, "inter_bandwidth": math.inf}
        given = work(step={"variation": 0.05}, network=free)
        self.assertAlmostEqual(seconds(given, 2), 1 + 0.05 / math.sqrt(math.pi))
        self.assertEqual(scale.model(given, 2).limit, "slowest rank")

    def test_a_slow_loader_limits(self):
        given = work(loader={"images_per_second": 400})
        rows = {row.n: row for row in scale.table(given, [1, 4, 8, 16])}
        self.assertEqual(rows[4].limit, "gradients")
        self.assertEqual((rows[8].limit, rows[16].limit), ("loader", "loader"))
        self.assertAlmostEqual(rows[8].images_per_second, 400)
        self.assertAlmostEqual(rows[16].images_per_second, 800)

    @NEEDS_TOML
    def test_the_parts_add_up(self):
        given = scale.build(scale.read(scale.EXAMPLE, ["compression.kind=fp16", "batch_norm.layers=53"]))
        for row in scale.table(given, scale.GPUS):
            self.assertAlmostEqual(given.step.seconds + sum(row.parts.values()), row.seconds)
            self.assertTrue(all(value >= 0 for value in row.parts.values()))


class Compression(unittest.TestCase):
    def test_fp16_sends_half(self):
        given = work(compression={"kind": "fp16", "seconds": 0.01})
        self.assertAlmostEqual(seconds(given, 8), 1 + 0.01 + 2 * 7 / 8 * 4e9 / 100e9)
        self.assertEqual(seconds(given, 1), 1)

    def test_powersgd_sends_factors_and_vectors_in_two_messages(self):
        keys = {"kind": "powersgd", "rank": 4, "rows_plus_columns": 10_000_000, "vector_bytes": 1e7, "seconds": 0.02}
        given = work(compression=keys, network={"base_latency": 1e-3})
        sent = 4 * 10_000_000 * 4 + 1e7
        self.assertAlmostEqual(seconds(given, 8), 1 + 0.02 + 2 * 7 / 8 * sent / 100e9 + 2 * 1e-3)

    def test_more_rank_takes_more_time(self):
        keys = {"kind": "powersgd", "rows_plus_columns": 10_000_000}
        times = [seconds(work(compression=keys | {"rank": rank}), 16) for rank in (1, 2, 4, 8)]
        self.assertEqual(times, sorted(set(times)))


@NEEDS_TOML
class Input(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def run_tool(self, *words):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            scale.main([str(word) for word in words])
        return output.getvalue()

    def refused(self, part, *words):
        with self.assertRaises(SystemExit) as caught:
            self.run_tool(*words)
        self.assertIn(part, str(caught.exception))

    def test_the_example_gives_a_table_csv_and_json(self):
        table, data = self.folder / "rows.csv", self.folder / "rows.json"
        lines = self.run_tool("--csv", table, "--json", data).splitlines()
        self.assertEqual([line.split("|")[1].strip() for line in lines[2:]], [str(n) for n in scale.GPUS])
        rows = json.loads(data.read_text())["rows"]
        with table.open(newline="") as file:
            read = list(csv.DictReader(file))
        self.assertEqual([float(row["step_ms"]) for row in read], [row["step_ms"] for row in rows])
        efficiencies = [row["efficiency"] for row in rows]
        self.assertEqual(efficiencies, sorted(efficiencies, reverse=True))

    def test_the_input_in_the_json_gives_the_same_rows(self):
        data = self.folder / "rows.json"
        expected = self.run_tool("--set", "compression.kind=powersgd", "--json", data)
        again = self.folder / "again.json"
        again.write_text(json.dumps(json.loads(data.read_text())["input"]))
        self.assertEqual(self.run_tool(again), expected)

    def test_what_does_not_fit_is_refused(self):
        self.refused("`step.bach` is not known", "--set", "step.bach=1")
        self.refused("`steps` is not a known table", "--set", "steps.batch=1")
        self.refused("`step.batch` is 0", "--set", "step.batch=0")
        self.refused("`step.seconds` is 'fast'", "--set", "step.seconds=fast")
        self.refused("must be finite", "--set", "gradient.bytes=Infinity")
        self.refused("one of none, fp16, powersgd", "--set", "compression.kind=int8")
        self.refused("must not exceed 1", "--set", "step.backward_share=0.99")
        self.refused("TABLE.KEY=VALUE", "--set", "batch=1")
        self.refused("does not fill nodes", "--gpus", "12")
        self.refused("must be a whole number", "--gpus", "8,x")
        self.refused("No such file", self.folder / "none.json")

    def test_a_missing_key_or_table_is_named(self):
        path = self.folder / "short.json"
        path.write_text('{"step": {"batch": 1}}')
        self.refused("'seconds' and 'backward_share'", path)
        path.write_text('{"step": {"batch": 1, "seconds": 1, "backward_share": 0.5}}')
        self.refused("'gradient' and 'network'", path)
        path.write_text("[1]")
        self.refused("must hold tables", path)


if __name__ == "__main__":
    unittest.main()

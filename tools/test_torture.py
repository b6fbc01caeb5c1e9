"""The parts of torture.py: damages that damage, and verdicts."""

import random
import unittest

import torture


class Mutations(unittest.TestCase):
    def test_each_changes_what_it_says(self):
        data = bytes(range(200))
        for seed in range(200):
            rng = random.Random(seed)
            flipped = torture.flip(data, rng)
            self.assertEqual(sum(bin(a ^ b).count("1") for a, b in zip(data, flipped)), 1)
            cut = torture.truncate(data, rng)
            self.assertTrue(len(cut) < len(data) and data.startswith(cut))
            swapped = torture.swap(data, rng)
            self.assertEqual(sorted(swapped), sorted(data))
            self.assertNotEqual(swapped, data)
            self.assertEqual(len(torture.swap(b"ab", rng)), 2)


class Verdicts(unittest.TestCase):
    def test_only_a_word_or_the_same_result_is_good(self):
        self.assertEqual(torture.verdict(1, "error: x is damaged", False), "refused")
        self.assertEqual(torture.verdict(0, "", True), "equal")
        for end in [
            (None, "", False),
            (0, "", False),
            (-6, "x", False),
            (134, "x", False),
            (1, "thread panicked", False),
            (1, "", False),
        ]:
            self.assertTrue(torture.verdict(*end).startswith("BAD"), end)


if __name__ == "__main__":
    unittest.main()

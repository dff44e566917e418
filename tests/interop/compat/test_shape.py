"""What `shape` finds."""

import unittest

from shape import differences


class Shape(unittest.TestCase):
    """Answers beside each other."""

    def test_values_may_differ_and_types_not(self):
        self.assertEqual(differences({"a": 1, "b": "x", "c": None}, {"a": 2.5, "b": "", "c": None}), [])
        self.assertEqual(differences({"a": 1}, {"a": "1"}), ["answer.a is text, not number"])
        self.assertEqual(differences({"a": None}, {"a": "1"}), ["answer.a is text, not null"])
        self.assertEqual(differences([True], [1]), ["answer[0] is number, not boolean"])

    def test_every_key_is_there_in_its_place(self):
        self.assertEqual(differences({"a": 1, "b": 2}, {"a": 1}), ["answer has a, not a b"])
        self.assertEqual(differences({"a": 1, "b": 2}, {"b": 1, "a": 2}), ["answer has b a, not a b"])
        self.assertEqual(differences({"a": 1}, {"a": 1, "z": 2}), ["answer has a z, not a"])

    def test_a_key_of_a_later_version_may_be_there(self):
        self.assertEqual(differences([{"URI": "x"}], [{"IDX": 0, "URI": "y"}]), [])
        self.assertEqual(differences([{"IDX": 0}], [{"URI": "y"}]), ["answer[0] has URI, not IDX"])

    def test_lists_are_of_one_length(self):
        self.assertEqual(differences({"a": [1]}, {"a": [1, 2]}), ["answer.a has 2 items, not 1"])


if __name__ == "__main__":
    unittest.main()

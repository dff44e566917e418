"""What `judge` finds."""

import unittest

from judge import causes, differing

LOG = """2026-11-26T13:35:01Z WARN tandem: reload failed: the sets stay as they are cause=no answer within 1s partition="default"
2026-11-26T13:35:01Z WARN tandem: the sets stay as they are by="http" reason="" cause="no answer within 1s"
2026-11-26T13:35:02Z WARN tandem: reload failed: the sets stay as they are cause=no table partition="default"
2026-11-26T13:35:03Z WARN tandem: reload failed: the sets stay as they are cause=no answer within 1s partition="default"
2026-11-26T13:35:04Z WARN tandem: a change of the rows is refused: the sets stay as they are reasons="no row is left"
"""


class Judge(unittest.TestCase):
    def test_each_cause_counts_and_an_operator_s_own_line_does_not(self):
        self.assertEqual(sorted(causes(LOG).values()), [1, 1, 2])
        self.assertEqual(causes("sets reloaded by=x"), {})

    def test_rows_and_sets_differ_by_what_calls_go_by(self):
        sets = {"sets": [{"set": 19, "destinations": [
            {"uri": "sip:a", "weight": 1, "priority": 100, "description": "x"},
            {"uri": "sip:b", "weight": 1, "priority": 100, "description": "x"}]}]}
        rows = [["19", "sip:a", "1", "100", "x"], ["19", "sip:b", "1", "100", "x"]]
        self.assertEqual(differing(rows, sets), ([], []))
        self.assertEqual(differing(rows[:1], sets), ([], [(19, "sip:b", 1, 100, "x")]))
        changed = [rows[0], ["19", "sip:b", "2", "100", "x"]]
        self.assertEqual(differing(changed, sets), ([(19, "sip:b", 2, 100, "x")], [(19, "sip:b", 1, 100, "x")]))


if __name__ == "__main__":
    unittest.main()

"""The verdict, without a proxy: python3 -B -m unittest discover -s benches/side-by-side/lib"""
import unittest

import table


def run(proxy, cpu, rss=20.0, failed=0, disturbed=False, rate=1000):
    return {"record": "run", "proxy": proxy, "rate": rate, "calls": 3000, "failed": failed, "cpu_per_1000": cpu,
            "rss_mib": rss, "pss_mib": rss, "switches_per_call": 3.0, "invite_ms": {"p50": 0.3, "p99": 1.0},
            "retransmissions": {"caller": 0, "servers": 0}, "disturbed": disturbed}


def met(records, warm=False):
    return [holds for _, holds in table.bars(records, warm)]


class Bars(unittest.TestCase):
    def test_all_are_met(self):
        self.assertEqual(met([run("kamailio-fm", 0.2), run("tandem", 0.1)]), [True, True, True])

    def test_a_proxy_that_costs_as_much_as_its_peer_misses(self):
        self.assertEqual(met([run("kamailio-fm", 0.2), run("tandem", 0.2)]), [False, True, True])

    def test_every_rate_counts(self):
        records = [run("kamailio-fm", 0.2, rate=rate) for rate in (1000, 2000)]
        records += [run("tandem", 0.1), run("tandem", 0.3, rate=2000)]
        self.assertEqual(met(records), [True, False, True, True])

    def test_one_fat_run_misses_and_so_does_one_failed_call(self):
        thin, fat = run("tandem", 0.1), run("tandem", 0.1, rss=60.1, failed=1, disturbed=True)
        self.assertEqual(met([run("kamailio-fm", 0.2), thin, fat, thin]), [True, False, False])

    def test_medians_leave_disturbed_runs_out_where_there_are_others(self):
        records = [run("kamailio-fm", 0.2), run("tandem", 0.1, disturbed=True), run("tandem", 0.3)]
        self.assertEqual(met(records)[0], False)
        self.assertEqual(met(records[:2])[0], True)
        # With `warm` all count: the median of 0.1 and 0.3 is no less than 0.2.
        self.assertEqual(met(records, warm=True)[0], False)

    def test_what_was_not_measured_is_not_met(self):
        self.assertEqual(met([run("tandem", 0.1)])[0], None)
        self.assertEqual(met([run("kamailio-fm", 0.1)]), [None])

    def test_ours_that_cannot_be_measured_misses_and_a_peer_is_not_judged(self):
        for proxy, holds in (("tandem", False), ("opensips", None)):
            trouble = {"record": "trouble", "proxy": proxy, "rate": 1000, "trouble": "ended at once"}
            self.assertEqual(met([trouble]), [holds])


class Markdown(unittest.TestCase):
    def test_ratios_are_to_the_same_rate(self):
        records = [run("relay", 0.05), run("relay", 0.04, rate=2000), run("tandem", 0.1), run("tandem", 0.1, rate=2000)]
        rows = [line.split(" | ") for line in table.markdown(records, False).splitlines() if "| tandem |" in line]
        self.assertEqual([(row[0], row[3], row[4]) for row in rows], [("| 1000", "2.00", "-"), ("| 2000", "2.50", "-")])


if __name__ == "__main__":
    unittest.main()

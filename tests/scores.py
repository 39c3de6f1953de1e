"""Rows made by hand, for the tests of averages, files and comparisons."""

import math

from guided_attention.evaluation import CaseScore


def score(case_id, organ, dsc, *, vs=0.5, msd_mm=1.0, status="scored"):
    return CaseScore(case_id, organ, status, dsc, vs, msd_mm, 1.0, 1.0)


def missed(case_id, organ):
    return score(case_id, organ, 0.0, vs=0.0, msd_mm=math.inf, status="missed")


def absent(case_id, organ):
    return score(case_id, organ, math.nan, vs=math.nan, msd_mm=math.nan, status="absent in both")

"""Rows made by hand, for the tests of averages, files and comparisons."""

import math

from guided_attention.evaluation import CaseScore


def score(case_id, organ, dice, *, volume_similarity=0.5, assd_mm=1.0, status="scored"):
    return CaseScore(case_id, organ, status, dice, volume_similarity, assd_mm, 1.0, 1.0)


def missed(case_id, organ):
    return score(case_id, organ, 0.0, volume_similarity=0.0, assd_mm=math.inf, status="missed")


def absent(case_id, organ):
    return score(
        case_id, organ, math.nan, volume_similarity=math.nan, assd_mm=math.nan, status="absent in both"
    )

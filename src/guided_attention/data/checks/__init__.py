"""Checks of a cohort: every suspicion with its case and file, before anything is trained."""

from guided_attention.data.checks.report import CheckReport, Suspicion, check

__all__ = ["CheckReport", "Suspicion", "check"]

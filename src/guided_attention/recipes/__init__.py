"""Recipes: a plan as one frozen record, and the functions that carry it out."""

from guided_attention.recipes._plan_records import (
    AugmentationPlan,
    BudgetPlan,
    DataPlan,
    InferencePlan,
    LossPlan,
    OptimizerPlan,
    SamplingPlan,
    SchedulePlan,
    TrainingPlan,
)
from guided_attention.recipes.information import info
from guided_attention.recipes.plan import Plan
from guided_attention.recipes.planning import plan_for
from guided_attention.recipes.prediction import predict
from guided_attention.recipes.scoring import evaluate
from guided_attention.recipes.training import train
from guided_attention.recipes.values import check_values

__all__ = [
    "AugmentationPlan",
    "BudgetPlan",
    "DataPlan",
    "InferencePlan",
    "LossPlan",
    "OptimizerPlan",
    "Plan",
    "SamplingPlan",
    "SchedulePlan",
    "TrainingPlan",
    "check_values",
    "evaluate",
    "info",
    "plan_for",
    "predict",
    "train",
]

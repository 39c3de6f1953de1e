"""Recipes: a plan as one frozen record, and the functions that carry it out."""

from guided_attention.recipes.information import info
from guided_attention.recipes.plan import (
    BudgetPlan,
    DataPlan,
    InferencePlan,
    LossPlan,
    OptimizerPlan,
    Plan,
    SamplingPlan,
    SchedulePlan,
    TrainingPlan,
)
from guided_attention.recipes.planning import plan_for
from guided_attention.recipes.prediction import predict
from guided_attention.recipes.scoring import evaluate
from guided_attention.recipes.training import train

__all__ = [
    "BudgetPlan",
    "DataPlan",
    "InferencePlan",
    "LossPlan",
    "OptimizerPlan",
    "Plan",
    "SamplingPlan",
    "SchedulePlan",
    "TrainingPlan",
    "evaluate",
    "info",
    "plan_for",
    "predict",
    "train",
]

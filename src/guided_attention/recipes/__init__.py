"""Recipes: a plan as one frozen record, and the functions that carry it out."""

from guided_attention.recipes._folds import Fold
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
from guided_attention.recipes.finalizing import finalize
from guided_attention.recipes.folds import train_folds
from guided_attention.recipes.information import info
from guided_attention.recipes.plan import Plan
from guided_attention.recipes.planning import plan_for
from guided_attention.recipes.prediction import predict, predict_shard
from guided_attention.recipes.scoring import evaluate
from guided_attention.recipes.training import train
from guided_attention.recipes.values import check_values

__all__ = [
    "AugmentationPlan",
    "BudgetPlan",
    "DataPlan",
    "Fold",
    "InferencePlan",
    "LossPlan",
    "OptimizerPlan",
    "Plan",
    "SamplingPlan",
    "SchedulePlan",
    "TrainingPlan",
    "check_values",
    "evaluate",
    "finalize",
    "info",
    "plan_for",
    "predict",
    "predict_shard",
    "train",
    "train_folds",
]

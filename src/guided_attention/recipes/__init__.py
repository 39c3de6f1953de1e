"""Recipes: a plan as one frozen record, and the functions that carry it out."""

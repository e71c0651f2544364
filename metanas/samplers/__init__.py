"""Searches of other libraries as controllers: Optuna's samplers."""

from metanas.samplers.optuna_search import OptunaSearch as OptunaSearch

"""Scores of DD-Ranking: what a set is worth beyond its labels and beyond its augmentation.

Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", arXiv 2505.13300; the
formulas are those of its package, version 0.2.0. Accuracies and gains are shares, scores too.
"""

from __future__ import annotations

import math

BALANCE = 0.5  # lambda of both scores in DD-Ranking


def label_robust_score(
    improvement_over_random: float, hard_label_recovery: float, balance: float = BALANCE
) -> float:
    """sigma(lambda IOR - (1 - lambda) HLR): 1 at its best, where a set beats random real images by
    everything (IOR = acc_soft - acc_random,soft) and loses nothing to the full data with hard
    labels (HLR = acc_full,hard - acc_hard).
    """
    return _scaled(balance * improvement_over_random - (1 - balance) * hard_label_recovery)


def augmentation_robust_score(
    gain_with: float, gain_without: float, balance: float = BALANCE
) -> float:
    """sigma(lambda g + (1 - lambda) g'): g and g' are the gains over random real images with and
    without augmentation of the students' images.
    """
    return _scaled(balance * gain_with + (1 - balance) * gain_without)


def _scaled(value: float) -> float:
    """sigma(x) = (e^x - e^-1) / (e - e^-1), from [-1, 1] to [0, 1]."""
    return (math.exp(value) - math.exp(-1)) / (math.exp(1) - math.exp(-1))

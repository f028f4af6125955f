"""The zoo's names; naming them loads nothing."""

NEURAL = ("dcn_v2", "deepfm", "dlrm", "fm", "logistic", "masknet", "two_tower")
"""Modules that Lightning fits."""
TREES = "lightgbm"
"""Gradient-boosted trees, fitted outside Lightning under the same evaluation."""
MODELS = (*NEURAL, TREES)

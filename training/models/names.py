"""The zoo's names; naming them loads nothing."""

TWO_TOWER = "two_tower"
"""The one that retrieves items beside scoring rows."""
NEURAL = ("dcn_v2", "deepfm", "dlrm", "fm", "logistic", "masknet", TWO_TOWER)
"""Modules that Lightning fits."""
TREES = "lightgbm"
"""Gradient-boosted trees, fitted outside Lightning under the same evaluation."""
MODELS = (*NEURAL, TREES)

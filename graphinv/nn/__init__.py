"""Networks on padded graphs: building blocks and the score networks of GDSS."""

from graphinv.nn.attention import AttentionLayer, DenseGCNConv
from graphinv.nn.embed import MLP
from graphinv.nn.score import ScoreNetworkA, ScoreNetworkX, ScoreNetworkX_GMH

__all__ = [
    "MLP",
    "AttentionLayer",
    "DenseGCNConv",
    "ScoreNetworkA",
    "ScoreNetworkX",
    "ScoreNetworkX_GMH",
]

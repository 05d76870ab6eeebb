"""Networks on padded graphs: building blocks and the score networks of GDSS."""

from graphinv.nn.attention import AttentionLayer, DenseGCNConv
from graphinv.nn.embed import MLP
from graphinv.nn.score import ScoreNetworkA, ScoreNetworkX, ScoreNetworkX_GMH
from graphinv.nn.timed import JointScoreNetwork, TimedNetwork

__all__ = [
    "MLP",
    "AttentionLayer",
    "DenseGCNConv",
    "JointScoreNetwork",
    "ScoreNetworkA",
    "ScoreNetworkX",
    "ScoreNetworkX_GMH",
    "TimedNetwork",
]

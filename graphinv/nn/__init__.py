"""Networks: the score networks of GDSS and one of PARD's layers on padded graphs, an encoder of packed ones."""

from graphinv.nn.attention import AttentionLayer, DenseGCNConv
from graphinv.nn.embed import MLP
from graphinv.nn.encoder import GraphEncoder
from graphinv.nn.joint import JointScoreNetwork
from graphinv.nn.score import ScoreNetworkA, ScoreNetworkX, ScoreNetworkX_GMH

__all__ = [
    "MLP",
    "AttentionLayer",
    "DenseGCNConv",
    "GraphEncoder",
    "JointScoreNetwork",
    "ScoreNetworkA",
    "ScoreNetworkX",
    "ScoreNetworkX_GMH",
]

"""Networks on padded graphs: building blocks and the score networks of GDSS, and one of PARD's layers.

The encoder of packed graphs is in ``graphinv.nn.encoder``: it needs PyTorch Geometric, which these do not.
"""

from graphinv.nn.attention import AttentionLayer, DenseGCNConv
from graphinv.nn.embed import MLP
from graphinv.nn.joint import JointScoreNetwork
from graphinv.nn.score import ScoreNetworkA, ScoreNetworkX, ScoreNetworkX_GMH

__all__ = [
    "MLP",
    "AttentionLayer",
    "DenseGCNConv",
    "JointScoreNetwork",
    "ScoreNetworkA",
    "ScoreNetworkX",
    "ScoreNetworkX_GMH",
]

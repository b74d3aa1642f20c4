"""The kinds of layers that the suite takes from PyTorch to Flax and back; `test_layouts` tests every row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerRow:
    """One kind of layer, or of layers together.

    Attributes:
        kind: what the test of it is called.
        torch: the classes of PyTorch that its network has.
        flax: the classes of flax.linen that its module has.
        is_unique: whether the weights are the same bits after a way there and back.
    """

    kind: str
    torch: tuple[str, ...]
    flax: tuple[str, ...]
    is_unique: bool = True


LAYERS = (
    LayerRow("Linear", ("Linear",), ("Dense",)),
    LayerRow("Bilinear", ("Bilinear",), ("Bilinear",)),
    LayerRow("Conv1d", ("Conv1d",), ("Conv",)),
    LayerRow("Conv2d", ("Conv2d",), ("Conv",)),
    LayerRow("Conv3d", ("Conv3d",), ("Conv",)),
    LayerRow("ConvTranspose1d", ("ConvTranspose1d",), ("ConvTranspose",)),
    LayerRow("ConvTranspose2d", ("ConvTranspose2d",), ("ConvTranspose",)),
    LayerRow("ConvTranspose3d", ("ConvTranspose3d",), ("ConvTranspose",)),
    LayerRow("LayerNorm", ("LayerNorm",), ("LayerNorm",)),
    LayerRow("GroupNorm", ("GroupNorm",), ("GroupNorm",)),
    LayerRow("RMSNorm", ("RMSNorm",), ("RMSNorm",)),
    LayerRow("BatchNorm", ("BatchNorm1d",), ("BatchNorm",)),
    LayerRow("Embedding", ("Embedding",), ("Embed",)),
    LayerRow("MultiheadAttention", ("MultiheadAttention",), ("MultiHeadDotProductAttention",)),
    LayerRow("GRU", ("GRU",), ("GRUCell",), is_unique=False),
    LayerRow("LSTM", ("LSTM",), ("OptimizedLSTMCell",), is_unique=False),
    LayerRow("RNN", ("RNN",), ("SimpleCell",), is_unique=False),
    LayerRow("PReLU", ("PReLU",), ("PReLU",)),
    LayerRow("depthwise convolution", ("Conv2d",), ("Conv",)),
    LayerRow("dilated convolution", ("Conv2d",), ("Conv",)),
    LayerRow("GRU of two layers", ("GRU",), ("GRUCell",), is_unique=False),
    LayerRow("LSTM of three layers", ("LSTM",), ("LSTMCell",), is_unique=False),
    LayerRow("flatten between convolutions and dense layers", ("Conv2d", "Flatten", "Linear"), ("Conv", "Dense")),
    LayerRow("actor and critic on one trunk", ("Linear",), ("actor", "critic", "trunk")),
)

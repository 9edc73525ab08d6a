"""The ONNX graph of a decoder: one page from token ids to logits, around the grid's integers.

Contrib operators of onnxruntime do the work: GroupQueryAttention with rotary inside,
SkipSimplifiedLayerNormalization, MatMulNBits, GatherBlockQuantized. Input and output names are
those that onnxruntime-genai expects.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from ondevice.export.architecture import FINAL_NORM, Architecture, layer_tensor
from ondevice.export.external_data import ExternalData
from ondevice.export.journal import Journal
from ondevice.export.matrices import Matrices
from ondevice.export.nodes import CONTRIB, Nodes, graph_input
from ondevice.export.onnx_attention import Attention, check_attention
from ondevice.export.onnx_matmul import Projections
from ondevice.export.recipe import Quantizer
from ondevice.package import ONNX_MODEL
from ondevice.progress import Progress

DATA_FILE = "model.onnx.data"


def write_graph(
    quantizer: Quantizer, folder: Path, journal: Journal, progress: Progress | None = None
) -> None:
    """Write `model.onnx` and `model.onnx.data`, quantizing some rows at a time.

    Matrices that `journal` holds are taken from the data file that is there; those written are
    noted in it. Raises `ExportError` for a shape that an operator cannot hold.
    """
    check_attention(quantizer.source.architecture)
    with ExternalData(folder / DATA_FILE) as weights:
        matrices = Matrices(quantizer, weights)
        ir.save(_Decoder(quantizer, weights, matrices).model(), folder / ONNX_MODEL)
        matrices.fill(journal, progress)


class _Decoder:
    """Emits the layers of one decoder."""

    def __init__(self, quantizer: Quantizer, weights: ExternalData, matrices: Matrices) -> None:
        self._arch: Architecture = quantizer.source.architecture
        self._fine_attention = quantizer.target.fine_attention
        self._nodes = Nodes()
        self._projections = Projections(self._nodes, quantizer, weights, matrices)
        self._attention = Attention(self._nodes, self._arch, weights)

    def model(self) -> ir.Model:
        arch, nodes = self._arch, self._nodes
        input_ids = graph_input("input_ids", ir.DataType.INT64, "batch", "sequence")
        mask = graph_input("attention_mask", ir.DataType.INT64, "batch", "total_sequence")
        num_logits = nodes.integers("num_logits", 1)
        past = [self._attention.past(layer) for layer in range(arch.layers)]

        self._attention.begin(mask, input_ids)
        last = nodes.op("Neg", num_logits)
        hidden = self._embed(input_ids)
        normed = self._norm(hidden, layer_tensor(0, "input_layernorm.weight"))
        for layer in range(arch.layers):
            attention = self._attend(layer, normed, past[layer])
            if layer == arch.layers - 1:
                # Only these positions reach the logits: skip the last MLP of all others.
                attention, hidden = nodes.last(last, attention), nodes.last(last, hidden)
            normed, hidden = self._rest_of_layer(layer, attention, hidden)
        logits = self._soft_cap(self._projections.head(normed))
        nodes.output(logits, "logits", "batch", 1, arch.vocab_size)
        nodes.output(normed, "hidden_states", "batch", "num_logits", arch.hidden_size)
        inputs = [input_ids, mask, *(value for pair in past for value in pair), num_logits]
        return nodes.model(inputs, arch.name)

    def _embed(self, input_ids: ir.Value) -> ir.Value:
        hidden = self._projections.embed(input_ids)
        scale = self._arch.embedding_scale
        if scale == 1:
            return hidden
        return self._nodes.op("Mul", hidden, self._nodes.scalar("embedding_scale", scale))

    def _attend(self, layer: int, normed: ir.Value, past: tuple[ir.Value, ir.Value]) -> ir.Value:
        arch = self._arch
        projected = [
            self._projections.linear(
                layer_tensor(layer, f"self_attn.{part}_proj"), normed, fine=self._fine_attention
            )
            for part in "qkv"
        ]
        if arch.qk_norm:
            projected[0] = self._norm_heads(layer, "q", projected[0], arch.heads)
            projected[1] = self._norm_heads(layer, "k", projected[1], arch.kv_heads)
        return self._attention.attend(layer, projected, past)

    def _norm_heads(self, layer: int, part: str, values: ir.Value, heads: int) -> ir.Value:
        """Norm each head of queries or keys (batch, sequence, heads * head_dim) by itself."""
        nodes, width = self._nodes, self._arch.head_dim
        apart = nodes.integers(f"heads_of_{width}", 0, 0, -1, width)
        normed = self._norm(
            nodes.op("Reshape", values, apart),
            layer_tensor(layer, f"self_attn.{part}_norm.weight"),
        )
        together = nodes.integers(f"rows_of_{heads * width}", 0, 0, heads * width)
        return nodes.op("Reshape", normed, together)

    def _rest_of_layer(
        self, layer: int, attention: ir.Value, hidden: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """From attention and the residual to those of the next layer: its normed input, the sum."""
        arch = self._arch
        update = self._projections.linear(
            layer_tensor(layer, "self_attn.o_proj"), attention, fine=self._fine_attention
        )
        update = self._post_norm(update, layer, "post_attention_layernorm")
        name = layer_tensor(layer, f"{arch.mlp_norm}.weight")
        normed, hidden = self._add_norm(update, hidden, name)
        update = self._post_norm(self._mlp(layer, normed), layer, "post_feedforward_layernorm")
        is_last = layer == arch.layers - 1
        following = FINAL_NORM if is_last else layer_tensor(layer + 1, "input_layernorm.weight")
        return self._add_norm(update, hidden, following)

    def _mlp(self, layer: int, normed: ir.Value) -> ir.Value:
        gate = self._projections.linear(layer_tensor(layer, "mlp.gate_proj"), normed)
        up = self._projections.linear(layer_tensor(layer, "mlp.up_proj"), normed)
        if self._arch.activation == "silu":
            activated = self._nodes.op("Mul", gate, self._nodes.op("Sigmoid", gate))
        else:
            activated = self._nodes.op("Gelu", gate, approximate="tanh")
        gated = self._nodes.op("Mul", activated, up)
        return self._projections.linear(layer_tensor(layer, "mlp.down_proj"), gated)

    def _post_norm(self, update: ir.Value, layer: int, name: str) -> ir.Value:
        if not self._arch.post_norms:
            return update
        return self._norm(update, layer_tensor(layer, f"{name}.weight"))

    def _norm(self, hidden: ir.Value, weight: str) -> ir.Value:
        return self._nodes.op(
            "SimplifiedLayerNormalization",
            hidden,
            self._projections.vector(weight),
            axis=-1,
            epsilon=self._arch.norm_eps,
            stash_type=1,
        )

    def _add_norm(
        self, update: ir.Value, hidden: ir.Value, weight: str
    ) -> tuple[ir.Value, ir.Value]:
        """The residual sum's norm, and the sum itself."""
        outputs = self._nodes.several(
            "SkipSimplifiedLayerNormalization",
            [update, hidden, self._projections.vector(weight)],
            {"epsilon": self._arch.norm_eps},
            4,
            CONTRIB,
        )
        outputs[1].name = outputs[2].name = ""
        return outputs[0], outputs[3]

    def _soft_cap(self, logits: ir.Value) -> ir.Value:
        if not self._arch.logit_softcap:
            return logits
        nodes = self._nodes
        cap = nodes.scalar("logit_softcap", self._arch.logit_softcap)
        return nodes.op("Mul", nodes.op("Tanh", nodes.op("Div", logits, cap)), cap)

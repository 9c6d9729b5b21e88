"""The decoder's weights as a model of transformers, so that its `generate` writes what the decoder writes: the yardstick of benchmarks/generate.py."""

# Shape legend:  B rows, L tokens given, T tokens written so far, H heads, D width, V outputs, M copyable tokens

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig, GenerationMixin, LogitsProcessor, LogitsProcessorList, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
from transformers.utils import logging

from encoder.model.decoder import END, Decoder, Task
from encoder.model.decoder_state import DecoderState
from encoder.model.reader import MATCHED, matched_before
from encoder.model.source import Source
from encoder.syntax import Forbid

# It warns of a padding that is also the end: after the end nothing is read.
logging.set_verbosity_error()


class TransformersDecoder(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # untyped
    """A causal language model over the outputs of one task, which is given what it reads as `memory`.

    Its vocabulary is the task's outputs and, as the last, the token that begins: the prefix. What is read once per source (keys and values of the
    cross-attention, keys of the copies) is read outside and given to every call, as `encoder_outputs` would be.
    """

    config_class = PretrainedConfig

    def __init__(self, decoder: Decoder, task: Task) -> None:
        outputs = decoder.config.vocabulary(task) + 1
        config = PretrainedConfig(
            vocab_size=outputs + 1,
            hidden_size=decoder.config.width,
            num_hidden_layers=decoder.config.layers,
            num_attention_heads=decoder.config.heads,
            bos_token_id=outputs,
            eos_token_id=END,
            pad_token_id=END,
        )
        super().__init__(config)
        self.decoder, self.task, self.begin = decoder, task, outputs
        self.generation_config = GenerationConfig.from_model_config(config)
        self.eval()

    def read(self, source: Source) -> DecoderState:
        """What `memory` shall be for this one item."""
        return self.decoder.start(self.task, source)

    def prepare_inputs_for_generation(self, input_ids: Tensor, past_key_values: Cache | None = None, **kwargs: Any) -> dict[str, Any]:
        """The last token alone where those before it are in the cache; all tokens as history, of which copies look at the last few."""
        known = past_key_values.get_seq_length() if past_key_values is not None else 0
        return {
            "input_ids": input_ids[:, known:],
            "past_key_values": past_key_values,
            "history": input_ids,
            "memory": kwargs["memory"],
            "use_cache": kwargs.get("use_cache", True),
        }

    def forward(
        self,
        input_ids: Tensor,
        memory: DecoderState,
        history: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool = True,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Log-probabilities (B, L, V) as logits."""
        decoder, history = self.decoder, input_ids if history is None else history
        past = past_key_values if past_key_values is not None else DynamicCache() if use_cache else None
        rows, given, before = *input_ids.shape, 0 if past is None else past.get_seq_length()
        embedded_BLD = F.embedding(input_ids.clamp_max(self.begin - 1), memory.outputs_VD) * decoder.config.width**0.5
        hidden_BLD = torch.where((input_ids == self.begin)[:, :, None], memory.first_BD[:, None], embedded_BLD)
        rotation = self._rotation(before, given)
        key_BHSD, value_BHSD = (part.expand(rows, -1, -1, -1) for part in memory.cross)
        layers: Any = decoder.layers
        for index, layer in enumerate(layers):
            query, key, value = (self._heads(part) for part in layer.self_in(layer.self_norm(hidden_BLD)).chunk(3, dim=2))
            query, key = apply_rotary_pos_emb(query, key, *rotation)
            if past is not None:
                key, value = past.update(key, value, index)
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=given > 1)
            hidden_BLD = hidden_BLD + layer.self_out(attended.transpose(1, 2).flatten(2))
            query = self._heads(layer.cross_query(layer.cross_norm(hidden_BLD)))
            read = F.scaled_dot_product_attention(query, key_BHSD, value_BHSD, attn_mask=memory.bias_B11S)
            hidden_BLD = hidden_BLD + layer.cross_out(read.transpose(1, 2).flatten(2))
            gate, content = layer.feed_in(layer.feed_norm(hidden_BLD)).chunk(2, dim=2)
            hidden_BLD = hidden_BLD + layer.feed_out(F.gelu(gate) * content)
        logits_BLV = self._with_copies(decoder.norm(hidden_BLD), history, memory)
        return CausalLMOutputWithPast(logits=logits_BLV, past_key_values=past)

    def _with_copies(self, hidden_BLD: Tensor, history_BT: Tensor, memory: DecoderState) -> Tensor:
        logits_BLV = hidden_BLD @ memory.outputs_VD.T
        copied_BM = memory.source.copied_BM
        # The token that begins is never written.
        never_BL1 = logits_BLV.new_full((*logits_BLV.shape[:2], 1), -torch.inf)
        if copied_BM.shape[1] == 0:
            return torch.cat([logits_BLV.log_softmax(dim=2), never_BL1], dim=2)
        given = hidden_BLD.shape[1]
        padded_BT = F.pad(history_BT.masked_fill(history_BT == self.begin, END), (MATCHED - 1, 0))
        last_BLP = padded_BT.unfold(1, MATCHED, 1)[:, -given:].flip(2)
        copies_BLM = self.decoder.copy_query(hidden_BLD) @ memory.copy_keys_BDM
        copies_BLM = copies_BLM + self.decoder.match(hidden_BLD) * matched_before(last_BLP, memory.before_PB1M)
        copies_BLM = copies_BLM.masked_fill(memory.uncopyable_B1M, torch.finfo(copies_BLM.dtype).min / 2)
        outputs = logits_BLV.shape[2]
        both_BLX = torch.cat([logits_BLV, copies_BLM], dim=2).softmax(dim=2)
        copied_BLM = both_BLX[:, :, outputs:]
        own_BLV = both_BLX[:, :, :outputs].scatter_add(2, copied_BM[:, None].expand_as(copied_BLM), copied_BLM)
        return torch.cat([own_BLV.clamp_min(torch.finfo(own_BLV.dtype).tiny).log(), never_BL1], dim=2)

    def _heads(self, hidden_BLD: Tensor) -> Tensor:
        return hidden_BLD.view(*hidden_BLD.shape[:2], self.decoder.config.heads, -1).transpose(1, 2)

    def _rotation(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        width = self.decoder.config.width // self.decoder.config.heads
        frequency_D = 10_000.0 ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
        angle_LD = (torch.arange(first, first + count, dtype=torch.float32)[:, None] * frequency_D).repeat(1, 2)
        return angle_LD.cos()[None], angle_LD.sin()[None]


class _Forbidding(LogitsProcessor):  # type: ignore[misc]  # untyped
    """What may not be written next, for `generate`."""

    def __init__(self, forbid: Forbid) -> None:
        self._forbid = forbid

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forbidden_BV = self._forbid(input_ids[None, :, 1:])[0]
        return scores.masked_fill(F.pad(forbidden_BV, (0, 1)), -torch.inf)


def write(
    model: TransformersDecoder, memory: DecoderState, longest: int, forbid: Forbid | None, rows: int = 1, **how: Any
) -> list[list[int]]:
    """Sequences of outputs that `generate` writes; `how` says how it chooses, as `generate` has it (`do_sample`, `temperature`, `top_p`)."""
    processors = LogitsProcessorList([] if forbid is None else [_Forbidding(forbid)])
    begun = torch.full((rows, 1), model.begin)
    written = model.generate(
        begun,
        memory=memory,
        max_new_tokens=longest + 1,
        begin_suppress_tokens=[END],
        logits_processor=processors,
        **how,
    )
    return [row[1:] for row in written.tolist()]

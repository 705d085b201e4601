"""Networks of the ``transformers`` package with tiny random weights and groups known by hand."""

import transformers as hf
from torch import Tensor, nn

from tests.zoo.network import Network, noise, tokens

VOCABULARY = 11


class Wrapped(nn.Module):
    """A model that takes one tensor and returns one."""

    def __init__(self, model: nn.Module, output: str = "logits", **options):
        super().__init__()
        self.model, self.output, self.options = model, output, options

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self.model(x, **self.options), self.output)


class EncoderDecoder(nn.Module):
    """A model that reads one sequence and continues another."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        return self.model(x, decoder_input_ids=ids, use_cache=False).logits


def gpt2() -> nn.Module:
    sizes = {"n_positions": 8, "n_embd": 12, "n_head": 3, "n_layer": 2, "n_inner": 10}
    config = hf.GPT2Config(vocab_size=VOCABULARY, bos_token_id=0, eos_token_id=0, **sizes)
    return Wrapped(hf.GPT2LMHeadModel(config), use_cache=False)


def bert(kind: str) -> nn.Module:
    config = hf.BertConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=8,
        hidden_size=12,
        num_attention_heads=3,
        num_hidden_layers=2,
        intermediate_size=10,
    )
    return Wrapped(getattr(hf, kind)(config))


def vit() -> nn.Module:
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 10}
    return Wrapped(hf.ViTForImageClassification(hf.ViTConfig(image_size=8, patch_size=4, num_labels=3, **sizes)))


def clip() -> nn.Module:
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 2, "intermediate_size": 10}
    ids = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 10, "pad_token_id": 1}
    config = hf.CLIPTextConfig(projection_dim=5, max_position_embeddings=8, **sizes, **ids)
    return Wrapped(hf.CLIPTextModelWithProjection(config), "text_embeds")


def swin() -> nn.Module:
    sizes = {"embed_dim": 12, "depths": [2, 1], "num_heads": [3, 2], "mlp_ratio": 1.5}
    config = hf.SwinConfig(image_size=16, patch_size=2, num_channels=1, window_size=4, num_labels=3, **sizes)
    return Wrapped(hf.SwinForImageClassification(config))


def grouped_query(family: str) -> nn.Module:
    """Decoder of a family with six query heads on two heads of keys and values."""
    config = getattr(hf, f"{family}Config")(
        vocab_size=VOCABULARY,
        hidden_size=12,
        intermediate_size=7,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=4,
        sliding_window=3,
        max_position_embeddings=8,
    )
    return Wrapped(getattr(hf, f"{family}ForCausalLM")(config), use_cache=False)


def bloom() -> nn.Module:
    return Wrapped(
        hf.BloomForCausalLM(hf.BloomConfig(vocab_size=VOCABULARY, hidden_size=12, n_layer=2, n_head=3)), use_cache=False
    )


def neox() -> nn.Module:
    config = hf.GPTNeoXConfig(
        vocab_size=VOCABULARY,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=10,
        max_position_embeddings=8,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    )
    return Wrapped(hf.GPTNeoXForCausalLM(config), use_cache=False)


def t5() -> nn.Module:
    config = hf.T5Config(
        vocab_size=VOCABULARY, d_model=10, d_kv=4, d_ff=7, num_layers=2, num_heads=3, relative_attention_num_buckets=8
    )
    return EncoderDecoder(hf.T5ForConditionalGeneration(config))


def whisper() -> nn.Module:
    config = hf.WhisperConfig(
        vocab_size=VOCABULARY,
        num_mel_bins=5,
        d_model=12,
        encoder_layers=1,
        encoder_attention_heads=3,
        encoder_ffn_dim=7,
        decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=8,
        max_source_positions=4,
        max_target_positions=8,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return EncoderDecoder(hf.WhisperForConditionalGeneration(config))


IDS = tokens((2, 5), vocabulary=VOCABULARY)
# One stream; in each of two layers heads, coordinates of queries with keys and of values with outputs, hidden units.
TWO_LAYERS = {(12,): 1, (3,): 2, (4, 3): 4, (10,): 2}
# One stream; in each of two layers heads of keys and values, three query heads on each, coordinates of values inside
# each, gated hidden units. Rotary embeddings keep coordinates of queries and keys in place.
GROUPED_QUERY = {(12,): 1, (2,): 2, (3, 2): 2, (4, 2): 2, (7,): 2}
TRANSFORMERS = [
    Network("gpt2", gpt2, IDS, TWO_LAYERS, 9),
    # The transform before the logits returns to the stream, since its output meets the tied embeddings.
    Network("bert for masked words", lambda: bert("BertForMaskedLM"), IDS, TWO_LAYERS, 9),
    # The pooler has units of its own.
    Network("bert for classes", lambda: bert("BertForSequenceClassification"), IDS, {**TWO_LAYERS, (12,): 2}, 10),
    Network("vit", vit, noise(2, 3, 8, 8), TWO_LAYERS, 9),
    Network("clip text", clip, IDS, TWO_LAYERS, 9),
    # Streams of 12 and 24 channels; two layers of three heads, then one of two; hidden units 18 and 36.
    Network(
        "swin",
        swin,
        noise(2, 1, 16, 16),
        {(12,): 1, (3,): 2, (4, 3): 4, (18,): 2, (24,): 1, (2,): 1, (12, 2): 2, (36,): 1},
        14,
    ),
    *(
        Network(family.lower(), lambda family=family: grouped_query(family), IDS, GROUPED_QUERY, 9)
        for family in ("Llama", "Mistral", "Qwen3", "Gemma")
    ),
    # Linear biases of attention tell heads apart, so only coordinates inside each of them move.
    Network("bloom", bloom, IDS, {(12,): 1, (4, 3): 4, (48,): 2}, 7),
    # Half of the eight coordinates of queries and keys are rotated, the other half move.
    Network("gpt neox", neox, IDS, {(24,): 1, (3,): 2, (4, 3): 2, (8, 3): 2, (10,): 2}, 9),
    # Tied embeddings make one stream. Position biases are shared by all layers of a stack, and so are its heads of
    # attention to itself: one group in the encoder, one in the decoder; heads of attention to the encoder are free.
    # Coordinates: twice for each of two plus four attentions. Hidden units: one group for each of four layers.
    Network(
        "t5",
        t5,
        tokens((2, 6), (2, 5), vocabulary=VOCABULARY),
        {(10,): 1, (3,): 1 + 1 + 2, (4, 3): 12, (7,): 4},
        21,
    ),
    # Between the convolutions, two streams; encoder with three heads, decoder with two attentions of two heads.
    Network(
        "whisper",
        whisper,
        lambda: (*noise(2, 5, 8)(), *IDS()),
        {(12,): 3, (3,): 1, (4, 3): 2, (7,): 1, (2,): 2, (6, 2): 4, (8,): 1},
        14,
    ),
]

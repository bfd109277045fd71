"""The vision transformer that insightface trains on faces."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
from flax import nnx

from sphax._checks import check_sizes
from sphax.networks._backbone import check_images
from sphax.networks._layers import TORCH_INIT, BatchNorm, torch_bias_init

# As the authors' truncation at 2, which is a hundred deviations away.
_INIT = nnx.initializers.normal(0.02)


class VisionTransformer(nnx.Module):
    r"""Vision transformer from images to embeddings, as insightface has it for faces.

    The image is cut into square patches, rows and columns that are left over at the
    end being dropped. Each patch becomes a token, to which a learned position is added.
    Blocks of attention and of two dense layers follow, each with layer normalization
    before it and a shortcut around it. At the end all tokens, not their mean and not a
    class token, go through a linear layer, batch normalization, a linear layer, and
    batch normalization.

    In training, a share of the tokens is left out of all blocks, and a learned vector
    takes their places at the end; and a branch of a block is left out for some of the
    images (stochastic depth), with a probability that grows linearly from 0 in the
    first block to ``drop_path_rate`` in the last. Both draw from a key that the network
    holds as state: keep it with the batch statistics from step to step.

    Modes are those of :class:`Backbone`: a network is made in training mode,
    ``network.eval()`` and ``network.train()`` switch, and ``use_running_average`` of a
    call overrides both.

    The published sizes are in ``sx.networks.VISION_TRANSFORMERS``: ``"vit_t"``,
    ``"vit_s"`` and ``"vit_b"``, for faces of 112 x 112. Take one by
    ``VisionTransformer(*VISION_TRANSFORMERS["vit_s"], rngs=rngs)``.

    Args:
        input_shape: ``(height, width, channels)`` of an image.
        width: Dimension of a token, a multiple of ``num_heads``.
        depth: Number of blocks.
        features: Dimension of the embedding.
        patch: Side of a patch.
        num_heads: Heads of the attention.
        drop_path_rate: Probability of leaving out a branch of the last block, in
            ``[0, 1)``.
        mask_rate: Share of the tokens that are left out in training, in ``[0, 1)``.
        dtype: Of the products in the blocks; by default that of images and parameters
            together. Sums, attention weights, and all that is before and after the
            blocks are float32 at least, and so is the embedding.
        param_dtype: Of the parameters.
        rngs: Key stream; uses ``params`` and ``dropout``.

    Attributes:
        features: Dimension of the embedding.

    Raises:
        TypeError: From a call, if ``images`` is not floating.
        ValueError: If a size is not positive, ``num_heads`` does not divide ``width``,
            ``patch`` is larger than the image, or a rate is out of range; from a call,
            if ``images`` does not end in ``input_shape``.

    Example:
        >>> network = sx.networks.VisionTransformer(
        ...     (7, 7, 1), 8, 2, 4, patch=3, num_heads=2, rngs=nnx.Rngs(0)
        ... )
        >>> network(jnp.zeros((5, 7, 7, 1))).shape
        (5, 4)

    References:
        Dosovitskiy et al., `An Image is Worth 16x16 Words
        <https://arxiv.org/abs/2010.11929>`_, ICLR 2021; An et al., `Killing Two Birds
        with One Stone <https://arxiv.org/abs/2203.15565>`_, CVPR 2022, and
        insightface's ``arcface_torch``.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        width: int,
        depth: int,
        features: int,
        *,
        patch: int = 9,
        num_heads: int = 8,
        drop_path_rate: float = 0.1,
        mask_rate: float = 0.1,
        dtype: jax.typing.DTypeLike | None = None,
        param_dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        name = "VisionTransformer"
        if len(input_shape) != 3:
            raise ValueError(
                f"{name}: input_shape must be (height, width, channels), got"
                f" {tuple(input_shape)}; a batch has no place in it."
            )
        check_sizes(name, width=width, depth=depth, features=features)
        check_sizes(name, patch=patch, num_heads=num_heads)
        if width % num_heads:
            raise ValueError(
                f"{name}: width must be a multiple of num_heads, got {width} and"
                f" {num_heads}."
            )
        for rate_name, rate in (("drop_path", drop_path_rate), ("mask", mask_rate)):
            if not 0.0 <= rate < 1.0:
                raise ValueError(
                    f"{name}: {rate_name}_rate must be in [0, 1), got {rate!r}."
                )
        height, breadth, channels = input_shape
        if patch > min(height, breadth):
            raise ValueError(
                f"{name}: patch must be at most the sides of the image, got {patch} and"
                f" {height} x {breadth}."
            )
        tokens = (height // patch) * (breadth // patch)
        self.input_shape = (height, breadth, channels)
        self.features = features
        self.kept = max(1, int(tokens * (1.0 - mask_rate)))
        self.deterministic = False  # what model.eval() sets
        self.rngs = nnx.data(rngs.dropout.fork() if mask_rate else None)
        self.patches = nnx.Conv(
            channels,
            width,
            (patch, patch),
            strides=patch,
            padding="VALID",
            kernel_init=TORCH_INIT,
            bias_init=torch_bias_init(patch * patch * channels),
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.positions = nnx.Param(_INIT(rngs.params(), (tokens, width), param_dtype))
        self.mask_token = nnx.Param(_INIT(rngs.params(), (width,), param_dtype))
        self.blocks = nnx.List(
            _Block(
                width,
                num_heads,
                drop_path_rate * i / max(depth - 1, 1),
                dtype,
                param_dtype,
                rngs,
            )
            for i in range(depth)
        )
        self.norm = _layer_norm(width, param_dtype, rngs)
        sizes = (tokens * width, width), (width, features)
        self.linear_1, self.linear_2 = (
            nnx.Linear(
                *pair,
                use_bias=False,
                kernel_init=_INIT,
                param_dtype=param_dtype,
                rngs=rngs,
            )
            for pair in sizes
        )
        self.norm_1, self.norm_2 = (
            BatchNorm(size, epsilon=2e-5, param_dtype=param_dtype, rngs=rngs)
            for _, size in sizes
        )

    def __call__(
        self, images: jax.typing.ArrayLike, *, use_running_average: bool | None = None
    ) -> jax.Array:
        """Maps images ``[..., height, width, channels]`` to ``[..., features]``.

        Args:
            images: Floating. Training statistics are over all of the leading axes.
            use_running_average: Whether batch normalization uses the running
                statistics and nothing is left out, for this call.
        """
        x = jnp.asarray(images)
        check_images(x, self.input_shape)
        is_eval = self.deterministic
        if use_running_average is not None:
            is_eval = use_running_average
        x = self.patches(x.astype(jnp.promote_types(x.dtype, jnp.float32)))
        x = x.reshape(*x.shape[:-3], -1, x.shape[-1])
        x = x + _over(self.positions, x)
        is_kept = None
        if self.rngs is not None and not is_eval:
            # A token that no other attends to might as well not be there.
            noise = jax.random.uniform(
                self.rngs(), x.shape[:-1], out_sharding=_sharding(x[..., 0])
            )
            last = jnp.sort(noise)[..., self.kept - 1 : self.kept]
            is_kept = noise <= last
        for block in self.blocks:
            x = block(x, is_kept, is_eval)
        x = self.norm(x)
        if is_kept is not None:
            x = jnp.where(is_kept[..., None], x, _over(self.mask_token, x))
        x = self.linear_1(x.reshape(*x.shape[:-2], -1))
        x = self.linear_2(self.norm_1(x, use_running_average))
        return self.norm_2(x, use_running_average)


class _Block(nnx.Module):
    """Attention and two dense layers, each behind a normalization and a shortcut."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        drop_path_rate: float,
        dtype: jax.typing.DTypeLike | None,
        param_dtype: jax.typing.DTypeLike,
        rngs: nnx.Rngs,
    ):
        def linear(size: int, out: int, use_bias: bool = True) -> nnx.Linear:
            return nnx.Linear(
                size,
                out,
                use_bias=use_bias,
                kernel_init=_INIT,
                dtype=dtype,
                param_dtype=param_dtype,
                rngs=rngs,
            )

        self.num_heads = num_heads
        self.norm_1 = _layer_norm(width, param_dtype, rngs)
        self.queries_keys_values = linear(width, 3 * width, use_bias=False)
        self.out = linear(width, width)
        self.norm_2 = _layer_norm(width, param_dtype, rngs)
        self.wide = linear(width, 4 * width)
        self.narrow = linear(4 * width, width)
        self.drop_path = (
            nnx.Dropout(drop_path_rate, broadcast_dims=(-2, -1), rngs=rngs)
            if drop_path_rate
            else None
        )

    def __call__(
        self, x: jax.Array, is_kept: jax.Array | None, is_eval: bool
    ) -> jax.Array:
        x = x + self._dropped(self._attention(self.norm_1(x), is_kept), x, is_eval)
        hidden = nnx.relu6(self.wide(self.norm_2(x)))
        return x + self._dropped(self.narrow(hidden), x, is_eval)

    def _attention(self, x: jax.Array, is_kept: jax.Array | None) -> jax.Array:
        x = self.queries_keys_values(x)
        x = x.reshape(*x.shape[:-1], 3, self.num_heads, -1)
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        q, k, v = x[..., 0, :, :], x[..., 1, :, :], x[..., 2, :, :]
        scores = jnp.einsum("...qhd,...khd->...hqk", q, k) * q.shape[-1] ** -0.5
        if is_kept is not None:
            scores = jnp.where(is_kept[..., None, None, :], scores, -jnp.inf)
        weights = jax.nn.softmax(scores)
        mixed = jnp.einsum("...hqk,...khd->...qhd", weights, v)
        return self.out(mixed.reshape(*mixed.shape[:-2], -1))

    def _dropped(self, branch: jax.Array, x: jax.Array, is_eval: bool) -> jax.Array:
        branch = branch.astype(x.dtype)
        if self.drop_path is None:
            return branch
        return self.drop_path(branch, deterministic=is_eval)


def _layer_norm(
    width: int, param_dtype: jax.typing.DTypeLike, rngs: nnx.Rngs
) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=1e-5, param_dtype=param_dtype, rngs=rngs)


def _over(param: nnx.Param, x: jax.Array) -> jax.Array:
    """A parameter with leading axes of one, as many as it lacks."""
    value = param[...]
    return jnp.expand_dims(value, range(x.ndim - value.ndim))


def _sharding(x: jax.Array) -> jax.sharding.NamedSharding:
    return jax.typeof(x).sharding


VISION_TRANSFORMERS: Mapping[str, tuple[tuple[int, int, int], int, int, int]] = (
    MappingProxyType(
        {
            "vit_t": ((112, 112, 3), 256, 12, 512),
            "vit_s": ((112, 112, 3), 512, 12, 512),
            "vit_b": ((112, 112, 3), 512, 24, 512),
        }
    )
)

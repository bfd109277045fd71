"""Writes the pages of the API reference, one for each package, from its public names.

A name that no group lists stands under "Others", or under "Records":
a new name appears by itself.
"""

import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Mapping

import sphax as sx

# What readers look for, and the names that serve it, in the order of reading.
GROUPS = {
    "sphere": {
        "Lengths and directions": "length normalize direction",
        "Cosines and angles": "cosine_similarity inner_products angle arcsin",
        "Geodesics": "exp_map log_map parallel_transport project_to_tangent retract",
        "Points": "sample_uniform inverse_stereographic angle_to_north_pole",
    },
    "neurons": {
        "Declare where the neurons are": "of NeuronDimensions Declarations Neurons",
        "Find and replace leaves": "find select replace Axes",
        "Kernels and rows": "to_rows from_rows",
    },
    "margins": {
        "Without a margin, and your own": "NoMargin Psi Margin Target",
        "Fixed margins": (
            "SphereFace SphereFaceR CosFace ArcFace Combined LiArcFace Circle"
            " GeneralizedAngular annealing_schedule"
        ),
        "Margins that depend on the image or on training": (
            "CurricularFace AdaFace MagFace ElasticFace"
        ),
        "Changes of the other classes, around any margin": "MVSoftmax InterClassFilter",
        "Logits": "margin_logits",
    },
    "losses": {
        "Softmax with a margin": (
            "margin_softmax margin_softmax_per_example class_logits"
            " check_margin_softmax MarginAux"
        ),
        "Sub-centers": "subcenter_cosines dominant_subcenters angles_to_dominant",
        "Scales": "adacos_fixed_scale adacos_dynamic_scale",
        "Other losses with prototypes": (
            "sphereface2 sphereface2_bias uce uce_bias hinge p2sgrad"
        ),
        "Terms beside a softmax": (
            "center update_centers ring norm_variance uniform_face koleo"
        ),
        "Proxies": "proxy_nca proxy_anchor soft_triple",
        "Pairs, triplets and tuples": (
            "contrastive triplet n_pair margin_loss lifted angular tuplet_margin"
            " multi_similarity circle pair_variance uss uss_bias ge2e PairOptions"
        ),
        "Cross-entropy of pairs": "nt_xent supervised_contrastive dcl",
        "Two towers": "info_nce sigmoid_pairs",
        "Mining": (
            "pair_masks mine_easy_positive mine_multi_similarity distance_log_weights"
            " sample_negatives"
        ),
        "Memory of earlier batches": "init_memory enqueue MemoryBank",
        "Prefixes of embeddings": "matryoshka",
        "Fixed prototypes and regression": (
            "hyperspherical_prototype vmf_likelihood polar_regression polar_values"
        ),
        "Few examples": "prototypical prototypical_logits imprint",
        "Generative models": (
            "negative_elbo importance_weighted_elbo sphere_gan_critic"
            " sphere_gan_generator"
        ),
    },
    "metrics": {
        "Scores of pairs": "pair_scores ScoreCounts subject_weights",
        "Verification": (
            "roc det roc_auc partial_auc equal_error_rate tar_at_far val_at_far"
            " verification_accuracy"
        ),
        "Thresholds and calibration": "threshold_at_far calibrate cllr min_cllr",
        "Identification": "find_mates cmc dir_at_far tpir_at_fpir",
        "Templates and protocols": "pool_templates blufr",
        "Retrieval": (
            "nearest recall_at_k r_precision mean_average_precision"
            " mean_average_precision_at_r mean_reciprocal_rank ndcg"
        ),
        "Intervals": "bootstrap bootstrap_probes",
        "Diagnostics": (
            "class_angles angular_fisher_score angular_visual_hardness certified_radius"
        ),
    },
    "operators": {
        "Convolutions and dense layers": (
            "decoupled_conv decoupled_conv_transpose decoupled_dense patch_norms"
        ),
        "Functions of the length": (
            "Magnitude Sphere Ball Tanh Linear Segmented Log Mix Power"
        ),
        "Functions of the angle": ("Angular Cosine LinearAngle SquareCosine Sigmoid"),
        "Maps that keep lengths": (
            "skew_convolution cayley_convolution cayley_response fourier_convolution"
            " group_sort space_to_depth rotary"
        ),
    },
    "energy": {
        "Energy of directions": (
            "hyperspherical_energy energy_and_grad compressive_energy"
            " random_projections group_projections angle_preserving_projection"
            " adversarial_projection"
        ),
        "Energy of layers": "energy_of_params energy_penalty",
        "Energy of classes": "class_energy inter_class_energy",
        "Reports": "energy_report EnergyReport KernelReport",
        "Other measures of uniformity": (
            "uniformity alignment separation polarization covering"
            " max_gram_determinant resultant_length"
        ),
        "Expectations and bounds": (
            "expected_energy energy_lower_bound closest_angle_bound"
        ),
        "Well-spread points": "minimize_energy separated_prototypes semantic_ranking",
    },
    "orthogonal": {
        "Orthogonal matrices of free ones": (
            "cayley cayley_neumann exponential householder gram_schmidt lowdin"
        ),
        "Polar factors": "polar_factor newton_schulz polish",
        "Steps on the manifold": (
            "project_to_tangent tangent_generator cayley_retraction qr_retraction"
            " polar_retraction"
        ),
        "Nearly orthogonal": "almost_orthogonal almost_orthogonal_kernel",
        "Random matrices": "random_orthogonal",
        "How far from orthogonal": "orthogonality_error orthogonality_penalty",
    },
    "distributions": {
        "Distributions": "SphericalUniform VonMisesFisher PowerSpherical Mixture",
        "Estimates": "fit concentration_of fit_mixture spherical_kmeans",
        "Divergences": "kl_divergence",
    },
    "optim": {
        "Terms beside the loss": (
            "add_energy_gradient add_orthogonality_gradient add_penalty_gradient"
            " decoupled_energy decoupled StatefulPenalty"
        ),
        "Neurons on a sphere": (
            "keep_params_on_sphere project_gradients_to_tangent scale_by_neuron_norm"
            " project_to_norm"
        ),
        "Whole optimizers": (
            "riemannian_sgd riemannian_adam orthogonal_descent pion spectral_sphere"
            " stiefel_muon"
        ),
    },
    "reparam": {
        "Train rotations of all kernels": (
            "orthogonal relaxed_orthogonal stochastic_orthogonal oft boft poet"
            " Reparameterization"
        ),
        "Look, drop, reset": (
            "describe multiplicative_dropout reset_moments rotation_mask"
        ),
        "Adapters": (
            "adapters adapt merge_adapter rotate rotation_matrix BlockRotation"
            " ButterflyRotation Reflections SubspaceRotation"
        ),
        "PEFT's files": "from_peft to_peft",
    },
    "layers": {
        "Heads": "MarginHead CosineLinear DistributionHead",
        "Decoupled and spherical layers": (
            "DecoupledConv DecoupledLinear SphereConv SphereNorm PReLU"
        ),
        "Attention and nGPT": (
            "CosineAttention NormalizedAttention NormalizedMLP NormalizedBlock"
            " LearnedScale AttentionCache"
        ),
        "Orthogonal layers": "OrthogonalLinear OrthogonalConv OPTLinear OPTConv",
        "Layers that lengthen nothing": (
            "SkewConv CayleyConv FourierConv AlmostOrthogonalConv"
            " AlmostOrthogonalLinear GroupSort"
        ),
        "Finetuning": "AdaptedLinear",
        "Kinds of variables": "MarginState Hyperparameter Frozen",
    },
    "networks": {
        "Networks": "Backbone VisionTransformer NGPT generate",
        "Designs": "TABLE_2_1 BACKBONES VISION_TRANSFORMERS Design Stage",
        "Units": "ConvUnit ResidualUnit SphereFaceUnit ImprovedResidualUnit",
        "Last layers": (
            "LinearEmbedding NormalizedEmbedding MeanEmbedding ConvEmbedding"
            " FaceEmbedding"
        ),
    },
    "data": {
        "Batches": "class_balanced_batches hierarchical_batches Batches Epoch",
        "Episodes of few-shot learning": "episodes Episodes Episode",
        "Files of protocols": (
            "read_lfw_pairs read_bin read_blufr read_ijb_images read_ijb_pairs"
            " read_ijb_templates parse_market_names read_integers"
        ),
    },
    "plots": {
        "Margins and features": "psi circle sphere gram",
        "Pairs and error rates": "angles roc det cmc confusion",
        "Neurons": "energy_report orthogonality",
    },
    "convert": {
        "Files": "read write",
        "Networks and heads": (
            "from_insightface to_insightface from_opensphere to_opensphere"
            " from_adaface to_adaface"
        ),
        "Adapters of PEFT": "read_adapters write_adapters",
    },
    "sharding": {
        "Losses of arrays on a mesh": (
            "margin_softmax class_logits pairwise sphereface2 uce hinge p2sgrad"
            " proxy_nca proxy_anchor soft_triple hyperspherical_energy padded_rows"
        ),
        "Sampled classes": "sample_classes SampledClasses sparse_rows apply_rows",
    },
}


# Values have no docstrings of their own.
VALUES = {
    "neurons": {
        "Neurons": """Type of every argument ``neurons=``.

:class:`NeuronDimensions` for all leaves, a mapping from paths to them, what :func:`of`
returned, or a pytree of declarations; :func:`find` has the details.""",
    },
    "networks": {
        "TABLE_2_1": """Designs of the dissertation's Table 2.1, by the data set.

The keys are {keys}; each value is a :class:`Design`. They are those of Liu et al.,
`Large-Margin Softmax Loss <https://arxiv.org/abs/1612.02295>`_, ICML 2016, Table 1.""",
        "BACKBONES": """Designs of further convolutional networks, by name.

The keys are {keys}; each value is a :class:`Design`.""",
        "VISION_TRANSFORMERS": """Sizes of vision transformers for faces, by name.

The keys are {keys}; each value has the positional arguments of
:class:`VisionTransformer`.""",
    },
}


# A module at the top of sphax that is no package is a command: run, and not imported.
MODULES = [each for each in pkgutil.iter_modules(sx.__path__) if each.name[0] != "_"]
PACKAGES = sorted(module.name for module in MODULES if module.ispkg)
COMMANDS = sorted(module.name for module in MODULES if not module.ispkg)


def pages() -> dict[str, str]:
    """The text of every page, by the name of its file."""
    texts = {"index.rst": _overview()}
    texts |= {f"{name}.rst": _heading(name) for name in COMMANDS}
    return texts | {f"{name}.rst": _page(name) for name in PACKAGES}


def groups(package: str) -> dict[str, list[str]]:
    """The public names of a package, under the titles of their groups."""
    found = {title: names.split() for title, names in GROUPS.get(package, {}).items()}
    left = set(dir(getattr(sx, package))).difference(*found.values())
    records = {name for name in left if _is_record(package, name)}
    rest = {"Others": sorted(left - records), "Records": sorted(records)}
    return found | {title: names for title, names in rest.items() if names}


def _is_record(package: str, name: str) -> bool:
    """Whether it is a class that only holds what a function returns."""
    member = getattr(getattr(sx, package), name)
    return inspect.isclass(member) and hasattr(member, "_fields")


def _overview() -> str:
    lines = ["API reference", "=" * 13, ""]
    lines += ["Every public name, package by package. ``import sphax as sx`` gives all"]
    lines += ["packages: ``sx.losses`` is :mod:`sphax.losses`.", ""]
    names = PACKAGES + COMMANDS
    modules = [importlib.import_module(f"sphax.{name}") for name in names]
    lines += _table({f":mod:`{module.__name__}`": module for module in modules})
    lines += [".. toctree::", "   :hidden:", "", *(f"   {name}" for name in names)]
    return "\n".join([*lines, ""])


def _page(package: str) -> str:
    module = f"sphax.{package}"
    lines = [_heading(package), f".. currentmodule:: {module}", ""]
    found = groups(package)
    for title, names in found.items():
        members = {f":py:obj:`{name}`": _member(package, name) for name in names}
        lines += [f".. rubric:: {title}", "", *_table(members)]
    for title, names in found.items():
        lines += [title, "-" * len(title), ""]
        for name in names:
            lines += [*_entry(package, name), ""]
    return "\n".join(lines)


def _heading(name: str) -> str:
    """The start of the page of a module, and all of the page of a command."""
    module = f"sphax.{name}"
    return "\n".join([module, "=" * len(module), "", f".. automodule:: {module}", ""])


def _member(package: str, name: str) -> object:
    """What has the documentation of a name: the thing itself, or a text."""
    member = getattr(getattr(sx, package), name)
    text = VALUES.get(package, {}).get(name)
    if text is None:
        return member
    keys = [f"``{key}``" for key in member] if isinstance(member, Mapping) else []
    return text.format(keys=", ".join(keys))


def _table(members: dict[str, object]) -> list[str]:
    """A table of links and of the first sentences of what they lead to."""
    lines = [".. list-table::", "   :class: names", ""]
    for link, member in members.items():
        text = member if isinstance(member, str) else inspect.getdoc(member) or ""
        lines += [f"   * - {link}", f"     - {text.splitlines()[0]}"]
    return [*lines, ""]


def _entry(package: str, name: str) -> list[str]:
    member = _member(package, name)
    if isinstance(member, str):
        return [f".. py:data:: {name}", "", textwrap.indent(member, "   ")]
    if inspect.isclass(member):
        members = ["   :members:", "   :special-members: __call__"]
        return [f".. autoclass:: {name}", *members]
    return [f".. autofunction:: {name}"]
